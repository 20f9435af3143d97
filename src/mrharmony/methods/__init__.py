"""Harmonization methods: one file a method, one registry of all."""

"""Adversarial unlearning of the site (Dinsdale et al. 2021, NeuroImage 228:117689): features, not images."""

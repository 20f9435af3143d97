"""The work of each command over scans and data sets."""

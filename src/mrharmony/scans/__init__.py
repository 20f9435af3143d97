"""Scans in and out: reading with every check, writing on the native grid, BIDS folders."""

"""Virtual travelling heads: anatomies, MR physics, scanners, and cohorts of them."""

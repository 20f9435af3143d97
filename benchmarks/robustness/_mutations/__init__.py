"""Ways in which files go wrong, for the campaigns and for tests."""

"""How good a result is, with and without a truth; equations and sources are in docs/."""

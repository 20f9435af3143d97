"""A network that predicts how a head would look on reference scanners."""

"""A network that predicts how a head appears on reference scanners."""

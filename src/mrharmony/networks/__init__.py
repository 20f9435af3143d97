"""Neural networks, their training and their checkpoints."""

"""The second simulator: another way from anatomy to intensities, made for judging only."""

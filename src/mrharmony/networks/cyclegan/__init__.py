"""CycleGAN pseudo-scanner standardization: one model a pair of domains (Arai et al. 2021)."""

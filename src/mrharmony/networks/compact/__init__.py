"""The compact latent diffusion model: a brain in a domain, generated from its structure."""

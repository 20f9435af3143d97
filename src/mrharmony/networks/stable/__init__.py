"""Stable Diffusion v1.x: opened from disk, taught domains by DreamBooth, used for image-to-image."""

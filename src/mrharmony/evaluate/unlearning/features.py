"""What unlearning starts from: a scan's coronal slices through the latent model's encoder, pooled."""

from __future__ import annotations

import numpy as np
import torch

from mrharmony.harmonize import CanonicalBrain
from mrharmony.latent import LatentModel
from mrharmony.latent.autoencoder import encode
from mrharmony.volume import FloatArray, MrharmonyError

SLABS = 5  # groups of neighbouring slices, from the back of the head to its front
_FROM_MM, _TO_MM, _STEP_MM = (
    -104.0,
    72.0,
    6.0,
)  # anterior, template mm: the slices that show brain in all heads


def latent_features(model: LatentModel, brain: CanonicalBrain) -> FloatArray:
    """Return a scan's pooled latents.

    Every slice is encoded by itself; over each slab of six slices, every latent channel gives its mean and
    its standard deviation. The decoder, the denoiser and the prompts take no part.

    Parameters
    ----------
    model
        Whose encoder is used; its device too.
    brain
        Canonical units, 0 outside the brain, on the model's grid.

    Returns
    -------
    FloatArray
        Shape (slabs * channels * 2,).

    Raises
    ------
    MrharmonyError
        If the brain is on another grid.
    """
    grid = model.grid
    if brain.volume.shape != grid.shape or not np.allclose(brain.volume.affine, grid.affine):
        raise MrharmonyError(
            f"The model works on a grid of {model.card.working_zoom:g} mm; prepare the scans on it."
        )
    places = np.arange(_FROM_MM, _TO_MM, _STEP_MM)
    rows = np.round((places - grid.affine[1, 3]) / grid.zooms[1]).astype(int)
    slices = np.ascontiguousarray(brain.volume.voxels[:, rows].transpose(1, 0, 2), dtype=np.float32)
    with torch.inference_mode():
        latents = encode(model.autoencoder, torch.from_numpy(slices)[:, None].to(model.autoencoder.device))
    slabs = latents.reshape(SLABS, -1, *latents.shape[1:]).transpose(1, 2).flatten(2)
    pooled = torch.stack([slabs.mean(2), slabs.std(2, correction=0)], 2)
    return np.asarray(pooled.flatten().cpu().numpy())

"""Pictures to look at while Stable Diffusion is trained: a slice of every domain under every prompt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib.image
import numpy as np
import torch

from mrharmony.latent.dreambooth_settings import DreamBoothSettings
from mrharmony.latent.stable.data import SliceSet
from mrharmony.latent.stable.model import StableDiffusion
from mrharmony.latent.translation import WHITE, TranslationSettings, translate_slices
from mrharmony.scans.atomic import staged

STEPS = 20
MOST_DOMAINS = 6


def validation_picture(
    model: StableDiffusion,
    data: SliceSet,
    prompts: Mapping[str, str],
    settings: DreamBoothSettings,
    file: Path,
) -> None:
    """Write a PNG: a row for each domain's first slice, the slice itself and its translation to each domain.

    Parameters
    ----------
    model
        As trained so far.
    data, prompts
        Slices and prompt of each domain; at most the first six are shown.
    settings
        Of the training; with structure, the slices are seen as structure too.
    file
        Where the picture goes.
    """
    names = list(data.slices)[:MOST_DOMAINS]
    rows = np.stack([data.slices[name][0] for name in names]).astype(np.float32)
    slices = torch.from_numpy(rows)[:, None]
    translation = TranslationSettings(
        num_inference_steps=STEPS, input_weight=1.0 if settings.structure else None, seed=settings.seed
    )
    positions = torch.zeros(len(slices))
    columns = [slices] + [
        translate_slices(model, slices, positions, prompts[name], translation)[0] for name in names
    ]
    upright = torch.rot90(torch.cat(columns, dim=1), 1, dims=(2, 3))
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in upright.numpy()])
    with staged(file) as new:
        new.fill(
            lambda stream: matplotlib.image.imsave(
                stream, sheet, cmap="gray", vmin=0, vmax=WHITE, format="png"
            )
        )
        new.commit()

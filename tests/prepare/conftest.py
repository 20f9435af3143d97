"""Brains and heads made of the ICBM152 template: every test knows the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter

from helpers.template_heads import MARKER, on_grid
from mrharmony.core.volume import BoolArray, Volume
from mrharmony.space.template import template, template_brain_mask


@pytest.fixture(scope="session")
def brain() -> tuple[Volume, BoolArray]:
    """Stripped template brain at 2.5 mm in the world of the template, with a bright ball in its left half."""
    affine = np.diag([2.5, 2.5, 2.5, 1.0])
    affine[:3, 3] = (-95, -130, -80)
    shape = (76, 88, 70)
    mask = on_grid(template_brain_mask(), shape, affine) > 0.5
    positions = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3] + affine[:3, 3]
    marker = np.where(np.linalg.norm(positions - MARKER, axis=-1) < 12, 2.0, 1.0)
    voxels = np.where(mask, 400 * marker * np.maximum(on_grid(template().voxels, shape, affine), 0.05), 0)
    return Volume(voxels.astype(np.float32), affine), mask


@pytest.fixture(scope="session")
def head() -> tuple[Volume, BoolArray]:
    """Head at 2 mm: the template's brain in fluid, dark skull, bright scalp, a neck and noise in the air."""
    shape, affine = (112, 120, 112), np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-111, -136, -115)
    mask = on_grid(template_brain_mask(), shape, affine) > 0.5
    right, front, up = (affine[:3, 3].reshape(3, 1, 1, 1) + 2.0 * np.indices(shape)).astype(np.float32)
    outside = distance_transform_edt(~mask, sampling=2.0)
    neck = (np.hypot(right / 55, (front - 5) / 60) < 1) & (up < -60) & (outside > 12)
    layers = [mask, outside <= 3, outside <= 9, outside <= 16, neck]
    voxels = np.select(layers, [on_grid(template().voxels, shape, affine), 0.15, 0.05, 0.95, 0.5], 0.0)
    noise = np.abs(np.random.default_rng(0).normal(0, 0.02, shape))
    return Volume((500 * (gaussian_filter(voxels, 0.4) + noise)).astype(np.float32), affine), mask

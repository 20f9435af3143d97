"""Virtual heads: a base anatomy, the average or a real person's, made into a new person."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from mrharmony.prepare.grid import Grid
from mrharmony.simulate._pulling import Folding, pull_head
from mrharmony.simulate.anatomy import CSF, Anatomy
from mrharmony.simulate.cortex import thin_cortex
from mrharmony.simulate.lesions import add_lesions, random_blobs
from mrharmony.simulate.template import myelination_map, template_maps, ventricle_region
from mrharmony.simulate.warp import (
    LATTICE_MM,
    LATTICE_SHAPE,
    Warp,
    compose,
    head_size,
    random_shape,
    ventricle_warp,
)
from mrharmony.volume import Matrix

HEAD_SIZE_SPREAD = 0.08
# MNI space is larger than people: the mean head is about 0.92 of it along each axis (Lancaster et al. 2007,
# Hum Brain Mapp 28:1194).
AVERAGE_SIZE = 0.92
VENTRICLE_RANGE = (0.6, 2.5)
# Folds differ between people where the average is undecided: log-odds noise, sd by smoothness in mm.
FOLD_SCALES = ((9.0, 0.35), (3.5, 0.55))
MYELIN_NOISE = 0.10
AVERAGE_FOLDING = Folding(sharpness=3.0, csf_bias=0.5, noise=1.0)
PERSON_FOLDING = Folding(sharpness=1.0, csf_bias=0.0, noise=0.35)


@lru_cache(maxsize=1)
def _average() -> Anatomy:
    tissues, affine = template_maps()
    shape = tissues.shape[1:]
    ventricles = tissues[CSF] * ventricle_region(shape, affine)
    return Anatomy(tissues, myelination_map(shape, affine), ventricles, affine)


def template_anatomy(grid: Grid) -> Anatomy:
    """The average head on a grid, sharpened so that it looks like one person's."""
    identity = Warp(torch.zeros(3, *LATTICE_SHAPE), np.eye(4))
    silent = torch.zeros(3, *LATTICE_SHAPE)
    return pull_head(_average(), grid, identity, AVERAGE_FOLDING, silent, 1.0)


def virtual_head(
    rng: np.random.Generator,
    grid: Grid,
    base: Anatomy | None = None,
    ventricle_scale: float | None = None,
    *,
    pose: Matrix | None = None,
    cortical_thinning: float = 0.0,
    lesions_ml: float = 0.0,
) -> Anatomy:
    """Make a new person: random shape, folds, head size, myelination; biology by known factors.

    Parameters
    ----------
    rng
        Source of all that is random.
    grid
        Where to put the head.
    base
        The anatomy to start from, `segment_brain` of a real brain for instance; `None` is the average.
    ventricle_scale
        Ventricle volume over that of the same head with factor 1, 0.3..4; `None` draws it from 0.6..2.5,
        log-uniformly.
    pose
        The grid's millimetres to template millimetres, rigid, shape (4, 4): how the head lies in the
        scanner; `None` leaves it in template space.
    cortical_thinning
        Share of the cerebral cortex that becomes CSF, 0..0.5 (`thin_cortex`).
    lesions_ml
        Volume of white-matter lesions, 0..60 ml (`add_lesions`).

    Returns
    -------
    Anatomy
        On the grid, with the factors set; the same `rng` with other factors gives the same person.

    Raises
    ------
    ValueError
        If the ventricle scale is out of range.
    MrharmonyError
        If another factor is, or this anatomy cannot have it.
    """
    drawn = float(np.exp(rng.uniform(*np.log(VENTRICLE_RANGE))))
    factor = drawn if ventricle_scale is None else ventricle_scale
    if not 0.3 <= factor <= 4:
        raise ValueError(f"ventricle_scale must lie within 0.3..4, not {factor:g}")
    source = _average() if base is None else base
    folding = AVERAGE_FOLDING if base is None else PERSON_FOLDING
    typical = AVERAGE_SIZE if base is None else 1.0
    linear = head_size(rng, typical, HEAD_SIZE_SPREAD) @ (np.eye(4) if pose is None else pose)
    shape = random_shape(rng)
    noise = _random_fields(rng)
    ventricles = ventricle_warp(source.ventricles, source.affine, factor)
    warp = Warp(compose(ventricles, shape), linear)
    head = pull_head(source, grid, warp, folding, noise, factor)
    head = thin_cortex(head, cortical_thinning, linear)
    return add_lesions(head, random_blobs(rng), lesions_ml, linear) if lesions_ml else head


def _random_fields(rng: np.random.Generator) -> Tensor:
    """Log-odds noise of CSF and of WM, and myelination noise, on the lattice, shape (3, i, j, k)."""
    fields = np.zeros((3, *LATTICE_SHAPE), dtype=np.float32)
    for smoothness, amplitude in FOLD_SCALES:
        noise = rng.standard_normal(fields.shape, dtype=np.float32)
        smooth = gaussian_filter(noise, (0, *[smoothness / LATTICE_MM] * 3), mode="wrap")
        fields += amplitude / smooth.std() * smooth
    fields[2] *= MYELIN_NOISE / fields[2].std()
    return torch.from_numpy(fields)

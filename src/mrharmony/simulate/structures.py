"""Anatomies from label maps: each structure is a mixture of the simulator's tissues.

Structures differ in T1 more than the four tissues do: at 3 T pallidum and thalamus lie between grey and white
matter, since many myelinated fibres run through them, while the cerebellum's folds are finer than a voxel and
hold some fluid (order of R1: Gelman et al. 2001, Magn Reson Med 45:71; Callaghan et al. 2015, Magn Reson Med
73:1309). A mixture of tissues has a T1 between theirs, and its signal is in the span of their signals. The
shares are assumptions, and so is their spread between people.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.simulate.anatomy import CORTICAL_GM, CSF, DEEP_GM, WM, Anatomy, myelination_map
from mrharmony.simulate.label_maps import OUTER, STRUCTURES, VENTRICLES, LabelMap
from mrharmony.space.grid import CANONICAL_GRID, Grid
from mrharmony.space.sampling import grid_positions, sample

BORDER_MM = 0.6  # standard deviation of the blur that makes crisp borders soft, as partial volume does
FLUID_REACH_MM = (1.0, 3.0)  # from the tissue outward, how much fluid a brain mask holds
SHARE_SPREAD = 0.12  # standard deviation between people of the share that makes a structure what it is
TISSUE_SPREAD = 0.04  # the same of what one tissue has of another everywhere in the brain
LARGEST_SHARE, LARGEST_OF_TISSUE = 0.9, 0.15


class Mixture(NamedTuple):
    """What a structure consists of: a tissue, and a share of another one."""

    tissue: int
    other: int
    share: float


MIXTURES = {
    "cerebellar-white-matter": Mixture(WM, CORTICAL_GM, 0.15),
    "cerebellar-cortex": Mixture(CORTICAL_GM, CSF, 0.12),
    "thalamus": Mixture(DEEP_GM, WM, 0.45),
    "caudate": Mixture(DEEP_GM, CORTICAL_GM, 0.15),
    "putamen": Mixture(DEEP_GM, WM, 0.10),
    "pallidum": Mixture(DEEP_GM, WM, 0.65),
    "brain-stem": Mixture(WM, DEEP_GM, 0.25),
    "hippocampus": Mixture(CORTICAL_GM, WM, 0.08),
    "amygdala": Mixture(CORTICAL_GM, WM, 0.08),
    "accumbens": Mixture(DEEP_GM, CORTICAL_GM, 0.40),
    "ventral-diencephalon": Mixture(WM, DEEP_GM, 0.40),
    "optic-chiasm": Mixture(WM, CSF, 0.30),
    "vessel": Mixture(CORTICAL_GM, CSF, 0.40),
    "choroid-plexus": Mixture(CORTICAL_GM, CSF, 0.40),
    "lesion": Mixture(CORTICAL_GM, CSF, 0.40),
}
PURE = {"cerebral-white-matter": WM, "cerebral-cortex": CORTICAL_GM}  # what else is not mixed is fluid


def structured_anatomy(head: LabelMap, rng: np.random.Generator, grid: Grid = CANONICAL_GRID) -> Anatomy:
    """Return a person's tissues on a grid: a base for `virtual_head`, skull-stripped unless told otherwise.

    Parameters
    ----------
    head
        A label map in template millimetres.
    rng
        Draws the shares of this person's structures, and how much outer fluid the brain mask holds.
    grid
        Where to put them; the canonical grid has the brain. A label map with the labels `OUTER` becomes a
        whole head.
    """
    brain = head.brain_within(rng.uniform(*FLUID_REACH_MM))
    tissues, ventricles = _shares(rng, head)[:, head.labels] * brain, head.where(*VENTRICLES) & brain
    maps = np.concatenate([tissues, ventricles[None], _around(head, brain)])
    soft = gaussian_filter(maps.astype(np.float32), (0, *(BORDER_MM / np.array(head.zooms))))
    pulled = sample(torch.from_numpy(soft), head.affine, grid_positions(grid.shape, grid.affine))
    found: FloatArray = pulled.numpy().reshape(-1, *grid.shape)
    myelination = myelination_map(grid.shape, grid.affine)
    around = found[5:] if len(found) > 5 else None
    return Anatomy(found[:4], myelination, found[4], grid.affine, around=around)


def _around(head: LabelMap, brain: BoolArray) -> BoolArray:
    """Where outside the brain fluid, soft tissue and fat lie, (3, i, j, k); none of a map without `OUTER`."""
    soft, fat = (head.labels == OUTER[name] for name in ("soft-tissue", "fat"))
    if not soft.any():
        return np.empty((0, *brain.shape), bool)
    return np.stack([head.where("outer-csf") & ~brain, soft & ~brain, fat & ~brain])


def _shares(rng: np.random.Generator, head: LabelMap) -> NDArray[np.float32]:
    """Draw the tissue shares of each label, shape (4, labels); what fills a hole of the brain is cortex."""
    shares = np.zeros((4, int(head.labels.max()) + 1), np.float32)
    shares[CORTICAL_GM] = 1
    for name, labels in STRUCTURES.items():
        here = [label for label in labels if label < shares.shape[1]]
        tissue, other, share = MIXTURES.get(name, Mixture(PURE.get(name, CSF), CSF, 0.0))
        if share:
            share = float(np.clip(share + SHARE_SPREAD * rng.standard_normal(), 0, LARGEST_SHARE))
        shares[:, here] = 0
        shares[tissue, here] = 1 - share
        shares[other, here] += share
    return shares


def with_own_tissues(head: Anatomy, rng: np.random.Generator) -> Anatomy:
    """Return a head whose tissues have a T1 of their own: each tissue holds a little of a neighbouring one.

    Cortex and deep grey matter get some white matter or fluid, white matter some grey matter; T1 differs
    between people and with age by a few percent.
    """
    mix = np.eye(4, dtype=np.float32)
    for tissue in (CORTICAL_GM, DEEP_GM, WM):
        amount = TISSUE_SPREAD * rng.standard_normal()
        toward = CORTICAL_GM if tissue == WM else WM if amount > 0 else CSF
        share = min(abs(amount), LARGEST_OF_TISSUE)
        mix[tissue, tissue] -= share
        mix[toward, tissue] += share
    return replace(head, tissues=np.einsum("ab,bijk->aijk", mix, head.tissues).astype(np.float32))

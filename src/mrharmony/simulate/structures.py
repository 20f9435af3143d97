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
from scipy.ndimage import binary_fill_holes, distance_transform_edt, find_objects, gaussian_filter

from mrharmony.core.volume import BoolArray, FloatArray, Matrix
from mrharmony.simulate.anatomy import CORTICAL_GM, CSF, DEEP_GM, WM, Anatomy, myelination_map
from mrharmony.space.grid import CANONICAL_GRID
from mrharmony.space.sampling import grid_positions, sample

BORDER_MM = (
    0.6  # standard deviation of the blur that makes crisp borders soft: half a voxel of partial volume
)
FLUID_REACH_MM = (1.0, 3.0)  # from the tissue outward, how much fluid a brain mask holds
SHARE_SPREAD = 0.12  # standard deviation between people of the share that makes a structure what it is
TISSUE_SPREAD = 0.04  # the same of what one tissue has of another everywhere in the brain


class Structure(NamedTuple):
    """A structure: FreeSurfer's labels of both sides, the tissue it mostly is, another, and its share."""

    labels: tuple[int, ...]
    tissue: int
    other: int
    share: float


STRUCTURES = (
    Structure((2, 41, 77, 251, 252, 253, 254, 255), WM, CORTICAL_GM, 0.0),  # cerebral white matter
    Structure((3, 42), CORTICAL_GM, WM, 0.0),  # cerebral cortex
    Structure((4, 43, 5, 44, 14, 15, 24, 72), CSF, CORTICAL_GM, 0.0),  # ventricles and outer fluid
    Structure((7, 46), WM, CORTICAL_GM, 0.15),  # cerebellar white matter
    Structure((8, 47), CORTICAL_GM, CSF, 0.12),  # cerebellar cortex
    Structure((10, 49), DEEP_GM, WM, 0.45),  # thalamus
    Structure((11, 50), DEEP_GM, CORTICAL_GM, 0.15),  # caudate
    Structure((12, 51), DEEP_GM, WM, 0.10),  # putamen
    Structure((13, 52), DEEP_GM, WM, 0.65),  # pallidum
    Structure((16,), WM, DEEP_GM, 0.25),  # brain stem
    Structure((17, 53, 18, 54), CORTICAL_GM, WM, 0.08),  # hippocampus, amygdala
    Structure((26, 58), DEEP_GM, CORTICAL_GM, 0.40),  # accumbens
    Structure((28, 60), WM, DEEP_GM, 0.40),  # ventral diencephalon
    Structure((85,), WM, CSF, 0.30),  # optic chiasm
    Structure(
        (30, 62, 25, 57, 31, 63, 136, 137, 163, 164), CORTICAL_GM, CSF, 0.40
    ),  # vessels, plexus, others
)
OUTER_FLUID = 24
VENTRICLES = (4, 43, 5, 44, 14)  # lateral and third
_TYPICAL = {CSF: 0.25, CORTICAL_GM: 0.65, WM: 1.0, DEEP_GM: 0.75}  # of a T1w scan


def brain_of_labels(labels: NDArray[np.integer], zoom: float, reach_mm: float) -> BoolArray:
    """Return the brain of a label map: all structures, and the outer fluid up to `reach_mm` from them.

    Parameters
    ----------
    labels
        FreeSurfer's labels, shape (i, j, k), isotropic voxels of `zoom` mm; what is no structure is outside.
    """
    known = [label for structure in STRUCTURES for label in structure.labels if label != OUTER_FLUID]
    tissue = np.isin(labels, known)
    near = distance_transform_edt(~tissue) * zoom <= reach_mm
    return np.asarray(binary_fill_holes(tissue | ((labels == OUTER_FLUID) & near)))


def typical_contrast(labels: NDArray[np.integer]) -> FloatArray:
    """Return a label map as a T1w scan would show it, for its alignment; white matter is 1, outside 0."""
    picture = np.zeros(int(labels.max()) + 1, np.float32)
    for structure in STRUCTURES:
        known = [label for label in structure.labels if label < len(picture)]
        main, other = _TYPICAL[structure.tissue], _TYPICAL[structure.other]
        picture[known] = (1 - structure.share) * main + structure.share * other
    return np.asarray(picture[labels])


def structured_anatomy(labels: NDArray[np.integer], to_template: Matrix, rng: np.random.Generator) -> Anatomy:
    """Return a person's tissues on the canonical grid of 1 mm: a base for `virtual_head`.

    Parameters
    ----------
    labels
        FreeSurfer's labels, shape (i, j, k), isotropic voxels.
    to_template
        Voxel indices to template millimetres, rigid, shape (4, 4).
    rng
        Draws the shares of this person's structures, and how much outer fluid the brain mask holds.
    """
    zoom = float(np.linalg.norm(to_template[:3, 0]))
    brain = brain_of_labels(labels, zoom, rng.uniform(*FLUID_REACH_MM))
    shares = np.zeros((4, int(labels.max()) + 1), np.float32)
    shares[CORTICAL_GM] = 1  # what a filled hole may hold
    for structure in STRUCTURES:
        known = [label for label in structure.labels if label < shares.shape[1]]
        share = structure.share and float(
            np.clip(structure.share + SHARE_SPREAD * rng.standard_normal(), 0, 0.9)
        )
        shares[:, known] = 0
        shares[structure.tissue, known] = 1 - share
        shares[structure.other, known] += share
    box = _box_around(brain)
    inside, part = brain[box], labels[box]
    maps = np.concatenate([shares[:, part] * inside, (np.isin(part, VENTRICLES) & inside)[None]])
    soft = gaussian_filter(maps.astype(np.float32), (0, *[BORDER_MM / zoom] * 3))
    affine = to_template.copy()
    affine[:3, 3] += affine[:3, :3] @ [span.start for span in box]
    grid = CANONICAL_GRID
    pulled = sample(torch.from_numpy(soft), affine, grid_positions(grid.shape, grid.affine))
    found: FloatArray = pulled.numpy().reshape(5, *grid.shape)
    return Anatomy(found[:4], myelination_map(grid.shape, grid.affine), found[4], grid.affine)


def with_own_tissues(head: Anatomy, rng: np.random.Generator) -> Anatomy:
    """Return a head whose tissues have a T1 of their own: each tissue holds a little of a neighbouring one.

    Cortex and deep grey matter get some white matter or fluid, white matter some grey matter; T1 differs
    between people and with age by a few percent.
    """
    amounts = TISSUE_SPREAD * rng.standard_normal(3)
    mix = np.eye(4, dtype=np.float32)
    for tissue, amount in zip((CORTICAL_GM, DEEP_GM, WM), amounts, strict=True):
        toward = CORTICAL_GM if tissue == WM else WM if amount > 0 else CSF
        share = min(abs(float(amount)), 0.15)
        mix[tissue, tissue] -= share
        mix[toward, tissue] += share
    tissues = np.einsum("ab,bijk->aijk", mix, head.tissues).astype(np.float32)
    return replace(head, tissues=tissues)


def _box_around(mask: BoolArray, margin: int = 3) -> tuple[slice, slice, slice]:
    """Return the box that holds a mask, and a few voxels more on each side."""
    (box,) = find_objects(mask.astype(np.int8))
    i, j, k = (slice(max(span.start - margin, 0), span.stop + margin) for span in box)
    return i, j, k

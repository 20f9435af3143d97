"""Virtual heads through virtual scanners, as preparation leaves them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import scan_head
from mrharmony.space.intensity import intensity_scale


def canonical_scan(head: Anatomy, scanner: Scanner | str, seed: int) -> CanonicalBrain:
    """Scan a head and scale its intensities; the receive field stays.

    Parameters
    ----------
    head
        Whom to scan.
    scanner
        On which scanner, or the name of one that ships.
    seed
        Of noise and receive field.
    """
    device = load_scanners()[scanner] if isinstance(scanner, str) else scanner
    scan = scan_head(head, device, np.random.default_rng(seed))
    mask = head.brain_mask
    scale = intensity_scale(scan.voxels[mask])
    return CanonicalBrain(scan.with_voxels(np.where(mask, scan.voxels / scale, 0)), mask, scale)


def canonical_slab(head: Anatomy, scanner: Scanner | str, seed: int) -> CanonicalBrain:
    """Keep sixteen coronal slices of what `canonical_scan` returns, for quick contrasts and fits."""
    brain = canonical_scan(head, scanner, seed)
    middle = brain.mask.shape[1] // 2
    mask = np.zeros_like(brain.mask)
    mask[:, middle - 8 : middle + 8] = brain.mask[:, middle - 8 : middle + 8]
    return with_voxels(brain._replace(mask=mask), brain.volume.voxels)


def with_voxels(brain: CanonicalBrain, voxels: NDArray[np.floating]) -> CanonicalBrain:
    """Return the same brain with other intensities, 0 outside its mask."""
    return brain._replace(volume=brain.volume.with_voxels(np.where(brain.mask, voxels, 0)))

"""Brains of three nested tissues, and virtual heads, for the tests of the methods without learning."""

import numpy as np

from mrharmony.core.domain import Domain
from mrharmony.core.volume import Volume
from mrharmony.prepare.canonical import CanonicalBrain
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import scan_head
from mrharmony.space.grid import Grid
from mrharmony.space.intensity import intensity_scale

GRID = Grid.working(2.0)
A, B, NEW = Domain("A", "a"), Domain("B", "b"), Domain("NEW", "new")
SCANNERS = {"A": "mprage-3t", "B": "spgr-1.5t"}


def phantom(seed=0, power=1.0, radius=30.0):
    """A ball of three tissues with noise, through a scanner's tone curve, on the 2 mm template grid."""
    rng = np.random.default_rng(seed)
    distance = np.linalg.norm(GRID.positions() - np.array([0, -17, 5]), axis=-1) / radius
    mask = distance < 1
    tissue = np.select([distance < 0.35, distance < 0.75], [0.25, 0.95], 0.6)
    noisy = np.clip(tissue + 0.03 * rng.standard_normal(GRID.shape), 0.01, 1.2) ** power
    return CanonicalBrain(Volume(np.where(mask, noisy, 0), GRID.affine), mask, 100.0)


def changed(brain, function):
    """The brain with a function of its intensities in the mask."""
    voxels = np.where(brain.mask, function(brain.volume.voxels), 0)
    return brain._replace(volume=brain.volume.with_voxels(voxels))


def prepared(brain):
    """A canonical brain as a prepared scan whose native grid is the template's."""
    native = brain.volume.with_voxels(brain.volume.voxels * np.float32(brain.scale))
    bias = np.ones(brain.mask.shape, np.float32)
    return PreparedScan(native, brain.mask, bias, np.eye(4), brain.scale, True, ())


def virtual_brain(head, scanner, seed):
    """A virtual head through a scanner, in canonical units; the receive field stays."""
    scan = scan_head(head, load_scanners()[scanner], np.random.default_rng(seed))
    mask = head.brain_mask
    scale = intensity_scale(scan.voxels[mask])
    return CanonicalBrain(scan.with_voxels(np.where(mask, scan.voxels / scale, 0)), mask, scale)


def virtual_people(count, seed):
    """Virtual heads on the 2 mm template grid."""
    return [virtual_head(np.random.default_rng(seed + number), GRID) for number in range(count)]

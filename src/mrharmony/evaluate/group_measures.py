"""A harmonized scan and its source on few voxels: what a group's page compares between sites.

Everything comes from the two images themselves. Brain voxels are those where the output is not 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
from nibabel.affines import from_matvec
from numpy.typing import NDArray

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray, Matrix, Volume, bounding_box
from mrharmony.evaluate.site_features import site_features
from mrharmony.evidence.intensities import class_thresholds
from mrharmony.preparation.alignment import align_to_template
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.space.blocks import block_means
from mrharmony.space.grid import Grid
from mrharmony.space.intensity import intensity_scale
from mrharmony.space.resampling import resample_brain
from mrharmony.space.template import template, template_brain_mask

BINS, BRIGHTEST = 70, 1.4  # of histograms, canonical units
FEATURES = 241  # of `site_features`
GRID = Grid.working(4.0)  # of features: coarse, so that sites of different resolution can be compared
_VOXELS = 20_000  # brain voxels of a scan that histogram, fluid and shading come from, at most twice as many
_BLOCK_MM = 3.0  # blocks of native voxels are averaged up to this edge
_DEGREE = 3  # of the polynomial of the shading
_KNOTS = np.linspace(0.1, 1.3, 9)  # of the curve between the two contrasts, canonical units
_FAINT = 0.05  # canonical units; darker voxels have no useful logarithm
_ALIGNED = 0.85  # correlation with the template below which an alignment is sought from further away

Histogram = NDArray[np.float64]
_POWERS = [p for p in product(range(_DEGREE + 1), repeat=3) if 0 < sum(p) <= _DEGREE]


@dataclass(frozen=True)
class Measured:
    """Figures of one image.

    Parameters
    ----------
    histogram
        Share of the brain in each of 70 bins from 0 to 1.4 canonical units, shape (70,).
    features
        `site_features` on voxels of 4 mm, shape (241,).
    fluid_ml
        Volume of the dark class, where Otsu's two thresholds of this image part three.
    """

    histogram: Histogram
    features: FloatArray
    fluid_ml: float


@dataclass(frozen=True)
class Shading:
    """The smooth factor between a source and its output: level times exp of a polynomial of the position."""

    corner: Matrix  # voxel indices where a coordinate is -1, shape (3,)
    extent: Matrix  # from there to +1
    coefficients: NDArray[np.float64]
    level: float = 1.0  # brings the source without its shading to canonical units

    def at(self, indices: Matrix) -> NDArray[np.float64]:
        """Return the factor at voxel indices, shape (n, 3)."""
        terms = _terms(indices, self.corner, self.extent)
        return np.asarray(self.level * np.exp(terms @ self.coefficients))


@dataclass(frozen=True)
class MeasuredPair:
    """A scan before and after harmonization.

    Parameters
    ----------
    before, after
        Its figures; `before` is None where the source is not there.
    shading
        What was taken out of the source; None without it.
    """

    before: Measured | None
    after: Measured
    shading: Shading | None = None


def measure_pair(source: FloatArray | None, output: Volume) -> MeasuredPair:
    """Measure a scan before and after harmonization.

    The coil's shading is no contrast, and preparation has taken it out of the output. Here it is taken out of
    the source: the logarithm of the source is fitted by a curve of the output's intensity and a polynomial of
    the position (degree 3), which is divided out.

    Parameters
    ----------
    source
        Voxels of the scan on the output's grid, any units; None where it is missing.
    output
        Harmonized brain in RAS order, canonical units, 0 outside.

    Raises
    ------
    MrharmonyError
        If the output or the source is empty.
    """
    mask = output.voxels > 0
    inside = np.flatnonzero(mask)
    some = inside[:: max(1, len(inside) // _VOXELS)]
    if not some.size:
        raise MrharmonyError("the output is empty.")
    indices = np.stack(np.unravel_index(some, mask.shape), axis=1).astype(np.float64)
    after = output.voxels.ravel()[some]
    blocks = _Blocks.of(output, mask)
    to_template = _to_template(blocks)
    volume_ml = output.voxel_mm3 * len(inside) / 1000
    done = Measured(_histogram(after), blocks.features(to_template), _fluid_ml(after, volume_ml))
    if source is None:
        return MeasuredPair(None, done)
    before = source.ravel()[some] / np.float32(intensity_scale(source.ravel()[some]))
    shading = _shading(indices, before, after)
    before = np.asarray(before / shading.at(indices), np.float32)
    shading = replace(shading, level=intensity_scale(before))
    before /= np.float32(shading.level)
    flat = _Blocks.of(output.with_voxels(source), mask).divided(shading)
    features = flat.features(to_template)
    return MeasuredPair(Measured(_histogram(before), features, _fluid_ml(before, volume_ml)), done, shading)


@dataclass(frozen=True)
class _Blocks:
    """Means of blocks of brain voxels, and where the blocks lie in the image."""

    volume: Volume
    mask: BoolArray
    steps: tuple[int, int, int]

    @classmethod
    def of(cls, volume: Volume, mask: BoolArray) -> _Blocks:
        steps = tuple(max(1, int(_BLOCK_MM / zoom)) for zoom in volume.zooms)
        weights = np.zeros([size // step for size, step in zip(mask.shape, steps, strict=True)], np.float32)
        sums = np.zeros_like(weights)
        # Only around the brain are they not 0: a quarter of a head scan.
        parts = [slice(s.start // n, -(-s.stop // n)) for s, n in zip(bounding_box(mask), steps, strict=True)]
        here = tuple(slice(p.start * n, p.stop * n) for p, n in zip(parts, steps, strict=True))
        inside, voxels = mask[here], volume.voxels[here]
        weights[tuple(parts)] = block_means(np.asarray(inside, np.float32), steps)
        sums[tuple(parts)] = block_means(np.where(inside, voxels, np.float32(0)), steps)
        onto = from_matvec(np.diag(steps), (np.array(steps) - 1) / 2)
        means = sums / np.maximum(weights, 1e-6)
        return cls(Volume(means, volume.affine @ onto), weights >= 0.5, (steps[0], steps[1], steps[2]))

    def divided(self, shading: Shading) -> _Blocks:
        """Return the blocks without a shading, which is given in the image's voxel indices."""
        voxels = self.volume.voxels.copy()
        middles = np.argwhere(self.mask) * self.steps + (np.array(self.steps) - 1) / 2
        voxels[self.mask] /= shading.at(middles)
        return _Blocks(self.volume.with_voxels(voxels), self.mask, self.steps)

    def features(self, to_template: Matrix) -> FloatArray:
        """Return the site features of the blocks, whose 90th percentile becomes 1."""
        placed = Volume(self.volume.voxels, to_template @ self.volume.affine)
        voxels, mask = resample_brain(placed, self.mask, GRID.shape, GRID.affine)
        scaled = Volume(voxels / np.float32(intensity_scale(voxels[mask])), GRID.affine)
        return site_features(CanonicalBrain(scaled, mask, 1.0))


def _to_template(blocks: _Blocks) -> Matrix:
    """Return the rigid motion to the template, sought near the motion of the centre alone."""
    here = blocks.volume.affine @ [*np.argwhere(blocks.mask).mean(axis=0), 1]
    shift = from_matvec(np.eye(3), (_template_centre() - here)[:3])
    near = align_to_template(blocks.volume, blocks.mask, near=shift)
    if near.similarity < _ALIGNED:
        near = align_to_template(blocks.volume, blocks.mask)
    return near.rigid_to_template


@cache
def _template_centre() -> Matrix:
    return np.asarray(template().affine @ [*np.argwhere(template_brain_mask()).mean(axis=0), 1])


def _shading(indices: Matrix, before: FloatArray, after: FloatArray) -> Shading:
    corner, extent = indices.min(axis=0), np.maximum(np.ptp(indices, axis=0), 1)
    usable = (before > _FAINT) & (after > _FAINT)
    terms = _terms(indices[usable], corner, extent)
    curve = np.stack([np.interp(after[usable], _KNOTS, unit) for unit in np.eye(len(_KNOTS))], axis=1)
    fitted, *_ = np.linalg.lstsq(np.hstack([terms, curve]), np.log(before[usable]), rcond=None)
    return Shading(corner, extent, fitted[: terms.shape[1]])


def _terms(indices: Matrix, corner: Matrix, extent: Matrix) -> Matrix:
    places = 2 * (indices - corner) / extent - 1
    x, y, z = (np.vander(axis, _DEGREE + 1, increasing=True).T for axis in places.T)
    return np.stack([x[i] * y[j] * z[k] for i, j, k in _POWERS], axis=1)


def _histogram(values: FloatArray) -> Histogram:
    counts, _ = np.histogram(np.clip(values, 0, BRIGHTEST), BINS, (0, BRIGHTEST))
    return np.asarray(counts / len(values))


def _fluid_ml(values: FloatArray, volume_ml: float) -> float:
    counts, edges = np.histogram(np.clip(values, 0, BRIGHTEST), 256, (0, BRIGHTEST))
    thresholds = class_thresholds(counts, edges)
    return 0.0 if thresholds is None else float(np.mean(values < thresholds[0])) * volume_ml

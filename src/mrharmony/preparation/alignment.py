"""How the head lies in the scanner and how large it is: the rigid motion to the template, and the size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from mrharmony.core.volume import BoolArray, Matrix, Volume
from mrharmony.space.resampling import resample_brain
from mrharmony.space.template import template, template_brain_mask

Points = NDArray[np.float64]

_ZOOM = 3.0  # mm
_SMOOTHING = (8.0, 4.0)  # mm, coarse to fine
_ITERATIONS = 25
_MARGIN = 15.0  # mm of background kept around the brains
_CONVERGED = 1e-3  # mm
_LONGEST_STEP = 10.0  # mm
_RIDGE = 1e-6  # keeps the 9×9 system solvable for an image without edges
# Rotations (rad) and growth (ratio) are solved for as mm of motion of the head's surface, 80 mm out.
_STEP_UNITS = np.array([80.0, 80.0, 80.0, 1.0, 1.0, 1.0, 80.0])
# Along the scanner's axes, then nodding, tilted and turned aside by 40° both ways.
_STARTS = [np.eye(3), *Rotation.from_rotvec(np.radians(40) * np.vstack([np.eye(3), -np.eye(3)])).as_matrix()]
_CLEARLY = 0.005  # difference of correlations at which another start counts as better
_OVERTURNED = Rotation.from_rotvec(np.pi * np.eye(3)).as_matrix()  # by 180° about each axis
_FAINTEST_WEIGHT = 0.05  # of a voxel's neighbours; nothing is divided by less
_INSIDE = 3  # every third voxel of 3 mm is compared inside the brain
_SIZES = (0.6, 1.4)  # of the template's edge; brains of 600 to 2500 ml have 0.68 to 1.10


@dataclass(frozen=True)
class Alignment:
    """How a brain lies relative to the template.

    Parameters
    ----------
    rigid_to_template
        Native world mm to template world mm, shape (4, 4): a rotation (determinant +1) and a translation.
    size
        Edge of the head as a multiple of the template's, 0.6 to 1.4; it is not part of `rigid_to_template`.
    similarity
        Correlation of the aligned brain with the template, both smoothed by 4 mm; 1 is the template itself.
    """

    rigid_to_template: Matrix
    size: float
    similarity: float


def align_to_template(
    volume: Volume, brain_mask: BoolArray, seed: int = 0, near: Matrix | None = None
) -> Alignment:
    """Find the rigid motion that moves a brain onto the template's brain, and the size of the head.

    Gauss-Newton least squares (Lucas & Kanade 1981) between template and brain at random points, coarse to
    fine. It starts with the centres of the brains in one place, along the scan's world axes and turned by 40°
    from them in six ways; heads turned by up to 60° are found. The size is estimated too, so that it does not
    turn or shift the head, and kept apart (see `volume_corrected`); a linear map of intensities is estimated
    and dropped. The same seed gives the same bytes; ANTs' rigid registration, whatever its seed, differed
    between runs with two threads.

    Parameters
    ----------
    volume, brain_mask
        Bias-corrected scan and its brain, shape (i, j, k).
    seed
        Seed of the points.
    near
        An approximate `rigid_to_template`, such as that of another scan of the head: it is only refined.
    """
    fixed, moving = _coarse_template(), _coarse_copy(volume, brain_mask)
    if near is None:
        motions = [_Motion(turn, 1.0, _centre(fixed), _centre(moving)) for turn in _STARTS]
    else:
        motions = [_Motion.of(near, _centre(fixed))]
    rng = np.random.default_rng(seed)
    similarity = 0.0
    for sigma in _SMOOTHING if near is None else _SMOOTHING[-1:]:
        points = _points(fixed, sigma, rng)
        best, similarity = _best_aligned(motions, points, _smooth(fixed, sigma), _smooth(moving, sigma))
        motions = [best]
    return Alignment(best.rigid_to_template(), best.size, similarity)


def volume_corrected(rigid_to_template: Matrix, size: float) -> Matrix:
    """Return the similarity transform that aligns a head and gives it the template's size, shape (4, 4).

    It is the correction of volume and posture of Ikegami et al.: `rigid_to_template`, then growth by 1 / size
    about the centre of the template's brain; native world mm to template world mm.
    """
    centre = _centre(_coarse_template())
    corrected: Matrix = from_matvec(np.eye(3) / size, centre * (1 - 1 / size)) @ rigid_to_template
    return corrected


def inside_correlation(volume: Volume, brain_mask: BoolArray, alignment: Alignment) -> float:
    """Return the correlation of an aligned brain with the template's, inside both, from -1 to 1.

    Both are smoothed by 4 mm among the voxels of their masks alone, so that only what the masks hold counts:
    folds, white matter, ventricles, and no outline.
    """
    moving = _coarse_copy(volume, brain_mask)
    return _correlation_inside(moving, _smooth_inside(moving), _Motion.aligned(alignment))


def overturned_correlation(volume: Volume, brain_mask: BoolArray, alignment: Alignment) -> float:
    """Return the highest `inside_correlation` of a brain that is turned over and aligned again.

    It is turned by 180° about each axis of the template, one after the other. Because brains are nearly
    symmetric, these three stand for mirrored axes too: front to back, and head to foot.
    """
    fixed, moving = _coarse_template(), _coarse_copy(volume, brain_mask)
    sigma, upright = _SMOOTHING[-1], _Motion.aligned(alignment)
    points, smooth = _points(fixed, sigma, np.random.default_rng(0)), _smooth(moving, sigma)
    targets = _sample(_smooth(fixed, sigma), points)
    gradient = [smooth.with_voxels(g / _ZOOM) for g in np.gradient(smooth.voxels)]
    starts = (replace(upright, rotation=upright.rotation @ turn) for turn in _OVERTURNED)
    found = (_aligned(start, points, targets, smooth, gradient) for start in starts)
    inside = _smooth_inside(moving)
    return max(_correlation_inside(moving, inside, motion) for motion in found)


@dataclass(frozen=True)
class _Motion:
    """Template point -> native point: size · rotation · (point - source_centre) + target_centre."""

    rotation: Matrix
    size: float
    source_centre: Points
    target_centre: Points

    @classmethod
    def of(cls, rigid_to_template: Matrix, source_centre: Points) -> _Motion:
        """Return the inverse of a rigid motion to the template, without growth."""
        back = np.asarray(np.linalg.inv(rigid_to_template), np.float64)
        return cls(back[:3, :3], 1.0, source_centre, apply_affine(back, source_centre))

    @classmethod
    def aligned(cls, alignment: Alignment) -> _Motion:
        """Return the motion that an alignment found, its size included."""
        rigid = cls.of(alignment.rigid_to_template, _centre(_coarse_template()))
        return replace(rigid, size=alignment.size)

    def apply(self, points: Points) -> Points:
        return self.size * (points - self.source_centre) @ self.rotation.T + self.target_centre

    def moved(self, step: Points) -> _Motion:
        """Compose with a small rotation (rad), shift (mm) and log size about the target centre."""
        turn = Rotation.from_rotvec(step[:3]).as_matrix()
        size = float(np.clip(self.size * np.exp(step[6]), *_SIZES))
        return _Motion(turn @ self.rotation, size, self.source_centre, self.target_centre + step[3:6])

    def rigid_to_template(self) -> Matrix:
        """Return native -> template without the size: the inverse of a rotation is its transpose."""
        matrix: Matrix = from_matvec(
            self.rotation.T, self.source_centre - self.rotation.T @ self.target_centre
        )
        return matrix


def _best_aligned(
    starts: Sequence[_Motion], points: Points, fixed: Volume, moving: Volume
) -> tuple[_Motion, float]:
    """Align from every start; the first result is kept unless another is clearly better."""
    targets = _sample(fixed, points)
    gradient = [moving.with_voxels(g / _ZOOM) for g in np.gradient(moving.voxels)]
    best, highest = starts[0], -np.inf
    for start in starts:
        motion = _aligned(start, points, targets, moving, gradient)
        similarity = float(np.corrcoef(targets, _sample(moving, motion.apply(points)))[0, 1])
        if similarity > highest + _CLEARLY:
            best, highest = motion, similarity
    return best, highest


def _aligned(
    motion: _Motion, points: Points, targets: Points, moving: Volume, gradient: Sequence[Volume]
) -> _Motion:
    for _ in range(_ITERATIONS):
        positions = motion.apply(points)
        slope = np.stack([_sample(g, positions) for g in gradient], axis=1)
        step = _gauss_newton_step(
            targets, _sample(moving, positions), slope, positions - motion.target_centre
        )
        motion = motion.moved(step / _STEP_UNITS)
        if np.abs(step).max() < _CONVERGED:
            break
    return motion


def _gauss_newton_step(targets: Points, value: Points, slope: Points, arm: Points) -> Points:
    """Solve targets ≈ gain · (value + slopeᵀ v) + offset for a small motion; return it in mm.

    A point at `arm` from the centre moves by v = ω × arm + shift + log size · arm. Gain times motion, gain
    and offset are the nine unknowns of a linear least-squares problem.
    """
    turn = np.cross(arm, slope)  # slope · (ω × arm) = ω · (arm × slope)
    grow = np.sum(slope * arm, axis=1)
    moves = np.column_stack([turn, slope, grow]) / _STEP_UNITS
    design = np.column_stack([moves, value, np.ones_like(value)])
    solution = np.linalg.solve(design.T @ design + _RIDGE * np.eye(9), design.T @ targets)
    step: Points = solution[:7] / max(solution[7], 0.1)
    return step * min(1.0, _LONGEST_STEP / max(float(np.abs(step).max()), _CONVERGED))


@cache
def _coarse_template() -> Volume:
    return _coarse_copy(template(), template_brain_mask())


def _coarse_copy(volume: Volume, brain_mask: BoolArray) -> Volume:
    """Return the brain, its mean 1, on an axis-aligned 3 mm grid of its world with a margin of background."""
    corners = apply_affine(volume.affine, _line_ends(brain_mask))
    low, high = corners.min(axis=0) - _MARGIN, corners.max(axis=0) + _MARGIN
    affine = from_matvec(np.diag([_ZOOM] * 3), low)
    i, j, k = (int(n) for n in np.ceil((high - low) / _ZOOM) + 1)
    brain, mask = resample_brain(volume, brain_mask, (i, j, k), affine)
    return Volume(brain / brain[mask].mean(), affine)


def _line_ends(mask: BoolArray) -> NDArray[np.intp]:
    """Return the first and the last voxel of a mask on each line along k, shape (n, 3)."""
    lines = np.argwhere(mask.any(axis=2))
    inside = mask[lines[:, 0], lines[:, 1]]
    ends = inside.argmax(axis=1), inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    return np.concatenate([np.column_stack([lines, end]) for end in ends])


def _points(volume: Volume, sigma: float, rng: np.random.Generator) -> Points:
    """Return one random point in each cell of a lattice over a volume, denser for smaller `sigma` (mm)."""
    spacing = 1.25 * sigma
    axes = [np.arange(0, size * _ZOOM - spacing, spacing) for size in volume.shape]
    corners = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    points: Points = volume.affine[:3, 3] + corners + rng.uniform(0, spacing, corners.shape)
    return points


def _centre(brain: Volume) -> Points:
    centre: Points = apply_affine(brain.affine, np.argwhere(brain.voxels != 0).mean(axis=0))
    return centre


def _correlation_inside(moving: Volume, smooth: Volume, motion: _Motion) -> float:
    """Return the correlation of a brain, `smooth` among its own voxels, with the template's inside both."""
    points, values = _template_inside()
    positions = motion.apply(points)
    inside = _sample(moving, positions) > 0
    pair = values[inside], _sample(smooth, positions[inside])
    return float(np.corrcoef(*pair)[0, 1]) if all(np.ptp(side) > 0 for side in pair) else 0.0


@cache
def _template_inside() -> tuple[Points, Points]:
    """Return points inside the template's brain, mm, and its smoothed intensities there."""
    fixed = _coarse_template()
    points = apply_affine(fixed.affine, np.argwhere(fixed.voxels > 0)[::_INSIDE])
    return points, _sample(_smooth_inside(fixed), points)


def _smooth_inside(brain: Volume) -> Volume:
    """Return a brain smoothed among its own voxels; background does not darken its rim."""
    sigma = _SMOOTHING[-1] / _ZOOM
    weight = gaussian_filter((brain.voxels > 0).astype(np.float32), sigma)
    return brain.with_voxels(gaussian_filter(brain.voxels, sigma) / np.maximum(weight, _FAINTEST_WEIGHT))


def _smooth(volume: Volume, sigma: float) -> Volume:
    return volume.with_voxels(gaussian_filter(volume.voxels, sigma / _ZOOM))


def _sample(volume: Volume, positions: Points) -> Points:
    voxels = apply_affine(np.linalg.inv(volume.affine), positions)
    return np.asarray(map_coordinates(volume.voxels, voxels.T, order=1), dtype=np.float64)

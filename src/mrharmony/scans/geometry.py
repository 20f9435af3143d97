"""Where a scan says that its voxels lie: the two forms of NIfTI, and what can be wrong with them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from nibabel.affines import from_matvec, obliquity, voxel_sizes
from numpy.typing import NDArray

from mrharmony.core.findings import Finding, error, info, warning
from mrharmony.core.volume import Matrix

# Forms that differ less than this anywhere in the field of view agree: it is rounding.
FORMS_TOLERANCE_MM = 0.1
# Smallest volume of a voxel relative to the product of its edges; below, its axes are coplanar.
SINGULAR = 1e-3
MIN_ZOOM_MM, MAX_ZOOM_MM = 0.1, 10.0
MAX_EXTENT_MM = 1000.0  # of the field of view along an axis; no scanner is wider
MAX_DISTANCE_MM = 10_000.0  # of the first voxel from the origin; no table moves farther
ZOOM_TOLERANCE = 0.01
ANISOTROPY = 2.0
OBLIQUE_DEGREES = 0.1
SHEAR_DEGREES = 0.5

_GEOMETRY = "Convert the scan again from its source, for instance with `dcm2niix`."
_REWRITTEN = "Outputs get both forms, the qform made from the sform."


@dataclass(frozen=True)
class Geometry:
    """What a header says about position and orientation.

    Forms map voxel indices to world millimetres, shape (4, 4); one that is set but makes no sense is full of
    NaN.
    """

    shape: tuple[int, int, int]
    zooms: tuple[float, float, float]  # voxel edge lengths in the header, repaired where there is an sform
    units: str  # of the zooms: `mm`, `unknown`, `meter` or `micron`
    sform: Matrix | None
    qform: Matrix | None

    @property
    def affine(self) -> Matrix | None:
        """The form that is used: the sform where it is set, otherwise the qform."""
        return self.qform if self.sform is None else self.sform

    @property
    def sound_affine(self) -> Matrix | None:
        """The same, or None where it cannot be inverted."""
        return self.affine if self.affine is not None and is_invertible(self.affine) else None


class FormDifference(NamedTuple):
    """How far two affines are apart."""

    millimetres: float  # between the two positions of the worst corner of the field of view
    degrees: float  # of the rotation between the two; meaningless where they mirror each other
    mirrored: bool


def is_invertible(affine: Matrix) -> bool:
    """Say whether an affine is finite and its axes span the space."""
    axes = affine[:3, :3]
    edges = float(np.prod(np.linalg.norm(axes, axis=0)))
    return bool(np.isfinite(affine).all()) and abs(np.linalg.det(axes)) > SINGULAR * edges > 0


def makes_sense(affine: Matrix) -> bool:
    """Say whether an affine is invertible and places the scan where a scanner can be."""
    return is_invertible(affine) and bool(np.abs(affine[:3, 3]).max() <= MAX_DISTANCE_MM)


def form_difference(sform: Matrix, qform: Matrix, shape: tuple[int, int, int]) -> FormDifference:
    """Compare two invertible affines, shape (4, 4), over a field of view of voxel counts `shape`."""
    edges = [(-0.5, size - 0.5) for size in shape]
    corners = np.array([(*corner, 1.0) for corner in itertools.product(*edges)])
    distances = np.linalg.norm(corners @ (sform - qform).T, axis=1)
    rotation = _rotation(sform) @ _rotation(qform).T
    cosine = np.clip((np.trace(rotation) - 1) / 2, -1, 1)
    return FormDifference(
        float(distances.max()), float(np.degrees(np.arccos(cosine))), bool(np.linalg.det(rotation) < 0)
    )


def _rotation(affine: Matrix) -> Matrix:
    """Return the orthogonal matrix closest to the axes of an affine (polar decomposition)."""
    left, _, right = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    return np.asarray(left @ right)


def forms_agree(geometry: Geometry) -> bool:
    """Say whether both forms are set and sound and lie within `FORMS_TOLERANCE_MM` of each other."""
    sform, qform = geometry.sform, geometry.qform
    if sform is None or qform is None or not (makes_sense(sform) and makes_sense(qform)):
        return False
    return form_difference(sform, qform, geometry.shape).millimetres <= FORMS_TOLERANCE_MM


def assumed_ras(geometry: Geometry) -> Matrix:
    """Return the affine whose voxel axes run to the right, anterior and superior, centred on the image."""
    centre = (np.array(geometry.shape) - 1) / 2
    zooms = np.array(geometry.zooms)
    return np.asarray(from_matvec(np.diag(zooms), -zooms * centre))


def check_affine(geometry: Geometry) -> Iterator[Finding]:
    """Find an affine that is not finite or maps the voxels onto a plane, a line or a point."""
    affine = geometry.affine
    if affine is None:
        return
    if not np.isfinite(affine).all():
        yield error("non-finite-affine", "The affine contains NaN or infinity, or is no rotation.", _GEOMETRY)
    elif not is_invertible(affine):
        yield error("singular-affine", "The affine is singular: voxel axes coincide or vanish.", _GEOMETRY)
    elif not makes_sense(affine):
        yield error(
            "far-away",
            f"The affine places the scan {np.abs(affine[:3, 3]).max() / 1000:.4g} m from the origin.",
            _GEOMETRY,
        )


def check_forms(geometry: Geometry) -> Iterator[Finding]:
    """Find an sform and a qform that place the scan differently."""
    sform, qform = geometry.sform, geometry.qform
    if sform is None or qform is None or not makes_sense(sform) or forms_agree(geometry):
        return
    if not makes_sense(qform):
        yield warning("bad-qform", "The qform makes no sense; the sform is used.", _REWRITTEN)
        return
    difference = form_difference(sform, qform, geometry.shape)
    turn = "they mirror each other" if difference.mirrored else f"turned by {difference.degrees:.2f}°"
    yield warning(
        "forms-disagree",
        f"sform and qform place the scan up to {difference.millimetres:.2f} mm apart ({turn}); "
        "the sform is used.",
        f"Check left and right in a viewer. {_REWRITTEN}" if difference.mirrored else _REWRITTEN,
    )


def check_zooms(geometry: Geometry) -> Iterator[Finding]:
    """Find voxel sizes that no head scan has, and zooms that contradict the affine."""
    header = np.array(geometry.zooms)
    if not _plausible(header):
        yield error(
            "bad-zooms",
            f"The header's voxel size is {_sizes(header)} {geometry.units}, outside "
            f"{MIN_ZOOM_MM:g} to {MAX_ZOOM_MM:g} mm.",
            _GEOMETRY,
        )
    if geometry.sound_affine is None:
        return
    zooms = voxel_sizes(geometry.sound_affine)
    if not _plausible(zooms):
        yield error("bad-zooms", f"The affine's voxel size is {_sizes(zooms)} mm.", _GEOMETRY)
    elif _plausible(header) and not np.allclose(zooms, header, rtol=ZOOM_TOLERANCE, atol=0):
        yield warning(
            "zooms-mismatch",
            f"The header's voxel size is {_sizes(header)} mm, the affine's {_sizes(zooms)} mm.",
            "The affine is used, the header's zooms are kept; check which tool wrote the header.",
        )
    extent = zooms * geometry.shape
    if extent.max() > MAX_EXTENT_MM:
        yield error(
            "too-large",
            f"The field of view is {_sizes(extent)} mm; no head scan is larger than {MAX_EXTENT_MM:,.0f} mm.",
            _GEOMETRY,
        )


def check_units(geometry: Geometry) -> Iterator[Finding]:
    """Find headers in metres or micrometres."""
    if geometry.units not in ("mm", "unknown"):
        yield warning(
            "odd-units",
            f"The header gives its unit of length as {geometry.units}; its numbers are read as millimetres.",
            "Check the voxel size that is reported.",
        )


def check_isotropy(geometry: Geometry) -> Iterator[Finding]:
    """Find voxels much longer than wide."""
    if geometry.sound_affine is None:
        return
    zooms = voxel_sizes(geometry.sound_affine)
    if zooms.max() > ANISOTROPY * zooms.min():
        yield warning(
            "anisotropic",
            f"Voxels of {_sizes(zooms)} mm: slices are much thicker than pixels.",
            "It is processed, but fine anatomy across slices is not in the scan.",
        )


def check_axes(geometry: Geometry) -> Iterator[Finding]:
    """Find axes that are oblique in the world, or not at right angles to each other."""
    affine = geometry.sound_affine
    if affine is None:
        return
    axes = affine[:3, :3] / voxel_sizes(affine)
    cosines = np.abs(axes.T @ axes)[np.triu_indices(3, 1)]
    shear = float(np.degrees(np.arcsin(min(1.0, cosines.max()))))
    if shear > SHEAR_DEGREES:
        yield warning(
            "sheared-affine",
            f"The voxel axes are up to {shear:.1f}° away from right angles.",
            "Gantry tilt and affine registration do that; give the scan before it, if you can.",
        )
    angle = float(np.degrees(obliquity(affine)).max())
    if angle > OBLIQUE_DEGREES:
        yield info("oblique", f"The voxel axes are up to {angle:.1f}° oblique; that is kept exactly.")


def check_orientation(assume_ras: bool, geometry: Geometry) -> Iterator[Finding]:
    """Find scans that do not say how they lie; only a warning if the user vouches that it is RAS."""
    if geometry.affine is not None:
        return
    message = "The header does not say which way the voxel axes run (sform and qform are not set)."
    if assume_ras:
        yield warning(
            "missing-affine",
            message,
            "They are assumed to run right, anterior and superior; the output's header leaves it open too.",
        )
    else:
        yield error(
            "missing-affine",
            message,
            "Convert the scan again, or harmonize it by itself with assume_ras=True if they run to the "
            "right, anterior and superior.",
        )


def _plausible(zooms: NDArray[np.float64]) -> bool:
    return bool(np.all((zooms >= MIN_ZOOM_MM) & (zooms <= MAX_ZOOM_MM)))


def _sizes(zooms: NDArray[np.float64]) -> str:
    return "×".join(f"{zoom:.4g}" for zoom in zooms)


GEOMETRY_CHECKS = (check_affine, check_forms, check_zooms, check_units, check_isotropy, check_axes)

"""Native scan to prepared scan, step by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, Matrix, Volume
from mrharmony.preparation.alignment import align_to_template
from mrharmony.preparation.brain_mask import LocatedBrain, locate_brain, mask_findings, valid_brain_mask
from mrharmony.preparation.foreseen import foreseen_faults
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.quality import MaskQuality, mask_quality, quality_findings
from mrharmony.preparation.receive_field import receive_field
from mrharmony.scans.reading import Scan, ScanSource, read_brain_mask
from mrharmony.space.intensity import intensity_scale
from mrharmony.space.resampling import array_from_ras, array_to_ras, to_ras

PREPARATION_FORMAT = "6"
"""Changes when preparation or the diffusion network changes; scans of another format are prepared again."""


def prepare_scan(
    volume: Volume,
    *,
    brain_mask: BoolArray | None = None,
    rigid_to_template: Matrix | None = None,
    seed: int = 0,
) -> PreparedScan:
    """Find a scan's brain, bias field, intensity scale and alignment.

    All is computed in RAS voxel order and returned in the scan's own, so a scan gives the same result in
    whichever order its voxels are stored.

    Parameters
    ----------
    volume
        T1w scan of a head or of a stripped brain, any voxel order, finite intensities.
    brain_mask
        Voxels of the brain, the scan's shape. Where it is not given the brain is found with deepbet; a scan
        that came skull-stripped keeps its own border.
    rigid_to_template
        Native world mm to template world mm, shape (4, 4), known from another scan of the same head in the
        same place; it is taken as it is. Estimated if not given.
    seed
        Seed of the points at which the alignment is estimated.

    Raises
    ------
    MrharmonyError
        Where the scan holds no plausible brain, or the mask is not one.
    """
    prepared, quality = prepare_with_quality(
        volume, brain_mask=brain_mask, rigid_to_template=rigid_to_template, seed=seed
    )
    judged = quality_findings(quality, given=brain_mask is not None)
    return replace(prepared, findings=prepared.findings + judged)


def prepare_beside(
    scan: Scan, mask: ScanSource | None, *, rigid_to_template: Matrix | None = None, seed: int = 0
) -> PreparedScan:
    """Prepare a scan as `prepare_scan` does, with the brain mask in a file or image on its grid, if any.

    Raises as `prepare_scan`, and `ScanRefused` where the mask is broken or cannot be the brain.
    """
    brain_mask, odd = read_brain_mask(mask, scan) if mask is not None else (None, ())
    prepared = prepare_scan(
        scan.volume, brain_mask=brain_mask, rigid_to_template=rigid_to_template, seed=seed
    )
    return replace(prepared, findings=odd + prepared.findings)


def prepare_with_quality(
    volume: Volume,
    *,
    brain_mask: BoolArray | None = None,
    rigid_to_template: Matrix | None = None,
    seed: int = 0,
) -> tuple[PreparedScan, MaskQuality]:
    """Prepare a scan as `prepare_scan` does, but return the figures of its brain instead of checking them."""
    _refuse_unusable(volume, searched=brain_mask is None)
    ras = to_ras(volume)
    given = None if brain_mask is None else array_to_ras(valid_brain_mask(volume, brain_mask), volume)
    brain = locate_brain(ras, given, seed)
    if rigid_to_template is None:
        rigid_to_template = _rigid_motion(ras, brain, seed)
    bias_field = receive_field(ras, brain.mask, rigid_to_template)
    corrected = ras.with_voxels(ras.voxels / bias_field)
    alignment = align_to_template(corrected, brain.mask, seed, rigid_to_template)
    prepared = PreparedScan(
        native=volume,
        brain_mask=array_from_ras(brain.mask, volume),
        bias_field=array_from_ras(bias_field, volume),
        rigid_to_template=rigid_to_template,
        scale=intensity_scale(corrected.voxels[brain.mask]),
        skull_stripped=brain.skull_stripped,
        findings=mask_findings(brain.mask),
        size=alignment.size,
    )
    return prepared, mask_quality(corrected, brain.mask, alignment)


def _rigid_motion(volume: Volume, brain: LocatedBrain, seed: int) -> Matrix:
    """Align a brain with its receive field in it, then again with a rough estimate of the field removed."""
    start = (brain.alignment or align_to_template(volume, brain.mask, seed)).rigid_to_template
    even = volume.with_voxels(volume.voxels / receive_field(volume, brain.mask, start, passes=1))
    return align_to_template(even, brain.mask, seed, start).rigid_to_template


def _refuse_unusable(volume: Volume, *, searched: bool) -> None:
    """Raise `MrharmonyError` for what is seen without the brain; more where that is to be `searched`."""
    if not np.isfinite(volume.voxels).all():
        raise MrharmonyError("the scan has NaN or infinite voxels: export or convert it again.")
    if np.ptp(volume.voxels) == 0:
        raise MrharmonyError("all voxels of the scan have the same value: export it again.")
    if fault := next(foreseen_faults(volume), None) if searched else None:
        raise MrharmonyError(f"{fault.message} {fault.fix}")

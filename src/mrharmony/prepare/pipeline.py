"""Native scan to prepared scan, step by step."""

from __future__ import annotations

import numpy as np

from mrharmony.prepare.bias_field import estimate_bias_field
from mrharmony.prepare.brain_mask import check_brain_mask, find_brain, stripped_brain
from mrharmony.prepare.intensity import intensity_scale
from mrharmony.prepare.posture import estimate_posture
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.prepare.voxel_order import array_from_ras, array_to_ras, to_ras
from mrharmony.volume import BoolArray, Finding, MrharmonyError, Volume


def prepare_scan(volume: Volume, *, brain_mask: BoolArray | None = None, seed: int = 0) -> PreparedScan:
    """Prepare a scan: brain mask, bias field, intensity scale, posture.

    Parameters
    ----------
    volume
        T1w scan of a head or of a stripped brain, any voxel order, finite intensities.
    brain_mask
        Voxels of the brain, the scan's shape; found where it is not given.
    seed
        Seed of the registration's sampled points.

    Raises
    ------
    MrharmonyError
        Where the scan holds no plausible brain.
    """
    _refuse_unusable(volume)
    ras = to_ras(volume)
    given = None if brain_mask is None else array_to_ras(check_brain_mask(volume, brain_mask), volume)
    stripped = stripped_brain(ras)
    mask = check_brain_mask(ras, next((m for m in (given, stripped) if m is not None), None) if (given is not None or stripped is not None) else find_brain(ras))
    bias_field = estimate_bias_field(ras, mask)
    corrected = ras.with_voxels(ras.voxels / bias_field)
    scale = intensity_scale(corrected.voxels[mask])
    posture = estimate_posture(corrected, mask, seed)
    return PreparedScan(
        native=volume,
        brain_mask=array_from_ras(mask, volume),
        bias_field=array_from_ras(bias_field, volume),
        posture=posture,
        scale=scale,
        skull_stripped=stripped is not None,
        findings=_findings(mask),
    )


def _refuse_unusable(volume: Volume) -> None:
    if not np.isfinite(volume.voxels).all():
        raise MrharmonyError("the scan has NaN or infinite voxels: repair or re-export it.")
    if np.ptp(volume.voxels) == 0:
        raise MrharmonyError("all voxels of the scan have the same value: export it again.")


def _findings(brain_mask: BoolArray) -> tuple[Finding, ...]:
    return ()

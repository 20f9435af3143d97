"""Which series of an examination is the T1w scan: by its name, or else by how it was acquired."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from mrharmony.scans.acquisition import NAMED_T1, contrast_agent, named_with_agent, number_of

_NAMED_OTHER = re.compile(
    r"t2|flair|dark.?fluid|dwi|dti|diff|adc\b|trace|bold|fmri|ep2d|\bepi\b|\bswi\b|\basl\b|perf|tof\b|angio|mra\b|"
    r"field.?map|loc(ali[sz]er)?\b|scout|survey|inv-?[12]\b|mip\b",
    re.IGNORECASE,
)
_NAMES = ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
_DERIVED_TYPES = frozenset({"P", "PHASE", "MIP", "PROJECTION IMAGE", "CSA MPR", "T1 MAP", "LOCALIZER"})
THICKEST = 3.5  # mm, of voxels
_SMALLEST_EXTENT = 90.0  # mm; less is not a whole brain
_LONGEST_ECHO = 0.010  # s; beyond it gradient echoes are T2*-weighted
_LONGEST_SPOILED_TR = 0.060  # s
_SMALLEST_FLIP = 8.0  # degrees; below it a spoiled gradient echo without inversion is proton-density-weighted


class Candidate(NamedTuple):
    """What decides whether a series is the T1w scan of a whole brain."""

    sidecar: dict[str, Any]  # of dcm2niix
    shape: Sequence[int]  # voxel counts, of all axes
    zooms: Sequence[float]  # voxel edges, mm


def likely_t1w(series: Sequence[Candidate]) -> list[int]:
    """Return which series are likely T1w scans of a whole brain.

    Series with such a name (MPRAGE, SPGR, BRAVO, T1 …) count; only where there is none, those acquired like
    one: 3D gradient echo, short echo, with an inversion or a short repetition and a large flip angle. Scans
    after contrast agent and scans of other names never count; original images are preferred to derived ones.
    Their positions in `series` are none or several where it is unclear.
    """
    usable = [k for k, one in enumerate(series) if _is_whole_brain(one) and not _is_other(one.sidecar)]
    named = [k for k in usable if NAMED_T1.search(_name(series[k].sidecar))]
    likely = named or [k for k in usable if _acquired_as_t1w(series[k].sidecar)]
    original = [k for k in likely if "DERIVED" not in _image_type(series[k].sidecar)]
    return original or likely


def _is_whole_brain(series: Candidate) -> bool:
    shape, zooms = series.shape, series.zooms
    if len(shape) < 3 or any(size > 1 for size in shape[3:]) or max(zooms[:3]) > THICKEST:
        return False
    return min(size * zoom for size, zoom in zip(shape[:3], zooms[:3], strict=True)) >= _SMALLEST_EXTENT


def _is_other(sidecar: dict[str, Any]) -> bool:
    return bool(
        contrast_agent(sidecar)
        or named_with_agent(sidecar, *_NAMES)
        or _NAMED_OTHER.search(_name(sidecar))
        or _DERIVED_TYPES & _image_type(sidecar)
        or sidecar.get("Modality", "MR") != "MR"
    )


def _acquired_as_t1w(sidecar: dict[str, Any]) -> bool:
    sequence = sidecar.get("ScanningSequence", "")
    if "GR" not in sequence or sidecar.get("MRAcquisitionType") != "3D":
        return False
    if (number_of(sidecar, "EchoTime") or 1) > _LONGEST_ECHO:
        return False
    if "IR" in sequence or "InversionTime" in sidecar:
        return True
    short = (number_of(sidecar, "RepetitionTime") or 1) <= _LONGEST_SPOILED_TR
    return short and (number_of(sidecar, "FlipAngle") or 0) >= _SMALLEST_FLIP


def _name(sidecar: dict[str, Any]) -> str:
    # Underscores are letters to \b, but t1_mprage_post has to match as three words.
    return " ".join(str(sidecar.get(key, "")) for key in _NAMES).replace("_", " ")


def _image_type(sidecar: dict[str, Any]) -> frozenset[str]:
    return frozenset(str(part).upper() for part in sidecar.get("ImageType", ()))

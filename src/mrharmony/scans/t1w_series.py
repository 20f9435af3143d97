"""Which series of an examination is the T1w scan: by its name, or else by how it was taken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_NAMED_T1 = re.compile(r"t1(?!rho|.?map)|mp.?rage|mp2rage|spgr|bravo|tfl|3d.?tfe|fspgr", re.IGNORECASE)
_NAMED_OTHER = re.compile(
    r"t2|flair|dark.?fluid|dwi|dti|diff|adc\b|trace|bold|fmri|ep2d|\bepi\b|\bswi\b|\basl\b|perf|tof\b|angio|mra\b|"
    r"field.?map|loc(ali[sz]er)?\b|scout|survey|inv-?[12]\b|mip\b|\bpost\b|contrast|\bgad|\bgd\b|\+c\b",
    re.IGNORECASE,
)
_NAMES = ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
_DERIVED_TYPES = frozenset({"P", "PHASE", "MIP", "PROJECTION IMAGE", "CSA MPR", "T1 MAP", "LOCALIZER"})
_THICKEST = 3.5  # mm
_SMALLEST_EXTENT = 90.0  # mm; less is not a whole brain
_LONGEST_ECHO = 0.010  # s; beyond it gradient echoes are T2*-weighted
_LONGEST_SPOILED_TR = 0.060  # s
_SMALLEST_FLIP = 8.0  # degrees; below it a spoiled gradient echo without inversion is proton-density-weighted

Series = tuple[dict[str, Any], Sequence[int], Sequence[float]]


def likely_t1w(series: Sequence[Series]) -> list[int]:
    """Return which series are likely T1w scans of a whole brain.

    Those named so (MPRAGE, SPGR, BRAVO, T1 …) count; only where none is, those taken so: 3D gradient echo,
    short echo, with an inversion or a short repetition and a large flip angle. Scans after contrast agent
    and scans of other names never count; original images are preferred to derived ones.

    Parameters
    ----------
    series
        dcm2niix's sidecar, voxel counts and voxel edges (mm) of each.

    Returns
    -------
    Positions in `series`; none or several where it is not clear.
    """
    usable = [number for number, one in enumerate(series) if _is_whole_brain(one) and not _is_other(one[0])]
    named = [number for number in usable if _NAMED_T1.search(_name(series[number][0]))]
    likely = named or [number for number in usable if _taken_as_t1w(series[number][0])]
    original = [number for number in likely if "DERIVED" not in _image_type(series[number][0])]
    return original or likely


def _is_whole_brain(series: Series) -> bool:
    _, shape, zooms = series
    if len(shape) < 3 or any(size > 1 for size in shape[3:]) or max(zooms[:3]) > _THICKEST:
        return False
    return min(size * zoom for size, zoom in zip(shape[:3], zooms[:3], strict=True)) >= _SMALLEST_EXTENT


def _is_other(sidecar: dict[str, Any]) -> bool:
    contrast_agent = bool(sidecar.get("ContrastBolusIngredient"))
    return contrast_agent or bool(
        _NAMED_OTHER.search(_name(sidecar)) or _DERIVED_TYPES & _image_type(sidecar)
    )


def _taken_as_t1w(sidecar: dict[str, Any]) -> bool:
    sequence = sidecar.get("ScanningSequence", "")
    if "GR" not in sequence or sidecar.get("MRAcquisitionType") != "3D":
        return False
    if float(sidecar.get("EchoTime", 1)) > _LONGEST_ECHO:
        return False
    if "IR" in sequence or "InversionTime" in sidecar:
        return True
    short = float(sidecar.get("RepetitionTime", 1)) <= _LONGEST_SPOILED_TR
    return short and float(sidecar.get("FlipAngle", 0)) >= _SMALLEST_FLIP


def _name(sidecar: dict[str, Any]) -> str:
    # Underscores are letters to \b: t1_mprage_post shall end a word at each.
    return " ".join(str(sidecar.get(key, "")) for key in _NAMES).replace("_", " ")


def _image_type(sidecar: dict[str, Any]) -> frozenset[str]:
    return frozenset(str(part).upper() for part in sidecar.get("ImageType", ()))

"""The work of `mrharmony harmonize`: scans and DICOM folders, one after the other."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from mrharmony.core.atomic import require_writable
from mrharmony.core.progress import track
from mrharmony.jobs.conversions import convert_planned
from mrharmony.jobs.harmonizing import (
    HarmonizeJob,
    Outcome,
    harmonize_scan,
    refused_scan,
    require_same_scan,
    require_same_settings,
)
from mrharmony.scans.folders import is_kind


def harmonize_singly(
    job: HarmonizeJob,
    results: Mapping[Path, Path],
    conversions: Mapping[Path, Path],
    series: str | None = None,
    mask: Path | None = None,
) -> list[Outcome]:
    """Harmonize scans; one that is refused, or cannot be converted, does not stop the others.

    Parameters
    ----------
    job
        What is done with each.
    results
        Where the result of each scan goes.
    conversions, series
        The scans that are to be converted first, each with its DICOM folder, and which series of these; as in
        `convert_planned`.
    mask
        Brain mask of the only scan.

    Raises
    ------
    MrharmonyError
        A result was made with other settings or of another scan and may not be replaced, a series is chosen
        without a DICOM folder, or a folder of results cannot be written; no scan is harmonized then.
    """
    for scan, result in results.items():
        if scan in conversions or is_kind(scan, stat.S_ISREG):  # else its absence is what matters
            require_same_settings(job, result)
            require_same_scan(job, scan, result)
    failed = convert_planned(conversions, series)
    for folder in dict.fromkeys(result.parent for result in results.values()):
        require_writable(folder)
    return [
        refused_scan(conversions[scan], failed[scan])
        if scan in failed
        else harmonize_scan(job, scan, result, mask)
        for scan, result in track(results.items(), "harmonizing")
    ]

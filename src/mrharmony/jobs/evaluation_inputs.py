"""The scans that evaluators judge: prepared alike, harmonized ones as they are, refused ones set aside."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.brains import (
    ScanFile,
    load_brain,
    on_one_grid,
    prepare_positions,
    prepare_together,
    require_some,
)
from mrharmony.jobs.harmonizing import reason_of
from mrharmony.prepare.canonical import CanonicalBrain
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.prepare.saved import read_note
from mrharmony.scans.bids import SESSION, BidsIndex, BidsScan
from mrharmony.scans.names import output_stem, sidecar_path
from mrharmony.simulate.cohort_files import true_brain
from mrharmony.space.grid import Grid

ZOOM = 2.0  # mm, of the template grid that brains are compared on


@dataclass(frozen=True)
class JudgedScans:
    """The scans of a data set that could be prepared.

    Parameters
    ----------
    scans, brains
        In the same order.
    raw
        The brains before harmonization, in the same order; None where not asked for.
    refused
        File names of the others, and why.
    """

    scans: list[BidsScan]
    brains: list[CanonicalBrain]
    raw: list[CanonicalBrain] | None
    refused: dict[str, str]


def scans_of(index: BidsIndex, only: Sequence[str]) -> list[BidsScan]:
    """Return the scans of some domains, or of all.

    Raises
    ------
    MrharmonyError
        If there is none.
    """
    scans = [scan for scan in index.scans if scan.domain and (not only or scan.domain in only)]
    if not scans:
        raise MrharmonyError(f"{index.root}: no scans of {', '.join(only) or 'a known domain'}.")
    return scans


def judged_scans(
    index: BidsIndex,
    scans: Sequence[BidsScan],
    raw: Path | None = None,
    workers: int | None = None,
    prepared: Path | None = None,
) -> JudgedScans:
    """Prepare scans of a data set.

    Parameters
    ----------
    index, scans
        The data set, and which of its scans. Virtual heads are cut out by their true brain mask.
    raw
        The data set that was harmonized into this one, to prepare the scans before harmonization too. Each
        gives its harmonized scan the alignment and the brain mask.
    workers
        Processes; as many as there are usable cores if not given.
    prepared
        Folder of `mrharmony prepare` with the scans before harmonization in it; prepared here if None.

    Raises
    ------
    MrharmonyError
        If a scan has none before harmonization in `raw`, or all were refused.
    """
    befores = _raw_scans(scans, raw, prepared) if raw else [[] for _ in scans]
    judged = [judged_file(index.root, scan, prepared) for scan in scans]
    groups = [[*before, file] for file, before in zip(judged, befores, strict=True)]
    grid = Grid.working(ZOOM)
    with tempfile.TemporaryDirectory() as cache:
        files, refused = prepare_positions(groups, grid, Path(cache), workers)
        done = [number for number, group in enumerate(groups) if all(file.path in files for file in group)]
        brains = [[load_brain(files[file.path], grid) for file in groups[number]] for number in done]
    require_some(done, refused)
    reasons = {path.name: reason for path, reason in refused.items()}
    before = [group[0] for group in brains] if raw else None
    return JudgedScans([scans[number] for number in done], [group[-1] for group in brains], before, reasons)


def judged_file(root: Path, scan: BidsScan, prepared: Path | None = None) -> ScanFile:
    """Return a scan with the true brain of its virtual head, where its data set has one."""
    return evaluated_file(scan.path, true_brain(root, scan.subject), prepared)


def evaluated_file(scan: Path, mask: Path | None = None, prepared: Path | None = None) -> ScanFile:
    """Return a scan as an evaluation prepares it; one that mrharmony harmonized is known by its sidecar.

    The intensities of such a scan are taken as they are, so that no wrong gain or shading of the method is
    taken away before it is scored; mask and alignment are those of the scan that it was made of.

    Parameters
    ----------
    scan, mask
        The scan, and its brain mask if one is given.
    prepared
        Folder of `mrharmony prepare` with the scan, or the one that it was made of, in it; None for none.
    """
    note = _harmonization(scan)
    scale, sources = note.get("IntensityScale"), note.get("Sources")
    usable = isinstance(scale, int | float) and math.isfinite(scale) and scale > 0
    if not (scale and usable):
        return ScanFile(scan, mask, prepared=prepared)
    origin = scan.parent / str(sources[0]) if prepared and isinstance(sources, list) and sources else None
    return ScanFile(scan, mask, float(scale), prepared, origin)


def _harmonization(scan: Path) -> dict[str, Any]:
    """Return the sidecar of a scan that mrharmony harmonized, nothing for any other scan."""
    note = read_note(sidecar_path(scan))
    return note if "Method" in note else {}


def prepared_alone(file: ScanFile) -> PreparedScan:
    """Prepare a scan.

    Raises
    ------
    MrharmonyError
        If it is refused.
    """
    (prepared,) = _prepared([file])
    return prepared


def prepared_on_one_grid(
    paths: Sequence[Path], mask: Path | None, prepared: Path | None = None
) -> list[PreparedScan]:
    """Prepare scans of one head on one grid, all with alignment and brain mask of the first.

    Parameters
    ----------
    paths
        The scans.
    mask, prepared
        Brain mask on their grid, or folder of `mrharmony prepare`; both None to find the brain here.

    Raises
    ------
    MrharmonyError
        If one is refused or lies on another grid.
    """
    first, *others = _prepared([evaluated_file(path, mask, prepared) for path in paths])
    for path, other in zip(paths[1:], others, strict=True):
        if not on_one_grid(first.native, other.native):
            raise MrharmonyError(
                f"{path}: lies on another grid than {paths[0]}. Register and resample one of them first."
            )
    return [first, *others]


def _prepared(files: Sequence[ScanFile]) -> list[PreparedScan]:
    """Prepare scans of one head; raises the first refusal."""
    done = []
    for file, prepared in zip(files, prepare_together(files), strict=True):
        if isinstance(prepared, MrharmonyError):
            raise MrharmonyError(reason_of(prepared, file.path))
        done.append(prepared)
    return done


def _raw_scans(scans: Sequence[BidsScan], raw: Path, prepared: Path | None) -> list[list[ScanFile]]:
    """Return each harmonized scan's own before harmonization, found by its name without `desc-`."""
    index = BidsIndex.open(raw, SESSION)
    known = {_undescribed(scan.path): judged_file(raw, scan, prepared) for scan in index.scans}
    for scan in scans:
        if _undescribed(scan.path) not in known:
            raise MrharmonyError(
                f"{raw}: has no scan {_undescribed(scan.path)}_T1w that {scan.path.name} was made of. "
                "Give the data set that was harmonized."
            )
    return [[known[_undescribed(scan.path)]] for scan in scans]


def _undescribed(scan: Path) -> str:
    return "_".join(part for part in output_stem(scan).split("_") if not part.startswith("desc-"))

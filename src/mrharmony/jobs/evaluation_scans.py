"""The scans of an evaluation: which they are, and how they are prepared alike."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.hashing import file_sha256
from mrharmony.core.temporaries import temporary_folder
from mrharmony.jobs.brains import (
    ScanFile,
    load_brain,
    on_one_grid,
    prepare_positions,
    prepare_together,
    reasons_by_name,
    require_some,
)
from mrharmony.jobs.harmonizing import earlier_result, reason_of
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.scans.bids import BidsIndex, BidsScan
from mrharmony.scans.names import output_stem, sidecar_path
from mrharmony.scans.sidecar import OTHER_IMAGE, read_harmonized, source_file
from mrharmony.scans.voxels import MANY_VALUED_CODE
from mrharmony.simulate.cohort_files import true_brain
from mrharmony.space.grid import Grid

ZOOM = 2.0  # mm, of the template grid that brains are compared on


@dataclass(frozen=True)
class EvaluationScans:
    """The scans of a data set that could be prepared."""

    scans: list[BidsScan]
    brains: list[CanonicalBrain]  # in the order of the scans
    raw: list[CanonicalBrain] | None  # before harmonization, in the same order; None where not asked for
    refused: dict[str, str]  # file names of the others, and why


def evaluation_scans(
    index: BidsIndex,
    scans: Sequence[BidsScan],
    raw: Path | None = None,
    workers: int | None = None,
    prepared: Path | None = None,
) -> EvaluationScans:
    """Prepare scans of a data set; virtual heads are cut out by their true brain mask.

    `raw` is the data set that was harmonized into this one, to prepare the scans before harmonization too:
    each gives its harmonized scan the alignment and the brain mask. Scans before harmonization are taken from
    the folder `prepared` if given. Raises `MrharmonyError` if one is missing in `raw`, or all were refused.
    """
    befores = _raw_scans(scans, raw, prepared) if raw else [[] for _ in scans]
    files, refused = scan_files(index.root, scans, prepared)
    groups = {
        number: [*before, files[scan.path]]
        for number, (scan, before) in enumerate(zip(scans, befores, strict=True))
        if scan.path in files
    }
    grid = Grid.working(ZOOM)
    with temporary_folder() as cache:
        ready, faults = prepare_positions(list(groups.values()), grid, cache, workers)
        brains = {
            number: [load_brain(ready[file.path], grid) for file in group]
            for number, group in groups.items()
            if all(file.path in ready for file in group)
        }
    refused |= faults
    require_some(list(brains), refused)
    refused |= index.refused
    return EvaluationScans(
        [scans[number] for number in brains],
        [group[-1] for group in brains.values()],
        [group[0] for group in brains.values()] if raw else None,
        reasons_by_name(refused),
    )


def scan_files(
    root: Path, scans: Sequence[BidsScan], prepared: Path | None = None
) -> tuple[dict[Path, ScanFile], dict[Path, str]]:
    """Return how each scan is prepared, cut out by its virtual head's true brain, and why others are not.

    A harmonized scan that was made of a scan of another name is told on standard error.
    """
    files, refused = {}, {}
    for scan in scans:
        try:
            _tell_of_another(scan.path)
            files[scan.path] = scan_file(scan.path, true_brain(root, scan.subject), prepared)
        except MrharmonyError as error:
            refused[scan.path] = str(error)
    return files, refused


def _tell_of_another(scan: Path) -> None:
    """Say so where a harmonized scan was made of a scan of another name."""
    note = read_harmonized(sidecar_path(scan))
    origin = Path(note.sources[0]) if note and note.sources else scan
    if _undescribed(origin) != _undescribed(scan):
        told = f"its JSON file says that it was made of {origin.name}; it counts as what its own name says."
        print(f"{scan}: {told}", file=sys.stderr)


def scan_file(scan: Path, mask: Path | None = None, prepared: Path | None = None) -> ScanFile:
    """Return how an evaluation prepares a scan; one that mrharmony harmonized is known by its sidecar.

    The intensities of such a scan are taken as they are, so that no wrong gain or shading of the method is
    taken away before it is scored; mask and alignment are those of the scan that it was made of, where that
    is in the folder `prepared`. Raises `MrharmonyError` if such a sidecar is damaged, or was written with
    another image.
    """
    note = read_harmonized(sidecar_path(scan))
    if note is None:
        return ScanFile(scan, mask, prepared=prepared)
    if note.image_sha256 != file_sha256(scan):
        raise MrharmonyError(f"{scan}: {OTHER_IMAGE}")
    origin = source_file(scan, note) if prepared else None
    return ScanFile(scan, mask, note.intensity_scale, prepared, origin)


def prepared_alone(file: ScanFile) -> PreparedScan:
    """Prepare one scan; raises `MrharmonyError` if it is refused."""
    (prepared,) = _prepared([file])
    return prepared


def prepared_on_one_grid(
    paths: Sequence[Path], mask: Path | None, prepared: Path | None = None
) -> list[PreparedScan]:
    """Prepare scans of one head on one grid, all with alignment and brain mask of the first.

    The brain is that of `mask` on their grid, or the saved one of the folder `prepared`, or else found here.
    Raises `MrharmonyError` if a scan is refused or lies on another grid.
    """
    first, *others = _prepared([scan_file(path, mask, prepared) for path in paths])
    for finding in (found for found in first.findings if found.code == MANY_VALUED_CODE):
        print(f"{finding.message} {finding.fix}", file=sys.stderr)
    for path, other in zip(paths[1:], others, strict=True):
        if not on_one_grid(first.native, other.native):
            raise MrharmonyError(f"{path}: lies on another grid than {paths[0]}. Register and resample one.")
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
    index = BidsIndex.open(raw, None)
    known = {_undescribed(scan.path): scan for scan in index.scans}
    if result := next((scan.path for scan in index.scans if earlier_result(scan.path)), None):
        raise MrharmonyError(
            f"{raw}: holds results of mrharmony, such as {result.name}, and no scans before harmonization. "
            "Give the data set that was harmonized."
        )
    befores = []
    for scan in scans:
        name = _undescribed(scan.path)
        if name not in known:
            missing = f"{raw}: has no scan {name}_T1w that {scan.path.name} was made of."
            fault = MrharmonyError(f"{missing} Give the data set that was harmonized.")
            raise next(iter(index.closed), fault)
        befores.append([scan_file(known[name].path, true_brain(raw, known[name].subject), prepared)])
    return befores


def _undescribed(scan: Path) -> str:
    return "_".join(part for part in output_stem(scan).split("_") if not part.startswith("desc-"))

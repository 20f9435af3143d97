"""Preparing the scans of a data set once: canonical brains on a working grid, kept for the next run."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import is_zipfile

import numpy as np

from mrharmony.core.atomic import kept_arrays, make_folder, write_arrays
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.hashing import file_sha256
from mrharmony.core.pointers import real_path
from mrharmony.core.progress import track
from mrharmony.core.volume import Matrix, Volume
from mrharmony.core.workers import side_by_side, usable_cores
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.preparation.pipeline import PREPARATION_FORMAT, prepare_beside
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.saved import VERSION, PreparedFiles, read_prepared, why_not_usable
from mrharmony.scans.reading import Scan, read_scan
from mrharmony.space.grid import Grid

_FILE_FORMAT = 2  # of the cache: the voxels of the brain alone
_DAMAGED = "this prepared brain was damaged since it was kept. Move the file away, and call again."


@dataclass(frozen=True)
class ScanFile:
    """A scan to prepare.

    `scale`, the intensity of 1 canonical unit, is known of harmonized scans: their intensities are taken as
    they are, without looking for a bias field and a scale. Where `prepared`, a folder of `mrharmony prepare`,
    is given, what is saved there is taken, and `mask` only says that the head is virtual; `origin` is the
    scan in that folder that this one was harmonized from, on the same grid. `volume_corrected` grows the
    brain to the template's size.
    """

    path: Path
    mask: Path | None = None
    scale: float | None = None
    prepared: Path | None = None
    origin: Path | None = None
    volume_corrected: bool = False

    @property
    def saved(self) -> PreparedFiles | None:
        """Where the preparation lies that is taken; None where the scan is prepared here."""
        return PreparedFiles.of(self.origin or self.path, self.prepared) if self.prepared else None


_Job = tuple[Sequence[ScanFile], Grid, Sequence[Path]]  # a group, and the file of each brain


def prepare_brains(
    scans: Sequence[Path], grid: Grid, cache: Path, workers: int | None = None, prepared: Path | None = None
) -> tuple[dict[Path, CanonicalBrain], dict[Path, str]]:
    """Prepare scans in parallel; what an earlier call has finished is read from the cache.

    Parameters
    ----------
    scans, grid
        Scan files, and the working grid of their brains.
    cache
        Directory of finished brains, made if missing.
    workers
        Processes, one a usable core if None. A single one is this process itself.
    prepared
        Folder of `mrharmony prepare` with the scans in it; they are prepared here if None.

    Returns
    -------
    The brains, and for the scans that were refused the reason.
    """
    positions = [(ScanFile(scan, prepared=prepared),) for scan in scans]
    files, refused = prepare_positions(positions, grid, cache, workers)
    return {scan: load_brain(file, grid) for scan, file in files.items()}, refused


def prepare_positions(
    positions: Sequence[Sequence[ScanFile]], grid: Grid, cache: Path, workers: int | None = None
) -> tuple[dict[Path, Path], dict[Path, str]]:
    """Prepare scans that share a head's position, without reading the brains into memory.

    The scans of a group in `positions` show the same head in the same place: those on the grid of the group's
    first scan get its alignment and brain mask, so that their brains lie voxel on voxel. The other arguments
    are those of `prepare_brains`. Returns each brain's file (see `load_brain`), and why others were refused.
    """
    make_folder(cache)
    files = {scan: cache / f"{_key(scan, group[0], grid)}.npz" for group in positions for scan in group}
    missing = [group for group in positions if not all(is_zipfile(files[scan]) for scan in group)]
    refused: dict[Path, str] = {}
    jobs: list[_Job] = [(group, grid, [files[scan] for scan in group]) for group in missing]
    outcomes = side_by_side(_prepare, jobs, min(workers or usable_cores(), len(jobs)))
    for outcome in track(outcomes, "preparing", len(positions), len(positions) - len(missing)):
        refused |= outcome
    return {scan.path: file for scan, file in files.items() if scan.path not in refused}, refused


def by_position(scans: Iterable[tuple[str, ScanFile]]) -> list[list[ScanFile]]:
    """Group scans, given with their subjects, by the head's position, as `prepare_positions` takes them.

    Scans with the true brain of a virtual head lie where that head lies; every other scan by itself.
    """
    groups: dict[str, list[ScanFile]] = {}
    for subject, scan in scans:
        groups.setdefault(subject if scan.mask else str(scan.path), []).append(scan)
    return list(groups.values())


def load_brain(file: Path, grid: Grid) -> CanonicalBrain:
    """Read a brain that `prepare_positions` wrote; raises `MrharmonyError` where it was damaged since."""
    with kept_arrays(file, _DAMAGED) as archive:
        bits = np.unpackbits(archive["mask"], count=math.prod(grid.shape))
        mask = bits.reshape(grid.shape).astype(bool)
        voxels = np.zeros(grid.shape, np.float32)
        voxels[mask] = archive["brain"]
        return CanonicalBrain(Volume(voxels, grid.affine), mask, float(archive["scale"]))


def require_some(accepted: Sequence[object], refused: Mapping[Path, str]) -> None:
    """Raise `MrharmonyError` with the first reason where no scan was accepted."""
    if not accepted and refused:
        path, reason = next(iter(refused.items()))
        named = reason if path.name in reason else f"{path.name}: {reason}"
        raise MrharmonyError(f"none of the scans could be used; {named}")


def reasons_by_name(refused: Mapping[Path, str]) -> dict[str, str]:
    """Return why scans were refused, by their file names; by their whole paths where two share a name."""
    names = Counter(path.name for path in refused)
    return {path.name if names[path.name] == 1 else str(path): reason for path, reason in refused.items()}


def _key(scan: ScanFile, first: ScanFile, grid: Grid) -> str:
    """Return a name that changes with the files' place, size and time, and with the grid."""
    files = [path for path in (scan.path, scan.mask, scan.origin, first.path, first.origin) if path]
    saved = [file for one in (scan, first) if one.saved for file in one.saved.needed]
    parts = [_state(path) for path in (*files, *saved)]
    grown = "volume-corrected" if scan.volume_corrected else None
    more = filter(None, [scan.scale, VERSION if saved else None, grown])
    decisive = (PREPARATION_FORMAT, _FILE_FORMAT, parts, grid.shape, grid.affine.tolist(), *more)
    return hashlib.sha256(repr(decisive).encode()).hexdigest()[:32]


def _state(path: Path) -> tuple[object, ...]:
    """Return a file's place, and its size and time if it is there."""
    try:
        return real_path(path), path.stat().st_size, path.stat().st_mtime_ns
    except OSError:
        return (path,)


def prepared_scan(file: ScanFile, scan: Scan, rigid_to_template: Matrix | None = None) -> PreparedScan:
    """Read a scan's preparation where it is saved, or else prepare the scan; every command goes this way.

    `rigid_to_template` is the alignment of another scan of the head in the same place, for scans prepared
    here. Raises `MrharmonyError` if the scan holds no plausible brain, is not prepared in its folder, or has
    changed since.
    """
    if file.saved is None:
        return prepare_beside(scan, file.mask, rigid_to_template=rigid_to_template)
    if file.origin is None:
        return read_prepared(file.saved, scan)
    saved = read_prepared(file.saved, read_scan(file.origin))
    if not on_one_grid(saved.native, scan.volume):
        raise MrharmonyError(f"{file.path}: lies on another grid than {file.origin}. Harmonize that again.")
    return replace(saved, native=scan.volume)


def saved_sha256(file: ScanFile, source_sha256: str | None = None) -> str | None:
    """Return the hash of the saved preparation that is taken for a scan; None where none holds.

    The hash of the scan that was prepared is computed where it is not given.
    """
    source = file.origin or file.path
    with suppress(MrharmonyError, OSError):  # what may not be read counts as nothing
        if file.saved and source.is_file() and not why_not_usable(file.saved, source, source_sha256):
            return file_sha256(file.saved.note)
    return None


def prepare_together(group: Sequence[ScanFile]) -> Iterator[PreparedScan | MrharmonyError]:
    """Prepare scans of one head in one place; yields each prepared scan, or why it was refused.

    Those on the grid of the first get the first's alignment, size and brain mask.
    """
    first: PreparedScan | None = None
    for scan in group:
        try:
            read = read_scan(scan.path)
            beside = first if first and on_one_grid(first.native, read.volume) else None
            prepared = _prepare_beside(beside, scan, read)
        except MrharmonyError as error:
            yield error
            continue
        first = first or prepared
        yield prepared


def _prepare_beside(first: PreparedScan | None, scan: ScanFile, read: Scan) -> PreparedScan:
    """Prepare a scan, aligned as the first on its grid; a scan of known scale needs no more than that."""
    if first and scan.scale:
        prepared = replace(first, native=read.volume)
    else:
        prepared = prepared_scan(scan, read, first.rigid_to_template if first else None)
    if first:
        prepared = replace(
            prepared, rigid_to_template=first.rigid_to_template, size=first.size, brain_mask=first.brain_mask
        )
    if scan.scale:
        prepared = replace(prepared, bias_field=np.ones_like(prepared.bias_field), scale=scan.scale)
    return prepared


def on_one_grid(one: Volume, other: Volume) -> bool:
    """Whether the voxels of two scans lie in the same places, to a thousandth of a millimetre."""
    return one.shape == other.shape and np.allclose(one.affine, other.affine, atol=1e-3)


def _prepare(job: _Job) -> dict[Path, str]:
    """Prepare a group of scans into their files; returns the refused ones and why."""
    group, grid, files = job
    refused: dict[Path, str] = {}
    for scan, file, prepared in zip(group, files, prepare_together(group), strict=True):
        if isinstance(prepared, MrharmonyError):
            refused[scan.path] = str(prepared)
        else:
            _save(prepared.grown() if scan.volume_corrected else prepared, grid, file)
    return refused


def _save(prepared: PreparedScan, grid: Grid, file: Path) -> None:
    brain, mask = prepared.canonical(grid)
    inside = brain.voxels[mask].astype(np.float16)
    write_arrays(file, {"brain": inside, "mask": np.packbits(mask), "scale": prepared.scale})

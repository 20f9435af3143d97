"""Preparing the scans of a data set once: canonical brains on a working grid, kept for the next run."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch

from mrharmony.harmonize import CanonicalBrain
from mrharmony.prepare import Grid, prepare_scan
from mrharmony.progress import track
from mrharmony.scans import read_scan
from mrharmony.volume import MrharmonyError, Volume

CACHE_FORMAT = "2"  # changes when preparation changes, so that older brains are not taken up


def prepare_brains(
    scans: Sequence[Path], grid: Grid, cache: Path, workers: int | None = None
) -> tuple[dict[Path, CanonicalBrain], dict[Path, str]]:
    """Prepare scans in parallel; what an earlier call has finished is read from the cache.

    Parameters
    ----------
    scans
        Scan files.
    grid
        Working grid of the brains.
    cache
        Directory of finished brains, made if missing.
    workers
        Processes; as many as there are cores if not given.

    Returns
    -------
    The brains, and for the scans that were refused the reason.
    """
    cache.mkdir(parents=True, exist_ok=True)
    files = {scan: cache / f"{_key(scan, grid)}.npz" for scan in scans}
    missing = [scan for scan in scans if not files[scan].is_file()]
    refused: dict[Path, str] = {}
    # One thread a process: two scans side by side are faster than one scan on two threads.
    with ProcessPoolExecutor(
        workers or os.cpu_count(), multiprocessing.get_context("spawn"), _one_thread
    ) as pool:
        futures = {pool.submit(_prepare, scan, grid, files[scan]): scan for scan in missing}
        for future in track(as_completed(futures), "preparing", len(scans), len(scans) - len(missing)):
            _note_refusal(future, futures[future], refused)
    return {scan: _load(files[scan], grid) for scan in scans if scan not in refused}, refused


def _note_refusal(future: Future[None], scan: Path, refused: dict[Path, str]) -> None:
    try:
        future.result()
    except MrharmonyError as error:
        refused[scan] = str(error)


def _one_thread() -> None:
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    torch.set_num_threads(1)


def _key(scan: Path, grid: Grid) -> str:
    """Return a name that changes with the file's place, size and time, and with the grid."""
    try:
        status = scan.stat()
    except OSError:
        return "missing"
    parts = (
        CACHE_FORMAT,
        scan.resolve(),
        status.st_size,
        status.st_mtime_ns,
        grid.shape,
        grid.affine.tolist(),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _prepare(scan: Path, grid: Grid, file: Path) -> None:
    prepared = prepare_scan(read_scan(scan).volume)
    brain, mask = prepared.canonical(grid)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        np.savez_compressed(stream, voxels=brain.voxels.astype(np.float16), mask=mask, scale=prepared.scale)
    temporary.replace(file)


def _load(file: Path, grid: Grid) -> CanonicalBrain:
    with np.load(file, allow_pickle=False) as archive:
        volume = Volume(archive["voxels"].astype(np.float32), grid.affine)
        return CanonicalBrain(volume, archive["mask"], float(archive["scale"]))

"""What unlearning learns from: a data set's columns are checked, then its scans are prepared and encoded."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrharmony.cohort.biology import column_entries, column_groups, column_number
from mrharmony.cohort.judged import ZOOM, judged_file, scans_of
from mrharmony.cohort.preparing import by_position, load_brain, prepare_positions, require_some
from mrharmony.evaluate.unlearning import (
    UnlearningData,
    latent_features,
    require_splits,
)
from mrharmony.latent import LatentModel, load_model
from mrharmony.prepare import Grid
from mrharmony.progress import track
from mrharmony.scans import BidsIndex, BidsScan
from mrharmony.scans.participants import SPLIT
from mrharmony.volume import BoolArray, FloatArray, MrharmonyError


@dataclass(frozen=True)
class UnlearningRequest:
    """What to unlearn the site for.

    Parameters
    ----------
    factor
        Column of participants.tsv: numbers, or two groups.
    logarithm
        Whether the factor's natural logarithm is learned instead.
    model
        Directory of the latent diffusion model whose encoder is used.
    only
        Use only these domains; all if empty.
    work
        Folder that keeps the prepared brains; none are kept if None.
    workers
        Processes that prepare scans; as many as there are usable cores if None.
    prepared
        Folder of `mrharmony prepare` with the scans in it; they are prepared here if None.
    """

    factor: str
    logarithm: bool
    model: Path
    only: tuple[str, ...] = ()
    work: Path | None = None
    workers: int | None = None
    prepared: Path | None = None


def unlearning_data(index: BidsIndex, request: UnlearningRequest) -> tuple[UnlearningData, dict[str, str]]:
    """Prepare and encode a data set; returns what can be learned from, and what was refused and why.

    Scans whose factor is not known are kept, for the unlearning alone. Scans that are refused are left out.

    Raises
    ------
    MrharmonyError
        Before anything is prepared, if the columns or the splits do not allow it; afterwards, if nothing is
        left.
    """
    chosen = scans_of(index, request.only)
    require_splits(_data(chosen, request, np.zeros((len(chosen), 1), np.float32)))
    model = load_model(request.model)
    if model.card.working_zoom != ZOOM:
        raise MrharmonyError(
            f"{request.model}: works at {model.card.working_zoom:g} mm. Name one of {ZOOM:g} mm."
        )
    pooled, refused = _pooled(index, chosen, request, model)
    require_some(list(pooled), refused)
    scans = [scan for scan in chosen if scan.path in pooled]
    data = _data(scans, request, np.stack([pooled[scan.path] for scan in scans]))
    return data, {path.name: reason for path, reason in refused.items()}


def _pooled(
    index: BidsIndex, scans: Sequence[BidsScan], request: UnlearningRequest, model: LatentModel
) -> tuple[dict[Path, FloatArray], dict[Path, str]]:
    """Return the pooled latents of each scan, and those that were refused and why.

    The scans of a virtual head get one posture, as in the benchmark, so that it does not tell the scanner.
    """
    files = (judged_file(index.root, scan, request.prepared) for scan in scans)
    positions = by_position(zip((scan.subject for scan in scans), files, strict=True))
    grid = Grid.working(ZOOM)
    with tempfile.TemporaryDirectory() as scratch:
        work = request.work or Path(scratch)
        brains, refused = prepare_positions(positions, grid, work, request.workers)
        pooled = {
            path: latent_features(model, load_brain(file, grid))
            for path, file in track(list(brains.items()), "encoding")
        }
    return pooled, refused


def _data(scans: Sequence[BidsScan], request: UnlearningRequest, pooled: FloatArray) -> UnlearningData:
    task, groups = _task(scans, request)
    sites, subjects = [str(scan.domain) for scan in scans], [scan.subject for scan in scans]
    return UnlearningData(pooled, task, groups, sites, subjects, _training(scans))


def _task(scans: Sequence[BidsScan], request: UnlearningRequest) -> tuple[FloatArray, tuple[str, str] | None]:
    """Return what the main task is to find of each scan, and the names of the groups if they are two."""
    entries = column_entries(scans, request.factor)
    if all(_is_number(text) for text in entries.values()):
        numbers = {path: column_number(text, request.factor) for path, text in entries.items()}
        return _filled(scans, _logarithms(numbers, request) if request.logarithm else numbers), None
    if request.logarithm:
        raise MrharmonyError(f"participants.tsv: {request.factor} holds words. Leave --log out.")
    groups = column_groups(scans, request.factor)
    first, second = sorted(set(groups.values()))
    return _filled(scans, {path: float(name == second) for path, name in groups.items()}), (first, second)


def _logarithms(numbers: dict[Path, float], request: UnlearningRequest) -> dict[Path, float]:
    if min(numbers.values()) <= 0:
        raise MrharmonyError(
            f"participants.tsv: {request.factor} has no logarithm where it is 0 or less. Leave --log out."
        )
    return {path: math.log(number) for path, number in numbers.items()}


def _filled(scans: Sequence[BidsScan], known: dict[Path, float]) -> FloatArray:
    return np.array([known.get(scan.path, math.nan) for scan in scans], dtype=np.float32)


def _training(scans: Sequence[BidsScan]) -> BoolArray | None:
    """Return which scans the table gives to the training; None where it has no split."""
    splits = [scan.participant.get(SPLIT) for scan in scans]
    if not {"train", "test"} & set(splits):
        return None
    odd = next((s for s, split in zip(scans, splits, strict=True) if split not in ("train", "test")), None)
    if odd:
        raise MrharmonyError(
            f"participants.tsv: sub-{odd.subject} is neither train nor test. Fill in {SPLIT}."
        )
    if "test" not in splits or "train" not in splits:
        raise MrharmonyError(f"participants.tsv: {SPLIT} must give scans to train and to test. Fill it in.")
    return np.array([split == "train" for split in splits])


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False

"""`mrharmony evaluate unlearning`: main task and site before and after unlearning, as record and table."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrharmony.core.atomic import read_json, require_writable
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.markdown import escaped, markdown_table
from mrharmony.core.progress import track
from mrharmony.core.records import number_in
from mrharmony.core.temporaries import temporary_folder
from mrharmony.core.version import __version__
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.evaluate.unlearning import (
    UnlearningData,
    UnlearningScores,
    latent_features,
    require_splits,
    unlearning_study,
)
from mrharmony.evaluate.unlearning_network import UnlearningSettings
from mrharmony.jobs.brains import by_position, load_brain, prepare_positions, reasons_by_name, require_some
from mrharmony.jobs.columns import column_entries, column_groups, column_numbers
from mrharmony.jobs.data_sets import DataSet, first_copy, readable_sha256, scans_of_domains, tell_copies
from mrharmony.jobs.evaluation_scans import ZOOM, scan_files
from mrharmony.networks.card import model_hash
from mrharmony.networks.compact.model import LatentModel, load_model
from mrharmony.scans.bids import SPLIT, BidsIndex, BidsScan
from mrharmony.scans.folders import IN_A_COPY
from mrharmony.scans.participants import PARTICIPANTS
from mrharmony.space.grid import Grid

FEATURES_ONLY = "Unlearning returns features, not images: no scan is harmonized by it."
MISLEADING = (
    "The frozen site head misleads: it was trained against and fooled on purpose. "
    "Judge by the retrained classifiers."
)


def require_own_record(output: Path) -> None:
    """See that a record can be written, and that no file of somebody else is replaced, before any work."""
    require_writable(output.parent)
    if os.path.lexists(output) and (not output.is_file() or not _is_own_record(output)):
        raise MrharmonyError(f"{output}: is no earlier result of this command. Name another file.")


def _is_own_record(output: Path) -> bool:
    return (read_json(output) or {}).get("returns") == FEATURES_ONLY


@dataclass(frozen=True)
class UnlearningRequest:
    """What to unlearn the site for."""

    data: DataSet
    factor: str  # column of participants.tsv: numbers, or two groups
    logarithm: bool  # learn the factor's natural logarithm instead
    model: Path  # directory of the latent diffusion model whose encoder is used
    work: Path | None = None  # folder that keeps the prepared brains; none are kept if None
    workers: int | None = None  # processes that prepare scans; one a usable core if None

    @property
    def table(self) -> Path:
        """The table with the factor and the split."""
        return self.data.root / PARTICIPANTS


def _learnable(request: UnlearningRequest) -> tuple[UnlearningData, dict[str, str]]:
    """Prepare and encode a data set; returns what can be learned from, and what was refused and why.

    Scans whose factor is not known are kept, for the unlearning alone. What the columns or the splits do not
    allow is refused before anything is prepared.
    """
    index = request.data.open()
    chosen = scans_of_domains(index, request.data.only)
    bare = _data(chosen, request, np.zeros((len(chosen), 1), np.float32))
    require_splits(bare)
    _tell_copies(index.root, chosen, bare.training)
    model = load_model(request.model)
    if model.card.working_zoom != ZOOM:
        raise MrharmonyError(
            f"{request.model}: its grid is {model.card.working_zoom:g} mm. Name one of {ZOOM:g} mm."
        )
    pooled, refused = _pooled(index, chosen, request, model)
    require_some(list(pooled), refused)
    scans = [scan for scan in chosen if scan.path in pooled]
    data = _data(scans, request, np.stack([pooled[scan.path] for scan in scans]))
    return data, reasons_by_name(refused | index.refused)


def _pooled(
    index: BidsIndex, scans: Sequence[BidsScan], request: UnlearningRequest, model: LatentModel
) -> tuple[dict[Path, FloatArray], dict[Path, str]]:
    """Return the pooled latents of each scan, and those that were refused and why.

    The scans of a virtual head get one alignment, as in the benchmark: it must not reveal the scanner.
    """
    files, refused = scan_files(index.root, scans, request.data.prepared)
    positions = by_position((scan.subject, files[scan.path]) for scan in scans if scan.path in files)
    grid = Grid.working(ZOOM)
    with temporary_folder() as scratch:
        work = request.work or scratch
        brains, faults = prepare_positions(positions, grid, work, request.workers)
        encoding = track(list(brains.items()), "encoding")
        pooled = {path: latent_features(model, load_brain(file, grid)) for path, file in encoding}
    return pooled, refused | faults


def _data(scans: Sequence[BidsScan], request: UnlearningRequest, pooled: FloatArray) -> UnlearningData:
    task, groups = _task(scans, request)
    sites, subjects = [str(scan.domain) for scan in scans], [scan.subject for scan in scans]
    return UnlearningData(pooled, task, groups, sites, subjects, _training(request.table, scans))


def _task(scans: Sequence[BidsScan], request: UnlearningRequest) -> tuple[FloatArray, tuple[str, str] | None]:
    """Return what the main task is to predict of each scan, and the names of the groups if they are two."""
    entries, names = column_entries(request.table, scans, request.factor), None
    numbers = {text for text in entries.values() if math.isfinite(number_in(text))}
    if len(numbers) > 2 or numbers.issuperset(entries.values()):  # more than two are no groups
        known = column_numbers(request.table, entries, request.factor)
        if request.logarithm and min(known.values()) <= 0:
            raise MrharmonyError(
                f"{request.table}: {request.factor} has no logarithm where it is 0 or less. "
                "Leave the logarithm out."
            )
        if request.logarithm:
            known = {path: math.log(number) for path, number in known.items()}
    elif request.logarithm:
        raise MrharmonyError(f"{request.table}: {request.factor} holds words. Leave the logarithm out.")
    else:
        groups = column_groups(request.table, scans, request.factor)
        first, second = sorted(set(groups.values()))
        names = (first, second)
        known = {path: float(name == second) for path, name in groups.items()}
    return np.array([known.get(scan.path, math.nan) for scan in scans], dtype=np.float32), names


def _training(table: Path, scans: Sequence[BidsScan]) -> BoolArray | None:
    """Return which scans the table gives to the training; None where it has no split."""
    splits = [scan.participant.get(SPLIT) for scan in scans]
    if not {"train", "test"} & set(splits):
        return None
    for scan, split in zip(scans, splits, strict=True):
        if split not in ("train", "test"):
            raise MrharmonyError(f"{table}: sub-{scan.subject} is neither train nor test. Fill in {SPLIT}.")
    if "test" not in splits or "train" not in splits:
        raise MrharmonyError(f"{table}: {SPLIT} must give scans to train and to test. Fill it in.")
    return np.array([split == "train" for split in splits])


def _tell_copies(root: Path, scans: Sequence[BidsScan], training: BoolArray | None) -> None:
    """Tell copies of scans; raise `MrharmonyError` where one is on both sides of a given split."""
    hashes = [readable_sha256(scan.path) for scan in scans]
    if training is not None:
        hashed = list(zip(scans, hashes, strict=True))
        learned, held_out = ([hashed[n] for n in np.flatnonzero(half)] for half in (training, ~training))
        if twins := first_copy(held_out, of=learned):
            copy, other = twins
            raise MrharmonyError(
                f"{copy.path}: is held out, and a copy of {other.path}, which is trained on. "
                f"Give sub-{other.subject} and sub-{copy.subject} one split, or leave one out {IN_A_COPY}."
            )
    tell_copies(root, [scan.subject for scan in scans], hashes, "scans")


def evaluate_unlearning(request: UnlearningRequest) -> dict[str, Any]:
    """Return main task and site, before and after unlearning, on held-out subjects.

    Raises `MrharmonyError` if the data set does not allow it: by its columns, its splits, or too few scans.
    """
    data, refused = _learnable(request)
    settings = UnlearningSettings()
    study = unlearning_study(data, settings)
    return {
        "returns": FEATURES_ONLY,
        "factor": f"log {request.factor}" if request.logarithm else request.factor,
        "groups": list(data.groups) if data.groups else None,
        "scans": {site: list(data.sites).count(site) for site in sorted(set(data.sites))},
        "split": "participants.tsv" if data.training is not None else f"{study.folds} folds by subject",
        "held_out_scans": study.tested[0],
        "held_out_scans_with_factor": study.tested[1],
        "chance": study.chance,
        "before": _figures(study.before),
        "after": _figures(study.after),
        "frozen": MISLEADING,
        "settings": settings.model_dump(),
        "seeds": list(study.seeds),
        "model": request.model.name,
        "model_sha256": model_hash(request.model),
        "version": __version__,
        "refused": refused,
    }


def unlearning_table(record: dict[str, Any]) -> str:
    """Return a record's figures before and after as a Markdown table, with what they are of."""
    before, after = (record[phase]["mean"] for phase in ("before", "after"))
    rows = [(name, f"{value:.3f}", f"{after[name]:.3f}") for name, value in before.items()]
    head = ("figure, held-out subjects", "before", "after unlearning")
    return (
        f"Main task: {escaped(record['factor'])}. {record['held_out_scans']} held-out scans, "
        f"{record['held_out_scans_with_factor']} with a known factor; split: {record['split']}. "
        f"Site by chance: {record['chance']:.3f}.\n\n"
        f"{markdown_table(head, rows)}\n{record['frozen']}\n\n{record['returns']}"
    )


def _figures(scores: UnlearningScores) -> dict[str, dict[str, Any]]:
    """Return the mean over seeds of each figure, and its values a seed."""
    values = {
        **{f"task {name.replace('_', ' ')}": value for name, value in scores.task.items()},
        "site, linear probe retrained": scores.linear,
        "site, network probe retrained": scores.network,
        "site, linear probe, shuffled labels": scores.linear_control,
        "site, network probe, shuffled labels": scores.network_control,
        "site, linear probe trained on held-out subjects": scores.unseen,
        "site, frozen site head": scores.frozen,
    }
    by_seed = {name: list(value) for name, value in values.items() if value is not None}
    return {"mean": {name: float(np.mean(value)) for name, value in by_seed.items()}, "by_seed": by_seed}

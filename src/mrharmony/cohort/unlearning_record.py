"""Unlearning of the site on a data set: main task and site before and after, as a record and as a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrharmony import __version__
from mrharmony.cohort.unlearning import UnlearningRequest, unlearning_data
from mrharmony.evaluate.unlearning import UnlearningScores, UnlearningSettings, unlearning_study
from mrharmony.latent import model_hash
from mrharmony.scans import BidsIndex

FEATURES_ONLY = "Unlearning returns features, not images: no scan is harmonized by it."
MISLEADING = (
    "The frozen site head misleads: it was trained against and fooled on purpose. "
    "Judge by the classifiers that were trained anew."
)


def evaluate_unlearning(index: BidsIndex, request: UnlearningRequest) -> dict[str, Any]:
    """Return main task and site, before and after unlearning, on held-out subjects.

    Raises
    ------
    MrharmonyError
        If the data set does not allow it: see `unlearning_data` and `unlearning_study`.
    """
    data, refused = unlearning_data(index, request)
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
    rows = [f"| {name} | {value:.3f} | {after[name]:.3f} |" for name, value in before.items()]
    return "\n".join(
        [
            f"Main task: {record['factor']}. {record['held_out_scans']} held-out scans, "
            f"{record['held_out_scans_with_factor']} with a known factor; split: {record['split']}. "
            f"Site by chance: {record['chance']:.3f}.",
            "",
            "| figure, held-out subjects | before | after unlearning |",
            "|---|---|---|",
            *rows,
            "",
            record["frozen"],
            "",
            record["returns"],
        ]
    )


def _figures(scores: UnlearningScores) -> dict[str, dict[str, Any]]:
    """Return the mean over seeds of each figure, and its values a seed."""
    known = _values(scores)
    return {"mean": mean_figures(scores), "by_seed": {name: list(value) for name, value in known.items()}}


def mean_figures(scores: UnlearningScores) -> dict[str, float]:
    """Return the mean over seeds of each figure."""
    return {name: float(np.mean(value)) for name, value in _values(scores).items()}


def _values(scores: UnlearningScores) -> dict[str, tuple[float, ...]]:
    values = {
        **{f"task {name.replace('_', ' ')}": value for name, value in scores.task.items()},
        "site, linear probe retrained": scores.linear,
        "site, network probe retrained": scores.network,
        "site, linear probe, shuffled labels": scores.linear_control,
        "site, network probe, shuffled labels": scores.network_control,
        "site, linear probe trained on held-out subjects": scores.unseen,
        "site, frozen site head": scores.frozen,
    }
    return {name: value for name, value in values.items() if value is not None}

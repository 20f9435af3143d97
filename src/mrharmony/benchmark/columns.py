"""From a method's cohort figures to its cells of the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def cohort_columns(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table's cells of a method's cohort figures; what could not be worked out is left out."""
    row: dict[str, Any] = {}
    for name, columns in (("sites", _sites), ("anatomy", _anatomy), ("biology", _biology), ("leak", _leak)):
        if name in figures and "refused" not in figures[name]:
            row |= columns(figures[name])
    return {key: None if value is None else float(value) for key, value in row.items()}


def _sites(sites: Mapping[str, Any]) -> dict[str, Any]:
    distances, linear = sites["distances"], sites["linear"]
    return {
        "chance": linear["scores"]["chance"],
        "probe_linear": np.mean(linear["scores"]["balanced_accuracy"]),
        "probe_linear_control": np.mean(linear["control"]["balanced_accuracy"]),
        "probe_linear_frozen": np.mean(sites["frozen"]["balanced_accuracy"]),
        "probe_cnn": np.mean(sites["cnn"]["balanced_accuracy"]),
        "probe_cnn_control": _mean_accuracy(sites.get("cnn_control")),
        "wasserstein": np.mean(list(distances["wasserstein"].values())),
        "mmd": distances["mmd2"],
        "fid": distances["fid"],
        "kid": distances["kid"],
    }


def _mean_accuracy(scores: Mapping[str, Any] | None) -> float | None:
    return float(np.mean(scores["balanced_accuracy"])) if scores else None


def _anatomy(anatomy: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "drift": np.median(anatomy["greatest_drift_percent"]),
        "drift_95": np.percentile(anatomy["greatest_drift_percent"], 95),
        "dice": np.mean(anatomy["dice"]),
        "edges": np.mean(anatomy["edge_correspondence"]),
    }


def _biology(biology: Mapping[str, Any]) -> dict[str, Any]:
    if "slope_kept" not in biology:  # no truth
        group = biology["group_difference"]
        return {
            "partial": biology["partial_correlation"]["value"],
            "cohen": group["value"] if group else None,
        }
    return {
        "slope": biology["slope_kept"],
        "rank": biology["rank"],
        "group": biology["difference_kept"],
        "ventricle_error": biology["log_error"],
        "site_shift": biology["site_shift"],
    }


def _leak(leak: Mapping[str, Any]) -> dict[str, Any]:
    return {"leak": max(leak["leaked_noise"], default=None)}

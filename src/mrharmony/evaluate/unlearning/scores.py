"""What a representation still knows: the main task, and the site by classifiers that are trained anew."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mrharmony.evaluate.site_folds import Labels, subject_folds, usable_folds
from mrharmony.volume import FloatArray

FeatureProbe = Literal["linear", "network"]
FEATURE_PROBES: tuple[FeatureProbe, ...] = ("linear", "network")
_ITERATIONS = 500
_NEURONS = 32
_SHRINKAGE = 1.0  # of the network's weights


def fit_feature_probe(probe: FeatureProbe, features: FloatArray, sites: Labels, seed: int) -> Pipeline:
    """Return a fresh site classifier, trained on frozen features of shape (n, features).

    `linear`: logistic regression, each site counting alike. `network`: one hidden layer of 32 neurons. Both
    on features standardised by these scans, so that a site cannot hide in a small number.
    """
    if probe == "linear":
        classifier = LogisticRegression(class_weight="balanced", max_iter=_ITERATIONS)
    else:
        features, sites = _evened(features, sites)
        classifier = MLPClassifier(
            (_NEURONS,), solver="lbfgs", alpha=_SHRINKAGE, max_iter=_ITERATIONS, random_state=seed
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # more iterations change no answer
        return make_pipeline(StandardScaler(), classifier).fit(features, sites)


def _evened(features: FloatArray, sites: Labels) -> tuple[FloatArray, Labels]:
    """Return the scans with those of smaller sites repeated, so that sites count alike."""
    members = [np.flatnonzero(sites == site) for site in np.unique(sites)]
    most = max(len(some) for some in members)
    chosen = np.concatenate([np.resize(some, most) for some in members])
    return features[chosen], sites[chosen]


def unseen_answers(
    features: FloatArray, sites: Labels, subjects: Sequence[str], folds: int, seed: int
) -> Labels:
    """Return the linear probe's answers on scans that it is trained and tested on by subject.

    For scans that the representation was not trained on: what it leaks there, though it may have learned to
    hide the sites of its own training scans.
    """
    found = np.empty_like(sites)
    usable = usable_folds([str(site) for site in sites], subjects, folds)
    for fold in subject_folds(sites, subjects, usable, seed):
        probe = fit_feature_probe("linear", features[fold.train], sites[fold.train], seed)
        found[fold.test] = probe.predict(features[fold.test])
    return found


def regression_scores(found: FloatArray, truth: FloatArray) -> dict[str, float]:
    """Return R², mean absolute error and Pearson's correlation; 0 for the correlation of constant answers."""
    scatter = float(((truth - truth.mean()) ** 2).sum())
    varied = np.ptp(found) > 0
    return {
        "r2": 1 - float(((found - truth) ** 2).sum()) / scatter,
        "mean_absolute_error": float(np.abs(found - truth).mean()),
        "correlation": float(np.corrcoef(found, truth)[0, 1]) if varied else 0.0,
    }

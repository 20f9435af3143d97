"""The two classifiers that look for the site: linear on features, convolutional on slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mrharmony.evaluate.site_features import site_features
from mrharmony.evaluate.site_folds import Labels
from mrharmony.evaluate.site_slices import fit_slice_classifier, site_slices
from mrharmony.harmonize import CanonicalBrain
from mrharmony.volume import FloatArray, MrharmonyError

ProbeName = Literal["linear", "cnn"]
_PENALTY = 0.05  # scikit-learn's C: 241 features of a few dozen scans need a strong ridge
_ITERATIONS = 2000


class Classifier(Protocol):
    """Anything that tells the number of a scan's site from the scan's inputs."""

    def predict(self, inputs: FloatArray) -> Labels:
        """Return the class of each scan, shape (n,)."""


def probe_inputs(probe: ProbeName, brains: Sequence[CanonicalBrain]) -> FloatArray:
    """Return what the classifier sees of each scan: features (n, 241), or slices (n, 6, h, w).

    Raises
    ------
    MrharmonyError
        If the scans lie on different grids, or one is empty or not finite.
    """
    if len({brain.volume.shape for brain in brains}) > 1:
        raise MrharmonyError("The scans have different shapes; resample all of them on one canonical grid.")
    see = site_features if probe == "linear" else site_slices
    return np.stack([see(brain) for brain in brains])


def fit_classifier(
    probe: ProbeName, inputs: FloatArray, labels: Labels, classes: int, seed: int
) -> Classifier:
    """Return a classifier trained on scans of known sites.

    Parameters
    ----------
    probe
        `linear`: multinomial logistic regression with a ridge (C = 0.05) on features standardised by the
        training scans. `cnn`: see `fit_slice_classifier`. In both, each site counts alike.
    inputs
        From `probe_inputs`.
    labels, classes
        Number of each scan's site, shape (n,), and how many sites there are.
    seed
        Of the network; the linear classifier has no randomness.
    """
    if probe == "cnn":
        return fit_slice_classifier(inputs, labels, classes, seed)
    regression = LogisticRegression(C=_PENALTY, class_weight="balanced", max_iter=_ITERATIONS)
    classifier: Classifier = make_pipeline(StandardScaler(), regression).fit(inputs, labels)
    return classifier


def balanced_accuracy(truth: Labels, found: Labels) -> float:
    """Return the mean over the sites in `truth` of the share of their scans that were found (mean recall)."""
    return float(np.mean([np.mean(found[truth == site] == site) for site in np.unique(truth)]))

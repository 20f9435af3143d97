"""The three parts of an unlearning network, and the three losses that they are trained with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

_SITE_HIDDEN = 32


class UnlearningNetwork(nn.Module):
    """Encoder, task head and site head (Dinsdale et al. 2021).

    Parameters
    ----------
    inputs
        Whitened numbers of a scan.
    hidden
        Neurons of the encoder's hidden layer; 0 for a linear encoder.
    features
        Size of the representation that the site is unlearned from.
    outputs
        Of the task head: 1 for a regression, the number of groups for a classification.
    sites
        How many there are.
    """

    def __init__(self, inputs: int, hidden: int, features: int, outputs: int, sites: int) -> None:
        super().__init__()
        layers = [nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.ReLU()] if hidden else []
        self.encoder = nn.Sequential(*layers, nn.Linear(hidden or inputs, features))
        self.task_head = nn.Linear(features, outputs)
        self.site_head = nn.Sequential(
            nn.Linear(features, _SITE_HIDDEN), nn.ReLU(), nn.Linear(_SITE_HIDDEN, sites)
        )


def task_loss(found: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Return the loss of the main task: squared error, or cross-entropy of groups.

    Parameters
    ----------
    found
        Of the task head, shape (n, outputs).
    truth
        Standardised numbers, shape (n,); NaN where it is not known. Numbers of groups where there are outputs
        for several.
    weights
        Of the scans, so that sites count alike, shape (n,).
    """
    known = torch.isfinite(truth)
    if found.shape[1] == 1:
        errors = (found[known, 0] - truth[known]) ** 2
    else:
        errors = cross_entropy(found[known], truth[known].long(), reduction="none")
    return _mean(errors, weights[known])


def domain_loss(found: Tensor, sites: Tensor, weights: Tensor) -> Tensor:
    """Return the cross-entropy of the site head; found (n, sites), sites and weights (n,)."""
    return _mean(cross_entropy(found, sites, reduction="none"), weights)


def confusion_loss(found: Tensor, weights: Tensor) -> Tensor:
    """Return the cross-entropy of the site head's answer to the uniform one; least where it is even.

    -1/K Σ_k log p_k, averaged over the scans (confusion loss of Tzeng et al. 2015, ICCV); found (n, K),
    weights (n,).
    """
    return _mean(-log_softmax(found, dim=1).mean(dim=1), weights)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean, 0 of nothing."""
    return (values * weights).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

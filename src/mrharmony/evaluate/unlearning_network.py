"""The network that unlearns the site, its three losses, and its training (Dinsdale et al. 2021).

Pre-training of encoder, task head and site head is followed by iterative unlearning: three steps in turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.autograd import backward
from torch.nn.functional import cross_entropy, log_softmax

from mrharmony.core.volume import FloatArray
from mrharmony.evaluate.site_classifiers import Labels
from mrharmony.networks.settings import Settings

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
    outputs, sites
        Of the task head: 1 for a regression, else the number of groups. Of the site head: number of sites.
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

    `found` is the task head's output, shape (n, outputs); `truth` has shape (n,): standardised numbers, or
    numbers of groups, NaN where unknown; `weights`, shape (n,), make sites count alike.
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
    """Return the cross-entropy of the site head's probabilities to uniform ones; least where they are even.

    -1/K Σ_k log p_k, averaged over scans (Tzeng et al. 2015, ICCV); found (n, K), weights (n,).
    """
    return _mean(-log_softmax(found, dim=1).mean(dim=1), weights)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean, 0 of nothing."""
    return (values * weights).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


class UnlearningSettings(Settings):
    """How the network is built and trained; docs/evidence/unlearning.md says how the defaults were found."""

    components: int = Field(16, ge=2)  # principal components of the pooled latents that enter the encoder
    hidden: int = Field(0, ge=0)  # neurons of the encoder's hidden layer; with dozens of scans none is best
    features: int = Field(4, ge=1)  # size of the representation
    pretraining_steps: int = Field(150, ge=1)
    unlearning_steps: int = Field(150, ge=1)
    learning_rate: float = Field(1e-3, gt=0)  # of pre-training, and of the site head throughout
    unlearning_rate: float = Field(3e-3, gt=0)  # of encoder and task head while unlearning
    weight_decay: float = Field(1e-2, ge=0)
    domain_weight: float = Field(1.0, gt=0)  # alpha of the paper
    confusion_weight: float = Field(1.0, gt=0)  # beta of the paper
    site_steps: int = Field(5, ge=1)  # of the site head for each step of the encoder


@dataclass(frozen=True)
class TrainedUnlearning:
    """A trained network with the whitening of its inputs."""

    whitening: Pipeline  # pooled latents to principal components of unit variance of the training scans
    network: UnlearningNetwork
    centre: float  # what the task's numbers were standardised by; 0 and 1 for a classification
    spread: float

    def features(self, pooled: FloatArray) -> FloatArray:
        """Return the representation of scans, shape (n, features), from `latent_features` of shape (n, m)."""
        with torch.inference_mode():
            return np.asarray(self.network.encoder(self._inputs(pooled)).numpy())

    def task(self, pooled: FloatArray) -> FloatArray:
        """Return the task head's numbers, or numbers of groups, shape (n,)."""
        with torch.inference_mode():
            found = self.network.task_head(self.network.encoder(self._inputs(pooled))).numpy()
        numbers = found.argmax(1) if found.shape[1] > 1 else found[:, 0] * self.spread + self.centre
        return np.asarray(numbers, np.float32)

    def sites(self, pooled: FloatArray) -> Labels:
        """Return the numbers of the sites that the site head predicts, shape (n,)."""
        with torch.inference_mode():
            found = self.network.site_head(self.network.encoder(self._inputs(pooled)))
        return np.asarray(found.argmax(1).numpy())

    def _inputs(self, pooled: FloatArray) -> Tensor:
        return torch.from_numpy(self.whitening.transform(pooled).astype(np.float32))


@dataclass(frozen=True)
class _Scans:
    """All training scans at once: with a few dozen whitened numbers each, a step takes them all."""

    inputs: Tensor
    task: Tensor
    sites: Tensor
    weights: Tensor


def train_unlearning(
    pooled: FloatArray,
    task: FloatArray,
    sites: Labels,
    groups: int | None,
    settings: UnlearningSettings,
    seed: int,
    unlearn: bool,
) -> TrainedUnlearning:
    """Train on scans of known sites; same input and seed, same network.

    Parameters
    ----------
    pooled
        `latent_features` of the training scans, shape (n, m).
    task
        The factor of each, NaN where it is not known, or the number of its group, shape (n,).
    sites
        Number of each scan's site, 0..K - 1, all of them present.
    groups
        How many groups there are to classify; None for a regression.
    settings, seed
        Sizes, steps and rates; seed of the first weights.
    unlearn
        Whether the second half of the training unlearns the site. If not, no gradient of the site reaches the
        encoder: the task is trained for as many steps, and the site head beside it.
    """
    components = min(settings.components, len(pooled) - 1, pooled.shape[1])
    pca = PCA(components, whiten=True, svd_solver="full")
    whitening = make_pipeline(StandardScaler(), pca).fit(pooled)
    centre, spread = (0.0, 1.0) if groups else (float(np.nanmean(task)), float(np.nanstd(task)) or 1.0)
    counts = np.bincount(sites)
    scans = _Scans(
        torch.from_numpy(whitening.transform(pooled).astype(np.float32)),
        torch.from_numpy(((task - centre) / spread).astype(np.float32)),
        torch.from_numpy(sites),
        torch.from_numpy((len(sites) / (len(counts) * counts[sites])).astype(np.float32)),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UnlearningNetwork(components, settings.hidden, settings.features, groups or 1, len(counts))
        after = 0 if unlearn else settings.unlearning_steps
        _pretrain(network, scans, settings, settings.pretraining_steps + after, joint=unlearn)
        if unlearn:
            _unlearn(network, scans, settings)
    return TrainedUnlearning(whitening, network.eval(), centre, spread)


def _pretrain(
    network: UnlearningNetwork, scans: _Scans, settings: UnlearningSettings, steps: int, joint: bool
) -> None:
    """Train all three parts; without `joint` the site head's loss does not reach the encoder."""
    optimizer = _optimizer(settings, settings.learning_rate, network)
    for _ in range(steps):
        features = network.encoder(scans.inputs)
        seen = network.site_head(features if joint else features.detach())
        loss = task_loss(network.task_head(features), scans.task, scans.weights)
        loss = loss + settings.domain_weight * domain_loss(seen, scans.sites, scans.weights)
        _step(optimizer, loss)


def _unlearn(network: UnlearningNetwork, scans: _Scans, settings: UnlearningSettings) -> None:
    """Step in turn: task on encoder and task head, site on site head alone, confusion on encoder alone."""
    task = _optimizer(settings, settings.unlearning_rate, network.encoder, network.task_head)
    domain = _optimizer(settings, settings.learning_rate, network.site_head)
    confusion = _optimizer(settings, settings.unlearning_rate, network.encoder)
    for _ in range(settings.unlearning_steps):
        found = network.task_head(network.encoder(scans.inputs))
        _step(task, task_loss(found, scans.task, scans.weights))
        features = network.encoder(scans.inputs)
        for _ in range(settings.site_steps):
            seen = network.site_head(features.detach())
            _step(domain, settings.domain_weight * domain_loss(seen, scans.sites, scans.weights))
        seen = network.site_head(features)
        _step(confusion, settings.confusion_weight * confusion_loss(seen, scans.weights))


def _optimizer(settings: UnlearningSettings, rate: float, *parts: nn.Module) -> torch.optim.Optimizer:
    parameters = [parameter for part in parts for parameter in part.parameters()]
    return torch.optim.AdamW(parameters, rate, weight_decay=settings.weight_decay)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    backward(loss)
    optimizer.step()

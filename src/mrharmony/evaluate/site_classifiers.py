"""Two classifiers of a scan's site: linear on features, and a small convolutional network on slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.autograd import backward
from torch.nn.functional import avg_pool2d, cross_entropy

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.evaluate.site_features import interior, site_features
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.space.grid import CENTRE
from mrharmony.space.resampling import resample_brain
from mrharmony.space.template import template, template_brain_mask

ProbeName = Literal["linear", "cnn"]
Labels = NDArray[np.intp]
_INVERSE_RIDGE = 0.05  # scikit-learn's C: 241 features of a few dozen scans need a strong ridge
_ITERATIONS = 2000
_CORONAL_MM = (-45.0, -20.0, 5.0)  # anterior, template mm
_AXIAL_MM = (0.0, 20.0, 40.0)  # superior
_WINDOW_MM = 128.0  # edge of a slice, around the centre of the canonical field of view
_RIM_MM = 12.0  # of the template, which is larger than most people
_TYPICAL, _SPREAD = 0.7, 0.25  # of canonical brains: brings intensities to about mean 0, sd 1
_DETAIL = 20.0  # detail is small beside the slice; with this weight it is learned first
_BATCHES = 540  # until the network knows the sites of a few dozen scans that were harmonized well
_EPOCHS = 14, 100  # at least: many scans tell more in an epoch; at most: a dozen are soon known
_BATCH = 32  # slices
_LEARNING_RATE = 8e-3


class Classifier(Protocol):
    """Anything that predicts the number of a scan's site from the scan's inputs."""

    def predict(self, inputs: FloatArray) -> Labels:
        """Return the class of each scan, shape (n,)."""


def probe_inputs(probe: ProbeName, brains: Sequence[CanonicalBrain]) -> FloatArray:
    """Return a classifier's inputs of each scan on one grid: features (n, 241), or slices (n, 6, h, w)."""
    if len({brain.volume.shape for brain in brains}) > 1:
        raise MrharmonyError("The scans have different shapes; resample all of them on one canonical grid.")
    inputs_of = site_features if probe == "linear" else site_slices
    return np.stack([inputs_of(brain) for brain in brains])


def fit_classifier(
    probe: ProbeName, inputs: FloatArray, labels: Labels, classes: int, seed: int
) -> Classifier:
    """Return a classifier trained on `probe_inputs` of scans of known sites: labels 0..classes - 1, (n,).

    `linear`: multinomial logistic regression with a ridge (C = 0.05) on features standardised by the training
    scans; it has no randomness. `cnn`: see `fit_slice_classifier`. In both, each site counts alike.
    """
    if probe == "cnn":
        return fit_slice_classifier(inputs, labels, classes, seed)
    regression = LogisticRegression(C=_INVERSE_RIDGE, class_weight="balanced", max_iter=_ITERATIONS)
    classifier: Classifier = make_pipeline(StandardScaler(), regression).fit(inputs, labels)
    return classifier


def balanced_accuracy(truth: Labels, found: Labels) -> float:
    """Return the mean over the sites in `truth` of the share of their scans that were found (mean recall)."""
    return float(np.mean([np.mean(found[truth == site] == site) for site in np.unique(truth)]))


def site_slices(brain: CanonicalBrain) -> FloatArray:
    """Return the slices that the network sees of one scan, shape (6, n, n) with n = 128 mm / zoom.

    Three coronal and three axial slices through fixed places of template space, in a window of 128 mm around
    (0, -17, 5), standardised by fixed constants. All scans show the same region, the template's brain without
    its outer 12 mm, because how a brain was cut out is no property of the scanner. Voxels of the region that
    a scan's mask lacks take the nearest brain voxel's intensity; outside it is 0.
    """
    zooms, affine = brain.volume.zooms, brain.volume.affine
    size = round(_WINDOW_MM / zooms[0])
    first = np.round((np.array(CENTRE) - affine[:3, 3]) / zooms - size / 2).astype(int)
    if max(zooms) > 1.001 * min(zooms) or (first < 0).any() or (first + size > brain.volume.shape).any():
        raise MrharmonyError("Slices need a canonical grid with cubic voxels; prepare scans on Grid.working.")
    inside = interior(brain)
    region = _common_region(brain.volume.shape, tuple(affine.ravel()))
    x, y, z = (slice(start, start + size) for start in first)
    planes = [(x, round((at - affine[1, 3]) / zooms[1]), z) for at in _CORONAL_MM]
    planes += [(x, y, round((at - affine[2, 3]) / zooms[2])) for at in _AXIAL_MM]
    slices = [_filled(brain.volume.voxels[at], inside[at], region[at]) for at in planes]
    return np.stack(slices).astype(np.float32)


def _filled(image: FloatArray, inside: BoolArray, region: BoolArray) -> FloatArray:
    """Return a standardised slice, its gaps closed by their nearest neighbours."""
    if not inside.any():
        raise MrharmonyError("A central slice holds nothing of the brain; check its alignment and its mask.")
    nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return np.where(region, (image[tuple(nearest)] - _TYPICAL) / _SPREAD, 0)


@lru_cache(maxsize=2)
def _common_region(shape: tuple[int, int, int], affine: tuple[float, ...]) -> BoolArray:
    onto = np.reshape(affine, (4, 4))
    _, brain = resample_brain(template(), template_brain_mask(), shape, onto)
    depth = distance_transform_edt(brain, sampling=np.diag(onto)[:3])
    return np.asarray(depth > _RIM_MM)


@dataclass(frozen=True)
class SliceClassifier:
    """A trained network; a scan's site is the one with the largest mean probability over its slices."""

    network: nn.Module

    def predict(self, slices: FloatArray) -> Labels:
        """Return the class of each scan, shape (n,), from slices of shape (n, s, h, w)."""
        scans, each, *shape = slices.shape
        with torch.inference_mode():
            logits = self.network(_with_detail(slices.reshape(-1, 1, *shape)))
        return np.asarray(logits.softmax(1).reshape(scans, each, -1).mean(1).argmax(1).numpy())


def fit_slice_classifier(slices: FloatArray, labels: Labels, classes: int, seed: int) -> SliceClassifier:
    """Train the network by a fixed schedule, on the CPU; same input and seed, same network.

    It sees each slice and its fine detail, which shows the noise and the sharpness of a scanner. Four strided
    convolutions (5×5, then 3×3; 8, 16, 32, 64 channels) with batch normalisation, the mean over the slice,
    and a linear layer: Adam, 540 batches of 32 slices but 14 to 100 epochs, one cycle of the learning rate,
    slices mirrored left to right at random, cross-entropy weighted so that each class counts alike. A network
    that was trained too briefly finds no site anywhere, so `ProbeScores.trained` says how well it knows its
    own scans.
    Slices have shape (n, s, h, w), labels 0..classes - 1 shape (n,).
    """
    images = _with_detail(slices.reshape(-1, 1, *slices.shape[2:]))
    targets = torch.from_numpy(labels.repeat(slices.shape[1]))
    counts = torch.bincount(targets, minlength=classes).clamp(min=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(classes)
        _train(network, images, targets, len(targets) / (classes * counts))
    return SliceClassifier(network.eval())


def _with_detail(slices: FloatArray) -> Tensor:
    """Return slices (n, 1, h, w) beside their detail, shape (n, 2, h, w), which is 0 at the region's rim.

    Detail is what a pixel differs by from the mean of its 3×3 neighbourhood.
    """
    images = torch.from_numpy(slices)
    within = avg_pool2d((images != 0).float(), 3, stride=1, padding=1) == 1
    detail = images - avg_pool2d(images, 3, stride=1, padding=1)
    return torch.cat([images, _DETAIL * detail * within], dim=1)


def _network(classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after, kernel in ((2, 8, 5), (8, 16, 3), (16, 32, 3), (32, 64, 3)):
        layers += [
            nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a tenth faster
    return network


def _train(network: nn.Module, images: Tensor, targets: Tensor, weights: Tensor) -> None:
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    batches = math.ceil(len(targets) / _BATCH)
    epochs = int(np.clip(math.ceil(_BATCHES / batches), *_EPOCHS))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=epochs * batches)
    for _ in range(epochs):
        for batch in torch.randperm(len(targets)).chunk(batches):
            mirrored = torch.rand(len(batch), 1, 1, 1) < 0.5
            inputs = torch.where(mirrored, images[batch].flip(2), images[batch])
            optimizer.zero_grad()
            backward(cross_entropy(network(inputs), targets[batch], weights))
            optimizer.step()
            schedule.step()

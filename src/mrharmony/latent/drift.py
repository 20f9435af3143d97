"""Drift: how far the looks of known domains move while a model learns new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mrharmony.latent.guidance import SamplingSettings
from mrharmony.latent.model import LatentModel
from mrharmony.latent.sampling import EncodedBrain, encode_brain, sample_look
from mrharmony.progress import track
from mrharmony.volume import Domain, FloatArray, Volume

EVERY = 8  # slices: neighbours show almost the same


def look_drift(
    before: LatentModel, after: LatentModel, brains: Sequence[Volume], domains: Sequence[Domain]
) -> dict[str, float]:
    """Return the mean absolute change of each domain's look, in canonical units.

    Parameters
    ----------
    before, after
        Models that both know the domains and share an autoencoder.
    brains
        Canonical brains on the models' grid, whose structure the looks have; at least one.
    domains
        The domains to look at.
    """
    encoded = [_thinned(encode_brain(before, brain)) for brain in brains]
    return {
        domain.name: float(np.mean([_change(before, after, brain, domain) for brain in encoded]))
        for domain in track(domains, "measuring the drift of known domains")
    }


def _thinned(encoded: EncodedBrain) -> EncodedBrain:
    return replace(
        encoded,
        filled=encoded.filled[::EVERY],
        structure=encoded.structure[::EVERY],
        positions=encoded.positions[::EVERY],
    )


def _change(before: LatentModel, after: LatentModel, encoded: EncodedBrain, domain: Domain) -> float:
    looks: list[FloatArray] = [
        sample_look(model, encoded, domain, SamplingSettings()).voxels[:, encoded.filled]
        for model in (before, after)
    ]
    return float(np.abs(looks[1] - looks[0])[encoded.brain.voxels[:, encoded.filled] > 0].mean())

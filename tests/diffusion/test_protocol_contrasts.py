"""The contrast of a protocol: mixtures from the signal equations, curves from the scanners that ship."""

import numpy as np
import pytest

from helpers.phantoms import virtual_people
from mrharmony.core.findings import MrharmonyError
from mrharmony.domains.protocols import (
    LARGEST_MISFIT,
    NOMINAL_SCALE,
    known_protocols,
    neighbours,
    protocol_mixture,
    protocol_model,
    protocol_statistics,
    tissue_contrasts,
)
from mrharmony.networks.diffusion.network import reference_names
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import contrast
from mrharmony.space.intensity import intensity_scale

SCANNERS = load_scanners()
RANDOM = 200


def test_every_random_t1w_protocol_is_a_mixture_of_the_references_without_a_constant():
    rng = np.random.default_rng(0)
    references = np.stack([tissue_contrasts(SCANNERS[name]) for name in reference_names()])
    for scanner in (random_scanner(rng) for _ in range(RANDOM)):
        *weights, constant = protocol_mixture(scanner)  # refuses a misfit of more than LARGEST_MISFIT
        assert constant == pytest.approx(0, abs=1e-12)
        assert np.abs(weights @ references - tissue_contrasts(scanner)).max() < 5 * LARGEST_MISFIT


def test_mp2rage_is_refused():
    with pytest.raises(MrharmonyError, match="MP2RAGE"):
        protocol_mixture(SCANNERS["mp2rage-3t"])


def test_white_matter_stands_for_the_canonical_scale():
    (head,) = virtual_people(1)
    mask, rng = head.brain_mask, np.random.default_rng(1)
    scanners = [SCANNERS[name] for name in reference_names()] + [random_scanner(rng) for _ in range(12)]
    white = np.zeros((4, 1), np.float32)
    white[2] = 1
    ratios = []
    for scanner in scanners:
        scale = intensity_scale(contrast(head.tissues[:, mask], head.myelination[mask], scanner))
        ratios.append(scale / float(contrast(white, np.array([0.5], np.float32), scanner)[0]))
    assert np.std(ratios) / np.mean(ratios) < 0.01


def test_a_known_scanner_teaches_most_of_its_own_protocol():
    known = known_protocols()
    for name in known:
        shares = neighbours(SCANNERS[name], known)
        assert sum(shares.values()) == pytest.approx(1)
        assert max(shares, key=lambda other: shares[other]) == name


def test_the_curves_of_a_protocol_lie_between_those_of_the_known_scanners():
    known = known_protocols()
    offsets = np.stack([model.curves.offsets for model in known.values()])
    made = protocol_model(SCANNERS["tfe-1.5t"]).curves.offsets
    assert np.all(made >= offsets.min(axis=0) - 1e-9)
    assert np.all(made <= offsets.max(axis=0) + 1e-9)


def test_statistics_of_a_protocol_are_ordered_and_in_its_own_units():
    statistics = protocol_statistics(SCANNERS["tfe-1.5t"])
    assert statistics.scale == NOMINAL_SCALE
    assert np.all(np.diff(statistics.quantiles) >= 0)

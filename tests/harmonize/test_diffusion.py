"""The default method: contrast models from a scan or two, identity to the bit, no anatomy learned with it."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from helpers.brains import canonical_slab
from helpers.phantoms import SCANNERS, A, B, prepared, virtual_people
from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.domains.contrast import CONTRAST_MODELS
from mrharmony.domains.statistics import save_statistics
from mrharmony.evidence.uncertainty import spread
from mrharmony.methods.detail import DETAIL
from mrharmony.methods.registry import fit_method, load_method
from mrharmony.networks.card import STATISTICS

UNSEEN = "tfe-1.5t"  # by the network


@pytest.fixture(scope="module")
def heads():
    return virtual_people(3)


@pytest.fixture(scope="module")
def from_one_scan(heads):
    """Two domains of one scan each, of two people."""
    return fit_method(
        "diffusion",
        {
            name: [canonical_slab(head, SCANNERS[name], number)]
            for number, (name, head) in enumerate(zip("AB", heads, strict=False))
        },
    )


@pytest.fixture(scope="module")
def scans(heads):
    """An unseen person on both scanners."""
    return {name: prepared(canonical_slab(heads[2], scanner, 91)) for name, scanner in SCANNERS.items()}


def error(voxels, truth):
    return float(np.square(voxels - truth.intensities())[truth.brain_mask].mean())


@pytest.mark.parametrize("source", [A, None])
def test_one_scan_of_each_domain_is_enough_to_halve_the_error(from_one_scan, scans, source):
    made = from_one_scan.intensities(scans["A"], source, B)
    assert error(made, scans["B"]) < 0.5 * error(scans["A"].intensities(), scans["B"])


def test_a_scan_in_its_own_domain_is_the_scan_to_the_bit(from_one_scan, scans):
    scan = scans["A"]
    made = from_one_scan.intensities(scan, A, A)
    assert np.array_equal(made[scan.brain_mask], scan.intensities()[scan.brain_mask])


def test_the_transform_keeps_the_locks_bounds(from_one_scan, scans):
    transform = from_one_scan.transform(scans["A"], A, B)
    lowest, steepest = transform.slope_range
    assert lowest >= from_one_scan.lock.slopes[0] - 1e-6
    assert steepest <= from_one_scan.lock.slopes[1] + 1e-6
    assert transform.change_per_mm <= from_one_scan.lock.change_per_mm + 1e-6


def test_where_nothing_changes_nothing_is_uncertain(from_one_scan, scans):
    assert not spread(from_one_scan, scans["A"], A, A).any()


def test_the_uncertainty_map_is_small_in_the_brain_and_0_outside_and_follows_the_seed(from_one_scan, scans):
    scan = scans["A"]
    uncertainty = spread(from_one_scan, scan, A, B)
    inside = uncertainty[scan.brain_mask]
    assert uncertainty.dtype == np.float32
    assert not uncertainty[~scan.brain_mask].any()
    assert 0.0005 < inside.mean() < 0.1
    again, other = (from_one_scan.transforms(scan, A, B, [seed])[0].offsets for seed in (1, 2))
    assert np.array_equal(again, from_one_scan.transforms(scan, A, B, [1])[0].offsets)
    assert not np.array_equal(again, other)


def test_contrast_models_of_another_network_are_refused(from_one_scan, tmp_path):
    from_one_scan.save(tmp_path)
    path = tmp_path / CONTRAST_MODELS
    arrays = load_file(path)
    arrays["network"] = np.zeros_like(arrays["network"])
    save_file(arrays, path, metadata={"domains": '["A", "B"]'})
    with pytest.raises(MrharmonyError, match="another version's network"):
        load_method("diffusion", tmp_path)


def test_contrast_models_of_another_model_are_refused_if_they_say_so(from_one_scan, tmp_path):
    from_one_scan.save(tmp_path)
    other = {name: replace(one, scale=2 * one.scale) for name, one in from_one_scan.statistics.items()}
    save_statistics(tmp_path / STATISTICS, other)
    with pytest.raises(MrharmonyError, match=r"diffusion\.safetensors: .*belongs to another model"):
        load_method("diffusion", tmp_path)
    for path in (tmp_path / CONTRAST_MODELS, tmp_path / DETAIL):
        save_file(load_file(path), path, metadata={"domains": '["A", "B"]'})  # as the shipped ones
    assert load_method("diffusion", tmp_path).contrast_models.keys() == {"A", "B"}


def test_damaged_contrast_models_are_refused_in_a_sentence(from_one_scan, tmp_path):
    from_one_scan.save(tmp_path)
    path = tmp_path / CONTRAST_MODELS
    arrays = load_file(path)
    arrays["offsets"] = arrays["offsets"][:, :3].copy()
    save_file(arrays, path, metadata={"domains": '["A", "B"]'})
    with pytest.raises(MrharmonyError, match="not contrast models of domains"):
        load_method("diffusion", tmp_path)


def test_a_scanner_that_is_no_reference_is_served_as_source_and_as_target(heads, from_one_scan):
    seen = {"B": [canonical_slab(heads[0], SCANNERS["B"], 5)], "C": [canonical_slab(heads[1], UNSEEN, 6)]}
    method = fit_method("diffusion", seen)
    one, other = (prepared(canonical_slab(heads[2], scanner, 92)) for scanner in (UNSEEN, SCANNERS["B"]))
    to_known = error(method.intensities(one, Domain("C", "C"), B), other)
    to_new = error(method.intensities(other, B, Domain("C", "C")), one)
    assert max(to_known, to_new) < 0.6 * error(one.intensities(), other)

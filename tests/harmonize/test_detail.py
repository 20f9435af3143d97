"""Detail transfer: nothing within the target's spread, nearer to the target beyond it, and a gate."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file, save_file
from scipy.ndimage import gaussian_filter

from helpers.brains import canonical_scan
from helpers.phantoms import GRID, A, B, prepared, virtual_people
from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.domains.statistics import brain_statistics
from mrharmony.methods.detail import (
    DETAIL,
    GAINS,
    Detail,
    detail_of,
    fit_details,
    load_details,
    save_details,
    transfer_detail,
)
from mrharmony.methods.detail_filter import BINS, log_spectrum
from mrharmony.methods.diffusion import LOCK, load_diffusion
from mrharmony.methods.registry import fit_method, load_method
from mrharmony.methods.rendering import through_lock
from mrharmony.preparation.canonical import CanonicalBrain

LATTICE = (BINS,) * 3
OWNER = {"method": "diffusion"}
levels = arrays(np.float64, LATTICE, elements=st.floats(-12, 2))


@pytest.fixture(scope="module")
def sharp():
    """A head on a scanner with little noise."""
    return canonical_scan(virtual_people(1)[0], "mprage-3t", 1)


@pytest.fixture(scope="module")
def domain(sharp):
    """The detail of a domain of sharp scans."""
    return fit_details({"A": [sharp]})["A"]


def blurred(brain, mm):
    inside = gaussian_filter(brain.mask.astype(np.float32), mm / 2)
    smooth = gaussian_filter(np.where(brain.mask, brain.volume.voxels, 0), mm / 2) / np.maximum(inside, 1e-3)
    return brain._replace(volume=brain.volume.with_voxels(np.where(brain.mask, smooth, 0)))


def noisy(brain, level):
    noise = level * np.random.default_rng(0).standard_normal(brain.mask.shape)
    return brain._replace(
        volume=brain.volume.with_voxels(np.where(brain.mask, brain.volume.voxels + noise, 0))
    )


def transferred(brain, detail, **verdict):
    """A brain with the identity for a lock, and its detail transferred."""
    scan, statistics = prepared(brain), brain_statistics(brain)
    locked = through_lock(scan, LOCK.lattice(), "diffusion", B, A, {"A": statistics})
    locked = replace(locked, evidence=locked.evidence.model_copy(update=verdict))
    return locked, transfer_detail(scan, locked, detail, statistics)


def distance(voxels, brain, detail):
    return float(
        np.abs(log_spectrum(brain._replace(volume=brain.volume.with_voxels(voxels))) - detail.mean).mean()
    )


@settings(max_examples=50, deadline=None)
@given(levels, levels, st.floats(0.01, 1))
def test_gains_are_bounded_and_finite_whatever_the_spectra(mean, spectrum, spread):
    gains = Detail(mean, np.full(LATTICE, spread), 5).gains(spectrum)
    assert np.isfinite(gains).all()
    assert gains.min() >= GAINS[0]
    assert gains.max() <= GAINS[1]


@settings(max_examples=50, deadline=None)
@given(levels, st.floats(0.01, 1), st.integers(0, 2**32 - 1))
def test_within_the_spread_all_gains_are_1_to_the_bit(mean, spread, seed):
    share = np.random.default_rng(seed).uniform(-1.99, 1.99, LATTICE)
    assert (Detail(mean, np.full(LATTICE, spread), 5).gains(mean + share * spread) == 1).all()


def test_a_scan_within_the_spread_is_left_alone_to_the_bit(sharp, domain):
    locked, done = transferred(sharp, domain)
    assert done.volume is locked.volume
    assert done.evidence == locked.evidence
    assert done.provenance["detail"]["transferred"] is False
    assert [finding.code for finding in done.findings] == ["detail-kept"]


@pytest.mark.parametrize("spoil", [lambda brain: blurred(brain, 2), lambda brain: noisy(brain, 0.03)])
def test_a_blurred_and_a_noisy_scan_come_nearer_to_a_sharp_domain(sharp, domain, spoil):
    spoiled = spoil(sharp)
    locked, done = transferred(spoiled, domain)
    assert done.provenance["detail"]["transferred"] is True
    assert [finding.code for finding in done.findings] == ["detail-transferred"]
    after = distance(done.intensities(), sharp, domain)
    assert after < 0.9 * distance(locked.intensities(), sharp, domain)
    assert np.array_equal(done.volume.affine, locked.volume.affine)
    assert done.volume.voxels.dtype == np.float32
    assert not done.volume.voxels[~sharp.mask].any()
    assert np.isfinite(done.volume.voxels).all()


def test_noise_is_taken_away_and_none_is_added(sharp, domain):
    spoiled = noisy(sharp, 0.04)
    _, done = transferred(spoiled, domain)
    deep = np.square(GRID.positions() - np.array([0, -17, 5])).sum(axis=-1) < 40**2
    errors = [
        np.std((voxels - sharp.volume.voxels)[sharp.mask & deep])
        for voxels in (spoiled.volume.voxels, done.intensities())
    ]
    assert done.provenance["detail"]["transferred"] is True
    assert errors[1] < 0.9 * errors[0]


def test_a_filter_that_worsens_the_verdict_is_left_out(sharp, domain):
    waves = log_spectrum(sharp).copy()
    waves[1:3] -= 12  # a target without waves of a centimetre along one axis: nothing that a scanner would do
    waves[3:] += 12
    locked, done = transferred(sharp, replace(domain, mean=waves))
    assert locked.evidence.verdict == "pass"
    assert done.volume is locked.volume
    assert done.evidence == locked.evidence
    assert done.provenance["detail"]["filtered_verdict"] in ("warn", "fail")
    assert done.findings[-1].code == "detail-dropped"
    assert done.findings[-1].level == "warning"


def test_what_the_lock_was_warned_of_stays_a_warning(sharp, domain):
    _, done = transferred(blurred(sharp, 2), domain, verdict="warn", reasons=("grey_drift",))
    assert done.provenance["detail"]["transferred"] is True
    assert done.evidence.verdict == "warn"
    assert "grey_drift" in done.evidence.reasons


def test_what_fails_without_the_filter_is_not_filtered(sharp, domain):
    locked, done = transferred(blurred(sharp, 2), domain, verdict="fail", reasons=("grey_drift",))
    assert done.volume is locked.volume
    assert done.evidence == locked.evidence


def test_white_noise_has_its_variance_as_power_in_every_bin():
    mask = np.square(GRID.positions() - np.array([0, -17, 5])).sum(axis=-1) < 55**2
    noise = 0.05 * np.random.default_rng(3).standard_normal(mask.shape)
    brain = CanonicalBrain(Volume(np.where(mask, 0.7 + noise, 0), GRID.affine), mask, 1.0)
    power = np.exp(log_spectrum(brain)[1:, 1:, 1:])
    assert power.mean() == pytest.approx(0.05**2, rel=0.05)
    assert power == pytest.approx(0.05**2, rel=0.4)


def test_the_spread_of_one_scan_is_the_usual_one(domain):
    assert domain.scans == 1
    assert np.allclose(domain.spread, 0.2)


def test_details_are_saved_and_loaded(domain, tmp_path):
    save_details(tmp_path, {"A": domain}, OWNER)
    found = load_details(tmp_path, lambda _: OWNER)["A"]
    assert np.allclose(found.mean, domain.mean, atol=1e-5)
    assert np.allclose(found.spread, domain.spread)
    assert found.scans == 1
    assert load_details(tmp_path / "elsewhere", lambda _: OWNER) == {}


def test_detail_of_another_model_is_refused(fitted, domain, tmp_path):
    fitted.save(tmp_path)
    statistics = {**fitted.statistics, "C": fitted.statistics["A"]}
    replace(fitted, statistics=statistics, details={**fitted.details, "C": domain}).save(tmp_path / "more")
    shutil.copy(tmp_path / "more" / DETAIL, tmp_path)
    with pytest.raises(MrharmonyError, match="there are no statistics of C"):
        load_diffusion(tmp_path)
    scales = {name: replace(one, scale=2 * one.scale) for name, one in fitted.statistics.items()}
    replace(fitted, statistics=scales).save(tmp_path / "others")
    shutil.copy(tmp_path / "others" / DETAIL, tmp_path)
    with pytest.raises(MrharmonyError, match="it belongs to another model"):
        load_diffusion(tmp_path)


@pytest.mark.parametrize("fault", ["shape", "missing", "nan"])
def test_damaged_details_are_refused_in_a_sentence(domain, tmp_path, fault):
    save_details(tmp_path, {"A": domain}, OWNER)
    found = load_file(tmp_path / DETAIL)
    if fault == "missing":
        del found["spreads"]
    else:
        found["means"] = found["means"][:, :2].copy() if fault == "shape" else found["means"] * np.nan
    save_file(found, tmp_path / DETAIL, metadata={"domains": '["A"]'})
    with pytest.raises(MrharmonyError, match="not detail of domains"):
        load_details(tmp_path, lambda _: OWNER)


def test_unknown_detail_is_refused_with_a_remedy(domain):
    with pytest.raises(MrharmonyError, match=r"known is that of A.*train"):
        detail_of({"A": domain}, B)
    with pytest.raises(MrharmonyError, match="none at all"):
        detail_of({}, B)


@pytest.fixture(scope="module")
def fitted(sharp):
    """Two domains, one of them noisy."""
    return fit_method("diffusion", {"A": [sharp], "B": [noisy(sharp, 0.05)]})


def test_the_method_keeps_its_detail_and_transfers_it_where_asked(fitted, sharp, tmp_path):
    fitted.save(tmp_path)
    plain = load_method("diffusion", tmp_path)
    assert not plain.transfers_detail
    method, scan = plain.with_detail(), prepared(noisy(sharp, 0.05))
    done, locked = method.harmonize(scan, B, A), plain.harmonize(scan, B, A)
    assert "detail" not in locked.provenance
    assert done.provenance["detail"]["transferred"] is True
    assert done.provenance["nearest"] == locked.provenance["nearest"]
    nearer = [distance(one.intensities(), sharp, plain.details["A"]) for one in (done, locked)]
    assert nearer[0] < nearer[1]
    assert np.array_equal(method.intensities(scan, B, A), done.intensities())


def test_a_scan_in_its_own_domain_is_the_scan_to_the_bit_with_detail_too(fitted, sharp):
    scan = prepared(noisy(sharp, 0.05))
    done = fitted.with_detail().harmonize(scan, A, A)
    assert np.array_equal(done.volume.voxels, fitted.harmonize(scan, A, A).volume.voxels)
    assert done.provenance["detail"]["transferred"] is False


def test_detail_of_a_whole_head_is_refused(fitted):
    with pytest.raises(MrharmonyError, match="only the brain"):
        replace(fitted, extent="head").with_detail()


def test_a_target_without_detail_is_refused(fitted, sharp):
    method = replace(fitted, details={}).with_detail()
    with pytest.raises(MrharmonyError, match="does not know the detail of A"):
        method.harmonize(prepared(sharp), None, Domain("A", "a"))

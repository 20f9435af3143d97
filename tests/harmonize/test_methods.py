"""The registry of fitted methods, on virtual heads: fitted, saved, loaded, used on unseen scans."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from helpers.brains import canonical_slab
from helpers.phantoms import NEW, SCANNERS, A, B, prepared, virtual_people
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.domains.statistics import fit_statistics, load_statistics, save_statistics
from mrharmony.methods.registry import FITTED_METHODS, SIMPLE_METHODS, fit_method, load_method
from mrharmony.methods.tone_curves import CURVES
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.space.grid import Grid

WHITE_MATTER_ONLY = {"whitestripe", "fcm", "kde"}  # one level: other tissues may end anywhere


@pytest.fixture(scope="module")
def heads():
    return virtual_people(3)


@pytest.fixture(scope="module")
def training(heads):
    """Two people, on both scanners."""
    return {
        name: [canonical_slab(head, scanner, seed) for seed, head in enumerate(heads[:2])]
        for name, scanner in SCANNERS.items()
    }


@pytest.fixture(scope="module")
def statistics(training):
    return fit_statistics(training)


@pytest.fixture(scope="module")
def travelling(heads):
    """An unseen person on both scanners."""
    return {name: canonical_slab(heads[2], scanner, 90) for name, scanner in SCANNERS.items()}


@pytest.fixture(scope="module")
def scan(travelling):
    return prepared(travelling["A"])


@pytest.fixture(scope="module", params=FITTED_METHODS)
def method(request, training, statistics):
    return fit_method(request.param, training, statistics)


@pytest.fixture(scope="module")
def native(travelling):
    """The unseen person on a native grid of its own: other voxels, other axes, another gain."""
    brain = travelling["A"]
    kept = (slice(None, None, -1), slice(4, -4), slice(None, None, 2))
    affine = brain.volume.affine @ np.array([[-1, 0, 0, 79], [0, 1, 0, 4], [0, 0, 2, 0], [0, 0, 0, 1.0]])
    volume = Volume(brain.volume.voxels[kept] * np.float32(70), affine)
    bias = np.ones(volume.shape, np.float32)
    return PreparedScan(volume, brain.mask[kept].copy(), bias, np.eye(4), 70.0, True, ())


def test_the_registry_names_every_method_once():
    assert len(set(SIMPLE_METHODS)) == len(SIMPLE_METHODS) == 14
    assert set(CURVES) < set(SIMPLE_METHODS)


def test_every_method_comes_closer_to_the_true_target_scan(method, scan, travelling):
    if method.name == "none" or method.name in WHITE_MATTER_ONLY:
        pytest.skip("does not match more than one tissue")
    truth = travelling["B"]
    before, after = (
        np.square(voxels - truth.volume.voxels)[truth.mask].mean()
        for voxels in (travelling["A"].volume.voxels, method.intensities(scan, A, B))
    )
    assert after < 0.8 * before


def test_saved_and_loaded_gives_the_same_bits_and_needs_no_source(method, scan, tmp_path):
    method.save(tmp_path)
    again = load_method(method.name, tmp_path)
    assert np.array_equal(again.intensities(scan, A, B), method.intensities(scan, A, B))
    if method.name == "combat":
        with pytest.raises(MrharmonyError, match="unknown domain"):
            again.intensities(scan, None, B)
    else:
        unknown = again.intensities(scan, None, B)
        assert np.isfinite(unknown).all()
        assert np.array_equal(unknown, again.intensities(scan, NEW, B))


def test_a_scan_on_its_own_grid_gives_its_own_grid_in_the_targets_units(method, native):
    output = method.harmonize(native, A, B)
    voxels = output.volume.voxels
    assert np.isfinite(voxels).all()
    assert not voxels[~native.brain_mask].any()
    assert np.array_equal(output.volume.affine, native.native.affine)
    assert output.scale == method.statistics["B"].scale
    canonical = method.intensities(native, A, B)
    assert np.allclose(voxels, canonical * output.scale, rtol=1e-5, atol=1e-4 * output.scale)
    assert output.provenance["method"] == method.name
    assert output.evidence.mean_change == pytest.approx(
        np.abs(canonical - native.intensities())[native.brain_mask].mean(), rel=1e-3, abs=1e-6
    )


@pytest.mark.parametrize("name", ["combat", "spectrum"])
def test_a_change_on_the_template_grid_arrives_at_native_voxels(name, training, statistics, scan):
    moved = replace(scan, native=Volume(scan.native.voxels, scan.native.affine + np.eye(4, k=3) * 0.01))
    method = fit_method(name, training, statistics)
    here, there = (method.intensities(one, A, B) for one in (scan, moved))
    assert np.abs(here - there).mean() < 0.01 * np.abs(here - scan.intensities()).mean()


def test_a_method_and_a_target_that_do_not_exist_are_refused_by_name(method, training, scan, tmp_path):
    with pytest.raises(MrharmonyError, match="NEW"):
        method.harmonize(scan, A, NEW)
    with pytest.raises(MrharmonyError, match="magic"):
        fit_method("magic", training)
    with pytest.raises(MrharmonyError, match="magic"):
        load_method("magic", tmp_path)


def test_missing_and_damaged_files_are_refused(training, statistics, tmp_path):
    with pytest.raises(MrharmonyError, match=r"statistics\.safetensors"):
        load_method("none", tmp_path / "nowhere")
    fit_method("nyul", training, statistics).save(tmp_path)
    (tmp_path / "nyul.safetensors").write_bytes(b"no tensors")
    with pytest.raises(MrharmonyError, match=r"nyul\.safetensors"):
        load_method("nyul", tmp_path)


def test_a_file_of_another_method_or_model_is_refused(training, statistics, tmp_path):
    for name in ("zscore", "fcm", "nyul"):
        fit_method(name, training, statistics).save(tmp_path / "model")
    shutil.copy(tmp_path / "model" / "zscore.safetensors", tmp_path / "model" / "fcm.safetensors")
    with pytest.raises(MrharmonyError, match=r"fcm\.safetensors: .*belongs to another method"):
        load_method("fcm", tmp_path / "model")
    exchanged = {"A": training["B"], "B": training["A"]}
    fit_method("nyul", exchanged).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "nyul.safetensors", tmp_path / "model")
    with pytest.raises(MrharmonyError, match=r"nyul\.safetensors: .*belongs to another model"):
        load_method("nyul", tmp_path / "model")
    more = {"C": statistics["A"], **load_statistics(tmp_path / "other" / "statistics.safetensors")}
    save_statistics(tmp_path / "other" / "statistics.safetensors", more)  # as that of pairs, which may grow
    assert load_method("nyul", tmp_path / "other").statistics.keys() == {"A", "B", "C"}


def test_no_domains_and_brains_without_finite_voxels_are_refused(training):
    with pytest.raises(MrharmonyError, match="No domains"):
        fit_method("zscore", {})
    sick = training["A"][0]
    nan = sick._replace(volume=sick.volume.with_voxels(np.full(Grid.working(2.0).shape, np.nan)))
    with pytest.raises(MrharmonyError, match="finite"):
        fit_method("zscore", {"A": [nan]})

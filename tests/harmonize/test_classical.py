"""Classical methods on a prepared scan: native grid, units, extent, identity, unknown domains."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError, warning
from mrharmony.core.volume import Volume
from mrharmony.domains.statistics import fit_statistics
from mrharmony.jobs.harmonizing import HarmonizeJob, harmonize_prepared
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.methods.rendering import output_scale, render
from mrharmony.methods.tone_curves import ClassicalHarmonizer, scan_statistics
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.space.grid import Grid

METHODS = ("none", "histogram", "population", "regional", "regional-scan")
A, B, NEW = Domain("A", "a"), Domain("B", "b"), Domain("NEW", "new")
SHAPE = (40, 36, 44)


def native_affine():
    """Voxels of 4×5×4 mm, left-right reversed and oblique by a few degrees."""
    angle = np.radians(8)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-4.0, 5.0, 4.0])
    affine[:3, 3] = np.array([0, -17, 2]) - affine[:3, :3] @ (np.array(SHAPE) - 1) / 2
    return affine


def prepared(seed=0, power=1.0, gain=100.0):
    """Three nested tissues, with a bias field, as a scanner with a given tone curve shows them."""
    rng = np.random.default_rng(seed)
    affine = native_affine()
    centred = np.moveaxis(np.indices(SHAPE), 0, -1) @ affine[:3, :3].T + affine[:3, 3] - [0, -17, 2]
    radius = np.linalg.norm(centred / [62, 78, 66], axis=-1)
    canonical = np.select([radius < 0.35, radius < 0.75, radius < 1.25], [0.25, 0.95, 0.6], 0.1)
    canonical = np.clip(canonical + 0.03 * rng.standard_normal(SHAPE), 0.01, 1.2) ** power
    bias = np.exp(0.1 * centred[..., 0] / 60).astype(np.float32)
    voxels = (canonical * bias * gain).astype(np.float32)
    return PreparedScan(Volume(voxels, affine), radius < 1, bias, np.eye(4), gain, False, ())


def canonical_brain(scan):
    return CanonicalBrain(*scan.canonical(Grid.working(2.0)), scan.scale)


@pytest.fixture(scope="module")
def statistics():
    contrasts = {"A": (1.0, 100.0), "B": (1.8, 400.0)}
    return fit_statistics(
        {
            name: [canonical_brain(prepared(seed, *contrast)) for seed in (1, 2)]
            for name, contrast in contrasts.items()
        }
    )


def harmonizer(method, statistics, extent="brain"):
    return ClassicalHarmonizer(method, statistics, extent)


@pytest.mark.parametrize("method", METHODS)
def test_output_is_finite_on_the_native_grid_and_black_outside_the_brain(method, statistics):
    scan = prepared()
    output = harmonizer(method, statistics).harmonize(scan, A, B)
    assert np.array_equal(output.volume.affine, scan.native.affine)
    assert output.volume.shape == scan.native.shape
    assert np.isfinite(output.volume.voxels).all()
    assert not output.volume.voxels[~scan.brain_mask].any()
    assert output.provenance["method"] == method


@pytest.mark.parametrize("source", [A, NEW, None])
@pytest.mark.parametrize("method", METHODS[1:])
def test_every_method_comes_closer_to_the_true_target_scan(method, source, statistics):
    scan, truth = prepared(5), prepared(5, 1.8, 400.0)
    corrected = (truth.native.voxels / truth.bias_field)[scan.brain_mask]
    errors = []
    for name in ("none", method):
        output = harmonizer(name, statistics).harmonize(scan, source, B)
        errors.append(np.abs(output.volume.voxels[scan.brain_mask] - corrected).mean())
    assert errors[1] < 0.25 * errors[0]


@pytest.mark.parametrize("method", ["none", "population", "regional"])
def test_staying_in_the_domain_is_exactly_the_identity(method, statistics):
    scan = prepared(7, gain=130.0)
    output = harmonizer(method, statistics).harmonize(scan, A, A)
    expected = scan.intensities() * np.float32(scan.scale)
    assert np.array_equal(output.volume.voxels[scan.brain_mask], expected[scan.brain_mask])
    assert output.evidence.verdict == "pass"


def test_output_has_the_units_of_the_target_domain(statistics):
    scan = prepared(7, gain=130.0)
    assert output_scale(scan, A, A, statistics) == 130.0
    assert output_scale(scan, A, B, statistics) == 400.0
    assert output_scale(scan, None, B, statistics) == 400.0


def test_extent_head_transforms_what_lies_outside_the_brain_too(statistics):
    scan = prepared()
    brain = harmonizer("regional", statistics).harmonize(scan, A, B).volume.voxels
    head = harmonizer("regional", statistics, "head").harmonize(scan, A, B).volume.voxels
    assert np.array_equal(brain[scan.brain_mask], head[scan.brain_mask])
    assert (head[~scan.brain_mask] > 0).all()


def test_each_voxel_is_mapped_by_its_own_place_in_the_template():
    scan = prepared()
    left_darker = np.zeros((2, 1, 1, 2))
    left_darker[0, ..., 1] = -0.5
    transform = BilateralGrid([[-1, 0, 0], [1, 1, 1]], [0.0, 1.0], left_darker)
    change = render(scan, transform) - np.where(scan.brain_mask, scan.intensities(), 0)
    right = np.zeros(SHAPE, dtype=bool)
    right[scan.brain_mask] = scan.positions(scan.brain_mask)[:, 0] > 1
    assert not change[right].any()
    left = np.zeros(SHAPE, dtype=bool)
    left[scan.brain_mask] = scan.positions(scan.brain_mask)[:, 0] < -1
    assert (change[left] < 0).all()


def test_a_scan_of_an_unknown_source_is_matched_from_its_own_statistics(statistics):
    scan = prepared(3)
    grid = ClassicalHarmonizer("regional", statistics).transform(scan, NEW, B)
    alone = ClassicalHarmonizer("regional-scan", statistics).transform(scan, A, B)
    assert np.array_equal(grid.offsets, alone.offsets)
    assert scan_statistics(scan).scans == 1


def test_an_unknown_target_is_refused_by_name(statistics):
    with pytest.raises(MrharmonyError, match="NEW"):
        harmonizer("regional", statistics).harmonize(prepared(), A, NEW)


def test_same_scan_gives_the_same_bytes(statistics):
    outputs = [harmonizer("regional-scan", statistics).harmonize(prepared(), None, B) for _ in range(2)]
    assert outputs[0].volume.voxels.tobytes() == outputs[1].volume.voxels.tobytes()
    assert outputs[0].evidence == outputs[1].evidence


def test_warnings_of_preparation_weighting_and_lost_slices_lower_the_verdict_and_others_do_not(statistics):
    job = HarmonizeJob(harmonizer("none", statistics), A, A)

    def doubts(preparation: Sequence[str] = (), reading: Sequence[str] = ()) -> tuple[str, list[str]]:
        scan = replace(prepared(), findings=tuple(warning(code, "Odd.", "Look.") for code in preparation))
        done = harmonize_prepared(job, scan, [warning(code, "Odd.", "Look.") for code in reading]).evidence
        return done.verdict, [reason for reason in done.reasons if reason in (*preparation, *reading)]

    assert doubts(preparation=["unlike-template"]) == ("warn", ["unlike-template"])
    assert doubts(reading=["contrast-agent"]) == ("warn", ["contrast-agent"])
    assert doubts(reading=["blank-slices"]) == ("warn", ["blank-slices"])
    assert doubts(reading=["header-repaired"])[1] == []

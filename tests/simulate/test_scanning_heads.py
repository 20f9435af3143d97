from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mrharmony.simulate.anatomy import CSF, WM, Anatomy
from mrharmony.simulate.bias import BIAS_TERMS, HEAD_CENTRE_MM, HEAD_RADIUS_MM, bias_field
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import contrast, draw_scan, render, scan_head, tissue_signals
from mrharmony.space.grid import Grid

SCANNERS = load_scanners()
PERFECT = {
    "bias": {},
    "blur_fwhm_mm": (0, 0, 0),
    "noise": 0,
    "gain": {"mean": 1, "log_sd": 0},
    "jitter": {"bias": 0, "flip_angle": 0},
    "slice_profile_mm": (0, 0, 0),
    "matrix_share": (1, 1, 1),
    "prescan_normalisation": 0,
    "motion": None,
}


def perfect(name: str, **changes: object) -> Scanner:
    """The contrast of a shipped scanner without its imperfections."""
    return Scanner.model_validate(SCANNERS[name].model_dump() | PERFECT | changes)


def block(tissue: int, size: int = 24, zoom: float = 1.0) -> Anatomy:
    tissues = np.zeros((4, size, size, size), np.float32)
    tissues[tissue] = 1
    flat = np.full((size, size, size), 0.5, np.float32)
    return Anatomy(tissues, flat, np.zeros_like(flat), np.diag([zoom, zoom, zoom, 1.0]))


@pytest.mark.parametrize("name", SCANNERS)
@pytest.mark.parametrize("tissue", range(4))
def test_a_perfect_scanner_shows_each_tissue_s_signal(name: str, tissue: int) -> None:
    image = scan_head(block(tissue, 4), perfect(name), np.random.default_rng(0)).voxels
    assert image == pytest.approx(abs(float(tissue_signals(SCANNERS[name])[tissue])), rel=1e-4)


def test_scans_are_reproducible_zero_outside_and_in_the_scanner_s_units(head: Anatomy) -> None:
    scanner = SCANNERS["mprage-3t"]
    one, again, other = (scan_head(head, scanner, np.random.default_rng(s)).voxels for s in (1, 1, 2))
    assert one.tobytes() == again.tobytes() != other.tobytes()
    assert np.isfinite(one).all()
    assert np.all(one[~head.brain_mask] == 0)
    assert np.all(one[head.brain_mask] > 0)
    white = np.median(one[head.tissues[WM] > 0.95])
    assert white == pytest.approx(scanner.gain.mean * float(tissue_signals(scanner)[WM]), rel=0.5)


@pytest.mark.parametrize("name", SCANNERS)
def test_tissues_are_ordered_as_in_any_t1w_scan(head: Anatomy, name: str) -> None:
    image = scan_head(head, SCANNERS[name], np.random.default_rng(0)).voxels
    csf, grey, white = (np.median(image[head.tissues[tissue] > 0.95]) for tissue in range(3))
    assert csf < grey < white


def test_scanners_differ_as_much_as_real_ones(head: Anatomy) -> None:
    images = []
    for scanner in SCANNERS.values():
        brain = scan_head(head, scanner, np.random.default_rng(0)).voxels[head.brain_mask]
        images.append(brain / np.percentile(brain, 99))
    errors = [np.mean((a - b) ** 2) for i, a in enumerate(images) for b in images[:i]]
    psnr = -10 * np.log10(errors)
    assert 12 < psnr.min() < 18
    assert 18 < psnr.mean() < 22
    assert psnr.max() < 28


def test_myelin_brightens_white_matter_by_a_few_percent() -> None:
    tissues = np.array([0, 0, 1, 0], np.float32).reshape(4, 1)
    low, high = (contrast(tissues, np.full(1, m, np.float32), SCANNERS["mprage-3t"])[0] for m in (0, 1))
    assert 1.02 < high / low < 1.2


def test_a_voxel_of_opposite_signals_is_dark() -> None:
    # At a short inversion time CSF is still inverted while WM has recovered.
    sequence = SCANNERS["mprage-3t"].sequence.model_dump() | {
        "inversion_time_ms": 600, "excitations": 100, "repetition_time_ms": 5000,
    }  # fmt: skip
    scanner = perfect("mprage-3t", sequence=sequence)
    signals = tissue_signals(scanner)
    assert signals[CSF] < 0 < signals[WM]
    tissues = np.array([0.5, 0, 0.5, 0], np.float32).reshape(4, 1)
    mixed = contrast(tissues, np.full(1, 0.5, np.float32), scanner)[0]
    assert mixed == pytest.approx(abs(signals[CSF] + signals[WM]) / 2, abs=1e-6)


@pytest.mark.parametrize("zoom", [1.0, 2.0])
def test_noise_has_the_scanner_s_deviation_for_the_voxel_s_volume(zoom: float) -> None:
    scanner = perfect("mprage-3t", noise=0.05)
    image = scan_head(block(WM, zoom=zoom), scanner, np.random.default_rng(0)).voxels
    expected = 0.05 / np.sqrt(zoom**3)
    assert image.std() / image.mean() == pytest.approx(expected, rel=0.03)


def test_noise_that_drowns_the_signal_is_rayleigh_distributed() -> None:
    image = scan_head(block(CSF), perfect("mprage-3t", noise=50.0), np.random.default_rng(0)).voxels
    assert image.mean() / image.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.03)


def test_the_point_spread_has_the_width_asked_for() -> None:
    anatomy = block(WM, 33)
    tissues = np.zeros_like(anatomy.tissues)
    tissues[CSF] = 1
    tissues[:, 16] = 0
    tissues[WM, 16] = 1
    sheet = Anatomy(tissues, anatomy.myelination, anatomy.ventricles, anatomy.affine)
    sharp, soft = (
        scan_head(sheet, perfect("mprage-3t", blur_fwhm_mm=(fwhm, 0, 0)), np.random.default_rng(0)).voxels
        for fwhm in (0.0, 4.0)
    )
    profile = soft[:, 16, 16] - soft[0, 16, 16]
    assert profile.sum() == pytest.approx((sharp[:, 16, 16] - sharp[0, 16, 16]).sum(), rel=0.01)
    second_moment = (profile * (np.arange(33) - 16) ** 2).sum() / profile.sum()
    assert 2.3548 * np.sqrt(second_moment) == pytest.approx(4, rel=0.03)


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_the_receive_field_is_its_polynomial_on_any_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    coefficients = (0.1 * rng.standard_normal(len(BIAS_TERMS))).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed % 2**32).as_matrix() * rng.uniform(1, 4, 3)
    affine[:3, 3] = rng.uniform(-60, 0, 3)
    shape = (7, 11, 5)
    voxel = rng.integers(0, shape)
    x, y, z = (affine[:3, :3] @ voxel + affine[:3, 3] - HEAD_CENTRE_MM) / HEAD_RADIUS_MM
    logarithm = sum(g * x**a * y**b * z**c for g, (a, b, c) in zip(coefficients, BIAS_TERMS, strict=True))
    assert bias_field(coefficients, shape, affine)[tuple(voxel)] == pytest.approx(np.exp(logarithm), rel=1e-4)


def test_a_drawn_scan_can_be_replayed(head: Anatomy) -> None:
    scanner = SCANNERS["spgr-1.5t"]
    draw = draw_scan(scanner, np.random.default_rng(0))
    first, again = (render(head, scanner, draw, np.random.default_rng(1)) for _ in range(2))
    assert first.tobytes() == again.tobytes()


def test_a_head_and_three_scans_at_2_mm_cost_at_most_five_seconds_of_two_cores(
    grid: Grid, head: Anatomy
) -> None:
    assert head.shape == grid.shape  # the template is loaded by now
    began = time.process_time()
    anatomy = virtual_head(np.random.default_rng(1), grid)
    for name in ("mprage-3t", "spgr-1.5t", "tfe-3t"):
        scan_head(anatomy, SCANNERS[name], np.random.default_rng(0))
    assert time.process_time() - began < 10

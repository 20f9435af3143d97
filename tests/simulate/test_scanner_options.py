from __future__ import annotations

import numpy as np
import pytest

from mrharmony.simulate.anatomy import CORTICAL_GM, WM, Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import draw_scan, render, scan_head
from mrharmony.space.grid import Grid

SCANNERS = load_scanners()
ARRAY = SCANNERS["mprage-3t-array"].model_copy(update={"jitter": SCANNERS["mprage-3t"].jitter})


@pytest.fixture(scope="module")
def coarse() -> Anatomy:
    return virtual_head(np.random.default_rng(2), Grid.working(4.0), ventricle_scale=1.0)


def spread_of_white(head: Anatomy, scanner: Scanner, seed: int = 0) -> float:
    image = scan_head(head, scanner, np.random.default_rng(seed)).voxels
    white = image[head.tissues[WM] > 0.9]
    return float(white.std() / white.mean())


def test_prescan_normalisation_removes_its_share_of_the_fixed_pattern(coarse: Anatomy) -> None:
    spreads = [
        spread_of_white(coarse, ARRAY.model_copy(update={"prescan_normalisation": share, "noise": 0.0}))
        for share in (0.0, 0.5, 1.0)
    ]
    assert spreads[0] > 1.3 * spreads[1] > 1.3 * spreads[2]


def test_prescan_normalisation_leaves_more_noise_where_the_coil_sees_little(coarse: Anatomy) -> None:
    scanner = ARRAY.model_copy(update={"prescan_normalisation": 1.0})
    draw = draw_scan(scanner, np.random.default_rng(0))
    scans = [render(coarse, scanner, draw, np.random.default_rng(seed)) for seed in range(12)]
    noise = np.std(scans, axis=0)
    deep, outer = (
        noise[20:24, 26:30, 18:22].mean(),
        noise[8:32, 26:30, 30:36][noise[8:32, 26:30, 30:36] > 0].mean(),
    )
    assert deep > 1.15 * outer


def test_shipped_scanners_without_the_options_draw_as_before() -> None:
    draw = draw_scan(SCANNERS["mprage-3t"], np.random.default_rng(0))
    assert (draw.timing_scale, draw.normalised, draw.motion) == (1.0, None, None)


def test_jitter_of_the_times_changes_the_contrast_between_scans(coarse: Anatomy) -> None:
    def contrasts(timing: float) -> np.ndarray:
        scanner = SCANNERS["mprage-3t"].restless(0.0, timing).model_copy(update={"noise": 0.0})
        images = [scan_head(coarse, scanner, np.random.default_rng(seed)).voxels for seed in range(6)]
        white, grey = coarse.tissues[WM] > 0.9, coarse.tissues[CORTICAL_GM] > 0.9
        return np.array([np.median(image[grey]) / np.median(image[white]) for image in images])

    assert np.ptp(contrasts(0.0)) < 1e-4
    assert np.ptp(contrasts(0.08)) > 0.02


def test_a_restless_scanner_varies_more_in_everything() -> None:
    calm, restless = SCANNERS["spgr-3t"], SCANNERS["spgr-3t"].restless(3.0, 0.1)
    assert restless.jitter.bias == pytest.approx(3 * calm.jitter.bias)
    assert restless.jitter.flip_angle == pytest.approx(3 * calm.jitter.flip_angle)
    assert restless.jitter.timing == pytest.approx(0.1)
    assert restless.gain.log_sd == pytest.approx(3 * calm.gain.log_sd)
    assert restless.gain.mean == calm.gain.mean
    assert calm.restless(1.0, 0.0) == calm


def test_a_partial_matrix_softens_and_keeps_the_brightness(coarse: Anatomy) -> None:
    sharp = SCANNERS["mprage-3t"].model_copy(update={"noise": 0.0})
    partial = sharp.model_copy(update={"matrix_share": (0.6, 1.0, 0.6)})
    one, other = (scan_head(coarse, scanner, np.random.default_rng(0)).voxels for scanner in (sharp, partial))
    inside = coarse.brain_mask
    assert other[inside].mean() == pytest.approx(one[inside].mean(), rel=0.05)
    assert np.abs(np.diff(other, axis=0)).sum() < np.abs(np.diff(one, axis=0)).sum()


@pytest.mark.parametrize(
    "change", [{"matrix_share": (0, 1, 1)}, {"prescan_normalisation": 1.5}, {"motion": {"moves": 0}}]
)
def test_absurd_options_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Scanner.model_validate(SCANNERS["mprage-3t"].model_dump() | change)

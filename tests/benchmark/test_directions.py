"""Scores are summed up by direction, beside the best rival and the ceiling."""

from pathlib import Path

import numpy as np
import pytest

from mrharmony.benchmark.contenders import CEILING
from mrharmony.benchmark.directions import by_direction, identity_means, paired_cells, summarise
from mrharmony.benchmark.plan import BenchmarkScan


def records(errors: dict[tuple[str, str], float], heads: int = 3):
    """Return what the contest would have written: an MSE for each (source, target)."""
    for head in range(heads):
        for source in {source for source, _ in errors}:
            targets = {
                target: {"mse": error * (1 + 0.1 * head), "ssim": 1 - error}
                for (start, target), error in errors.items()
                if start == source
            }
            yield BenchmarkScan(Path("x"), str(head), source, {}), {"targets": targets}


GOOD = {("a", "b"): 0.001, ("b", "a"): 0.002}
BAD = {("a", "b"): 0.010, ("b", "a"): 0.020}
MIXED = {("a", "b"): 0.0005, ("b", "a"): 0.004}
PERFECT = {("a", "b"): 0.0001, ("b", "a"): 0.0002}


def summaries():
    cells = {
        name: paired_cells(records(errors))
        for name, errors in (("none", BAD), ("regional", GOOD), ("diffusion", MIXED), (CEILING, PERFECT))
    }
    return summarise(cells, seed=0)


def test_a_direction_is_the_mean_over_its_heads():
    cells = paired_cells(records(GOOD))
    first, second = by_direction("regional", cells)
    assert (first.source, first.target, first.heads) == ("a", "b", 3)
    assert first.psnr == pytest.approx(np.mean([10 * np.log10(1 / (0.001 * f)) for f in (1, 1.1, 1.2)]))
    assert second.mse == pytest.approx(0.0022)


def test_doing_nothing_gains_nothing_and_the_ceiling_fills_the_room():
    found = summaries()
    assert found["none"].gain == 0
    assert found["regional"].room == pytest.approx(0)
    assert found[CEILING].room == pytest.approx(1)
    assert found["regional"].gain == pytest.approx(10)


def test_a_direction_below_the_best_simple_method_is_counted():
    found = summaries()
    assert found["diffusion"].below_best == 1
    assert found["diffusion"].worst_gap == pytest.approx(10 * np.log10(0.5))
    assert found["regional"].below_best == 0


def test_the_interval_holds_the_mean():
    for summary in summaries().values():
        assert summary.psnr_interval.low <= summary.psnr <= summary.psnr_interval.high


def test_identity_counts_scans_that_stay_in_their_domain_only():
    stays = {("a", "a"): 0.0, ("a", "b"): 0.5}
    assert identity_means(list(records(stays))) == {"ssim": 1.0, "mse": 0.0}
    assert identity_means(list(records(GOOD))) == {}


def test_refused_cells_are_no_scores():
    scan = BenchmarkScan(Path("x"), "1", "a", {})
    assert paired_cells([(scan, {"targets": {"b": {"refused": "cannot"}}})]) == []

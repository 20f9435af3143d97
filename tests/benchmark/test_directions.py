"""Scores are summed up by direction, beside the best rival and the ceiling."""

from pathlib import Path

import numpy as np
import pytest

from mrharmony.benchmark.contenders import CEILING
from mrharmony.benchmark.directions import Scoreboard, identity_means, paired_cells
from mrharmony.benchmark.plan import BenchmarkScan
from mrharmony.core.findings import MrharmonyError


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


PARTIAL = {("a", "b"): 0.0002}


@pytest.fixture
def board() -> Scoreboard:
    named = (("none", BAD), ("regional", GOOD), ("combat", PARTIAL), ("diffusion", MIXED), (CEILING, PERFECT))
    return Scoreboard({name: paired_cells(records(errors)) for name, errors in named}, seed=0)


def test_a_direction_is_the_mean_over_its_heads(board: Scoreboard):
    first, second = board.directions("regional")
    assert (first.source, first.target, first.heads) == ("a", "b", 3)
    assert first.psnr == pytest.approx(np.mean([10 * np.log10(1 / (0.001 * f)) for f in (1, 1.1, 1.2)]))
    assert second.mse == pytest.approx(0.0022)


def test_a_heads_scans_that_are_equal_are_named(board: Scoreboard):
    with pytest.raises(MrharmonyError, match="sub-0: the scans in a and b are equal voxel by voxel"):
        paired_cells(records({("a", "b"): 0.0}))


def test_doing_nothing_gains_nothing_and_the_ceiling_fills_the_room(board: Scoreboard):
    assert board.summary("none").gain.value == 0
    assert board.summary("regional").room == pytest.approx(0)
    assert board.summary(CEILING).room == pytest.approx(1)
    assert board.summary("regional").gain.value == pytest.approx(10)


def test_a_direction_below_the_best_simple_method_is_counted(board: Scoreboard):
    assert board.summary("diffusion").below_best == 1
    assert board.summary("diffusion").worst_gap == pytest.approx(10 * np.log10(0.5))
    assert board.summary("regional").below_best == 0


def test_a_method_that_refuses_directions_is_compared_where_it_serves_and_is_never_the_best(
    board: Scoreboard,
):
    partial = board.summary("combat")
    assert partial.directions == 1
    assert partial.gain.value == pytest.approx(10 * np.log10(50))
    assert 0 < partial.room < 1
    assert board.summary("regional").room == pytest.approx(0)


def test_the_interval_of_the_gain_is_taken_over_heads(board: Scoreboard):
    for method in ("regional", "diffusion", CEILING):
        gain = board.summary(method).gain
        assert gain.low <= gain.value <= gain.high
    varied = [
        cell._replace(psnr=cell.psnr + 5 * (cell.subject == "1")) for cell in paired_cells(records(GOOD))
    ]
    cells = {"none": paired_cells(records(BAD)), "regional": varied}
    gain = Scoreboard(cells, seed=0).summary("regional").gain
    assert gain.high - gain.low > 1


def test_a_method_without_scores_has_no_summary(board: Scoreboard):
    assert board.summary("magic") is None


def test_identity_counts_scans_that_stay_in_their_domain_only():
    stays = {("a", "a"): 0.0, ("a", "b"): 0.5}
    assert identity_means(list(records(stays))) == {"ssim": 1.0, "mse": 0.0}
    assert identity_means(list(records(GOOD))) == {}


def test_refused_cells_are_no_scores():
    scan = BenchmarkScan(Path("x"), "1", "a", {})
    assert paired_cells([(scan, {"targets": {"b": {"refused": "cannot"}}})]) == []

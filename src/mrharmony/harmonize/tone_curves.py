"""Monotone curves from one set of quantiles to another, as bilateral grids: quantile matching."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrharmony.harmonize.bilateral_grid import FIELD_OF_VIEW, BilateralGrid
from mrharmony.harmonize.population import DomainStatistics, region_lattice

_KNOTS = np.linspace(0, 1.6, 65)
_LEAST_GAP = 1e-4  # canonical units between landmarks, so that a curve is defined where intensities tie
_BLACK = 0.01  # canonical units: landmarks below are those of voxels without signal
_GREATEST_SLOPE = 5.0  # a steeper curve would show the noise, not the tissue


def global_curve(source: DomainStatistics, target: DomainStatistics) -> BilateralGrid:
    """Return the one curve that takes the source's quantiles to the target's, the same at every position."""
    offsets = _offsets(source.quantiles, target.quantiles)
    return BilateralGrid(np.array(FIELD_OF_VIEW), _KNOTS, offsets[None, None, None])


def regional_curves(source: DomainStatistics, target: DomainStatistics) -> BilateralGrid:
    """Return a curve a region of template space, blended linearly between the regions' centres."""
    offsets = np.apply_along_axis(
        lambda pair: _offsets(*np.split(pair, 2)),
        3,
        np.concatenate([source.regional, target.regional], axis=3),
    )
    return BilateralGrid(region_lattice().field_of_view, _KNOTS, offsets)


def _offsets(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return T(s) - s at the knots for the curve through black and the landmarks; exactly 0 if they agree.

    Black stays black unless landmarks of the source are black, as CSF's are in an MP2RAGE image. Above the
    last landmark the curve goes on with slope one.
    """
    tied = source < _BLACK
    black = float((target - source)[tied].mean()) if tied.any() else 0.0
    separation = _LEAST_GAP * np.arange(len(source) + 1)
    landmarks = np.concatenate([[0.0], source]) + separation
    changes = np.concatenate([[black], target - source])
    offsets: NDArray[np.float64] = np.interp(_KNOTS, landmarks, changes)
    rises = np.diff(offsets) / np.diff(_KNOTS)
    bounded = np.clip(rises, -1, _GREATEST_SLOPE - 1)
    if np.array_equal(rises, bounded):
        return offsets
    return np.append(black, black + np.cumsum(bounded * np.diff(_KNOTS)))

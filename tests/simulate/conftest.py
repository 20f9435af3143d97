"""A virtual head that the tests of the simulator share."""

from __future__ import annotations

import numpy as np
import pytest

from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.space.grid import Grid


@pytest.fixture(scope="session")
def grid() -> Grid:
    """The template's space at 2 mm."""
    return Grid.working(2.0)


@pytest.fixture(scope="session")
def head(grid: Grid) -> Anatomy:
    """A head whose ventricles are 1.3 times the average."""
    return virtual_head(np.random.default_rng(11), grid, ventricle_scale=1.3)

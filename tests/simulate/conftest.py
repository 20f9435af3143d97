from __future__ import annotations

import numpy as np
import pytest

from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.space.grid import Grid


@pytest.fixture(scope="session")
def grid() -> Grid:
    return Grid.working(2.0)


@pytest.fixture(scope="session")
def head(grid: Grid) -> Anatomy:
    return virtual_head(np.random.default_rng(11), grid, ventricle_scale=1.3)

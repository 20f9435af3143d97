from __future__ import annotations

import numpy as np
import pytest

from mrharmony.prepare import Grid
from mrharmony.simulate import Anatomy, virtual_head


@pytest.fixture(scope="session")
def grid() -> Grid:
    return Grid.working(2.0)


@pytest.fixture(scope="session")
def head(grid: Grid) -> Anatomy:
    return virtual_head(np.random.default_rng(11), grid, ventricle_scale=1.3)

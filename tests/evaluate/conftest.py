"""Virtual scans that the evaluators' tests share, made once a run."""

import numpy as np
import pytest

from helpers.brains import canonical_scan
from helpers.site_people import people
from helpers.virtual_study import SCANNER_A, SCANNER_B, Study, confounded_study
from mrharmony.evaluate.tissues import TissueSegmentation, segment_tissues
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.space.grid import Grid


@pytest.fixture(scope="session")
def traveller() -> Anatomy:
    """One head at 2 mm."""
    return virtual_head(np.random.default_rng(3), Grid.working(2.0), ventricle_scale=1.4)


@pytest.fixture(scope="session")
def scan_at_a(traveller: Anatomy) -> CanonicalBrain:
    """The head on scanner A."""
    return canonical_scan(traveller, SCANNER_A, 1)


@pytest.fixture(scope="session")
def tissues_at_a(scan_at_a: CanonicalBrain) -> TissueSegmentation:
    """Its tissues."""
    return segment_tissues(scan_at_a)


@pytest.fixture(scope="session")
def rescan_at_a(traveller: Anatomy) -> CanonicalBrain:
    """The head on scanner A again."""
    return canonical_scan(traveller, SCANNER_A, 2)


@pytest.fixture(scope="session")
def scan_at_b(traveller: Anatomy) -> CanonicalBrain:
    """The head on scanner B."""
    return canonical_scan(traveller, SCANNER_B, 3)


@pytest.fixture(scope="session")
def brains() -> list[CanonicalBrain]:
    """Many people, each scanned once by the same scanner, 4 mm."""
    return people()[0]


@pytest.fixture(scope="session")
def tissues() -> list[np.ndarray]:
    """Their true tissues: 1 CSF, 2 grey, 3 white matter."""
    return people()[1]


@pytest.fixture(scope="session")
def study() -> Study:
    """Ventricle size confounded with site: 2 training scans and 3 unseen heads a site, 4 mm."""
    return confounded_study(training=2, unseen=3, zoom=4.0)

"""A data set of three people whose preparations are there already, so that harmonizing it takes seconds."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks._shared.studies import prepared_study

from mrharmony.jobs.harmonizing import HarmonizeJob
from mrharmony.jobs.opening import open_job

SITES = {"1": "north", "2": "south", "3": "south"}


@pytest.fixture(scope="session")
def study_once(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `study`, a data set of three people, and `prepared`, with their preparations."""
    return prepared_study(tmp_path_factory.mktemp("whole"), cohort, SITES)


@pytest.fixture
def study(study_once: Path, tmp_path: Path) -> Path:
    """A data set that the test may spoil."""
    return Path(shutil.copytree(study_once / "study", tmp_path / "study"))


@pytest.fixture
def job(study_once: Path) -> HarmonizeJob:
    """Nothing is done to the scans but what all methods do."""
    return replace(open_job(None, "none", None, "LA"), prepared=study_once / "prepared", force=True)

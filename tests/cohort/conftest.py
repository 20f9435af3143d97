"""A data set of three people whose preparations are there already, so that harmonizing it takes seconds."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrharmony.jobs.harmonizing import HarmonizeJob
from mrharmony.jobs.opening import open_job
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.saved import PreparedFiles, write_prepared
from mrharmony.scans.reading import read_mask, read_scan
from mrharmony.simulate.cohort_files import true_brain

SITES = {"1": "north", "2": "south", "3": "south"}


@pytest.fixture(scope="session")
def study_once(cohort: Path, scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `study`, a data set of three people, and `prepared`, with their preparations."""
    folder = tmp_path_factory.mktemp("whole")
    mask = read_mask(true_brain(cohort, "001"), read_scan(scan))
    for person in SITES:
        path = folder / "study" / f"sub-{person}" / "anat" / f"sub-{person}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        shutil.copy(scan, path)
        read = read_scan(path)
        field = np.ones(mask.shape, np.float32)
        prepared = PreparedScan(read.volume, mask, field, np.eye(4), 300.0, False, (), 0.9)
        write_prepared(PreparedFiles.of(path, folder / "prepared"), read, prepared, {})
    rows = [f"sub-{person}\t{site}" for person, site in SITES.items()]
    (folder / "study" / "participants.tsv").write_text("\n".join(["participant_id\tsite", *rows, ""]))
    return folder


@pytest.fixture
def study(study_once: Path, tmp_path: Path) -> Path:
    """A data set that the test may spoil."""
    return Path(shutil.copytree(study_once / "study", tmp_path / "study"))


@pytest.fixture
def job(study_once: Path) -> HarmonizeJob:
    """Nothing is done to the scans but what all methods do."""
    return replace(open_job(None, "none", None, "LA"), prepared=study_once / "prepared", force=True)

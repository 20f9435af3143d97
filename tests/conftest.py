"""Virtual scans that several tests share: real files, made once a run."""

import logging
import sys
from pathlib import Path

import pytest
import torch

from mrharmony.cli.app import main
from mrharmony.simulate.cohort import write_cohort

SCANNERS = ("mprage-3t", "spgr-1.5t")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests run side by side; one thread each is fastest."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BIDS folder: one virtual head through two scanners, 3 mm."""
    folder = tmp_path_factory.mktemp("virtual") / "cohort"
    write_cohort(folder, subjects=1, scanners=SCANNERS, seed=1, zoom=3.0)
    return folder


@pytest.fixture(scope="session")
def scan(cohort: Path) -> Path:
    """The head on the first scanner."""
    return next(cohort.glob("sub-*/ses-mprage3t/anat/*_T1w.nii.gz"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command line in this process; returns status, standard output and standard error.

    What it silences is heard again after the test.
    """
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mrharmony", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        output, errors = capsys.readouterr()
        return int(ended.value.code or 0), output, errors

    return run

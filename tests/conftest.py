"""Virtual scans that several tests share: real files, made once a run."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from helpers.commands import Run
from helpers.preparations import contrasts_once, once_each, once_for_equal
from helpers.virtual_study import TWO_SITES
from mrharmony.cli.app import main
from mrharmony.domains import contrast
from mrharmony.lock.gain_prior import fit_lock
from mrharmony.methods import diffusion
from mrharmony.networks.diffusion.contrasts import reference_contrasts
from mrharmony.preparation import pipeline
from mrharmony.simulate.cohort import write_cohort, write_recipe_cohort

SCANNERS = ("mprage-3t", "spgr-1.5t")


LONGEST = (
    *("test_unlearning_command", "test_demo", "test_benchmark_run", "test_paper_study", "test_docs"),
    "test_paper_command",
)

_PREPARE = pipeline.prepare_with_quality


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold the longest tests, so that no process waits for another at the end."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def _one_core() -> Iterator[None]:
    """Tests run side by side: each works in its own process, unless it asks for several, on one thread."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all workers of the run."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def _scans_are_worked_on_once(shared: Path) -> Iterator[None]:
    """What several tests need of the same scan is worked out by the first of them, also for other workers.

    Beside preparations these are the reference contrasts and the locks of the default method, which are
    functions of their arguments alone.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "prepare_with_quality", once_each(_PREPARE, shared / "preparations"))
        patch.setattr(
            contrast, "reference_contrasts", contrasts_once(reference_contrasts, shared / "contrasts")
        )
        for user in (contrast, diffusion):
            patch.setattr(user, "fit_lock", once_for_equal(fit_lock, shared / "locks"))
        yield


@pytest.fixture
def worked_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare and harmonize every scan of this test by itself, for those that compare what comes of it."""
    monkeypatch.setattr(pipeline, "prepare_with_quality", _PREPARE)
    monkeypatch.setattr(contrast, "reference_contrasts", reference_contrasts)
    for user in (contrast, diffusion):
        monkeypatch.setattr(user, "fit_lock", fit_lock)


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


@pytest.fixture(scope="session")
def two_sites(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort of `TWO_SITES`, written by one worker for all: tests leave it as it is."""
    folder = shared / "two-sites"
    if not folder.exists():
        own = tmp_path_factory.mktemp("two-sites") / "cohort"
        write_recipe_cohort(own, TWO_SITES)
        with suppress(OSError):  # another worker was first
            own.rename(folder)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
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

"""Folders that the operating system does not let us list are told, and the others are done."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mrharmony.benchmark.plan import make_plan
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs import evaluation_scans, training
from mrharmony.jobs.data_sets import DataSet
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.names import find_scans
from mrharmony.scans.reading import check_scan

SITES = {"01": "A", "02": "A", "03": "A", "04": "A", "11": "B", "12": "B", "13": "B"}
PLACES = ["sub-02", "sub-02/anat", "sub-02/ses-1"]


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Seven subjects of two sites; images are empty files."""
    for subject in SITES:
        (tmp_path / f"sub-{subject}" / "anat").mkdir(parents=True)
        (tmp_path / f"sub-{subject}" / "anat" / f"sub-{subject}_T1w.nii.gz").touch()
    (tmp_path / "sub-02/ses-1").mkdir()
    rows = "".join(f"sub-{subject}\t{site}\n" for subject, site in SITES.items())
    (tmp_path / "participants.tsv").write_text(f"participant_id\tsite\n{rows}")
    return tmp_path


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch):
    """Close a folder, as for a user who may not list it."""
    scandir = os.scandir

    def close(folder: Path) -> None:
        def refusing(path="."):
            if str(path) == str(folder):
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refusing)

    return close


@pytest.mark.parametrize("place", PLACES)
def test_a_closed_folder_is_an_error_that_names_it_and_the_others_stay(bids, close, place):
    close(bids / place)
    index = BidsIndex.open(bids)
    errors = [finding for finding in index.findings if finding.level == "error"]
    assert [finding.code for finding in errors] == ["closed-folder"]
    assert len(index.findings) == 1  # nothing is said of the scans of somebody whose folder is closed
    assert f"The folder {place} cannot be listed (Permission denied)" in errors[0].message
    assert {"01", "03", "11", "12", "13"} <= {scan.subject for scan in index.scans}
    assert list(index.refused) == [bids / place]
    assert index.of_subjects(["01"]).closed == ()
    assert len(index.of_subjects(["02"]).closed) == 1


def test_a_closed_data_set_is_no_missing_one(bids, close):
    close(bids)
    with pytest.raises(MrharmonyError, match="cannot be listed"):
        BidsIndex.open(bids)


def test_every_way_into_the_data_set_refuses_what_it_cannot_list(bids, close, monkeypatch):
    close(bids / "sub-02/anat")
    index = DataSet(bids).open()
    monkeypatch.setattr(training, "prepare_brains", lambda *_, **__: ({}, {}))
    trained = training.training_brains(index, None, None, None, bids / "work")
    monkeypatch.setattr(evaluation_scans, "prepare_positions", lambda *_, **__: ({}, {}))
    evaluated = evaluation_scans.evaluation_scans(index, index.scans)
    plan = make_plan(bids, "site", None)
    for refused in (trained.refused, plan.closed):
        assert list(refused) == [bids / "sub-02/anat"]
    assert list(evaluated.refused) == ["anat"]


def test_a_search_for_scans_refuses_folders_that_it_cannot_look_into(bids, close):
    close(bids / "sub-02/anat")
    found = find_scans([bids]).scans
    assert bids / "sub-02/anat" in found
    assert len(found) == len(SITES)
    (finding,) = check_scan(bids / "sub-02/anat")
    assert (finding.code, finding.level) == ("closed-folder", "error")


def test_prepare_ends_with_status_3_where_permissions_close_folders(bids):
    unprivileged: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may list everything, and there is no setpriv to give that up")
        unprivileged = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    (bids / "sub-02").chmod(0o000)
    (bids / "sub-03/anat").chmod(0o444)  # may be listed, not entered
    chosen = [option for label in ("01", "02", "03") for option in ("--participant-label", label)]
    command = [sys.executable, "-m", "mrharmony", "prepare", bids, bids / "out", *chosen]
    try:
        done = subprocess.run([*unprivileged, *command], capture_output=True, text=True, check=False)
    finally:
        (bids / "sub-02").chmod(0o755)
        (bids / "sub-03/anat").chmod(0o755)
    assert done.returncode == 3
    reasons = [line for line in done.stderr.splitlines() if line.startswith("refused: ")]
    assert len(reasons) == 3
    assert f"{bids}/sub-01/anat/sub-01_T1w.nii.gz: The file is empty." in reasons[0]
    assert f"{bids}/sub-02: The folder sub-02 cannot be listed (Permission denied)" in reasons[1]
    assert f"{bids}/sub-03/anat: The folder sub-03/anat cannot be listed (Permission denied)" in reasons[2]

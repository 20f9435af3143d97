"""What is written is BIDS: by the validator of the standard, and as PyBIDS reads it."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from bids import BIDSLayout

from mrharmony.jobs.bids_app import run_group
from mrharmony.jobs.harmonizing import HarmonizeJob
from mrharmony.jobs.participants import EVERYTHING, Processes, run_participants
from mrharmony.jobs.preparing import prepare_data_set
from mrharmony.jobs.reporting import write_report
from mrharmony.jobs.result_names import uncertainty_path
from mrharmony.jobs.sources import Sources
from mrharmony.networks.card import read_card
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.names import sidecar_path
from mrharmony.weights import shipped_model

DESCRIPTION = {
    "Name": "study",
    "BIDSVersion": "1.11.1",
    "DatasetType": "raw",
    "License": "CC0",
    "Authors": ["A. First", "B. Second"],
}
COLUMNS = {"Description": "The people.", "site": {"Description": "Where the scan was taken."}}


def problems(folder: Path) -> Counter[str]:
    """Return the codes of the validator's errors and warnings."""
    command = [Path(sys.executable).with_name("bids-validator-deno"), folder, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    found = json.loads(done.stdout)["issues"]["issues"]
    return Counter(
        f"{issue['severity']} {issue['code']} {issue.get('subCode', '')}".strip() for issue in found
    )


@pytest.fixture
def described(study: Path) -> Path:
    """A data set with all that the validator recommends."""
    (study / "dataset_description.json").write_text(json.dumps(DESCRIPTION))
    (study / "participants.json").write_text(json.dumps(COLUMNS))
    return study


def test_harmonized_scans_are_valid_before_and_after_the_group_level(
    described: Path, job: HarmonizeJob, tmp_path: Path
):
    out = tmp_path / "out"
    sources = Sources(read_card(shipped_model()))
    run_participants(BidsIndex.open(described), out, EVERYTHING, job, sources, Processes(1))
    result = next(out.rglob("*_desc-harmonized_T1w.nii.gz"))
    shutil.copy(result, uncertainty_path(result))
    shutil.copy(sidecar_path(result), sidecar_path(uncertainty_path(result)))
    assert problems(out) == Counter()
    run_group(out)
    write_report(out)
    assert problems(out) == Counter()
    layout = BIDSLayout(out, validate=False, is_derivative=True)
    images = layout.get(suffix="T1w", desc="harmonized", extension=".nii.gz")
    assert sorted(image.entities["subject"] for image in images) == ["1", "2", "3"]
    assert images[0].get_metadata()["Target"] == "LA"


def test_prepared_scans_are_valid(described: Path, tmp_path: Path):
    out = tmp_path / "prepared"
    prepare_data_set(BidsIndex.open(described), out, ["1"], workers=1)
    assert problems(out) == Counter()
    layout = BIDSLayout(out, validate=False, is_derivative=True)
    assert layout.get(suffix="mask", desc="brain", subject="1", extension=".nii.gz")

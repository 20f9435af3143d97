"""From a BIDS folder to a model that harmonizes, through the command line's own functions."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.data_sets import DataSet
from mrharmony.jobs.harmonizing import harmonize_scan
from mrharmony.jobs.opening import open_job
from mrharmony.jobs.training import seen_scans, train_on_bids
from mrharmony.networks.settings import TrainingSettings
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.sidecar import read_harmonized

TINY = """
working_zoom: 4
autoencoder: {channels: [8, 8], latent_channels: 4}
denoiser: {channels: [16, 32], token_size: 16}
autoencoder_stage: {steps: 4, batch: 4}
denoiser_stage: {steps: 4, batch: 4}
"""


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> TrainingSettings:
    file = tmp_path_factory.mktemp("preset") / "tiny.yaml"
    file.write_text(TINY)
    return TrainingSettings.preset(str(file))


def test_a_model_of_two_scanners_is_trained_and_used(
    cohort: Path, scan: Path, preset: TrainingSettings, tmp_path: Path
):
    report = train_on_bids(DataSet(cohort, "session"), tmp_path / "model", preset, "cpu")
    assert report.domains == {"mprage3t": 1, "spgr15t": 1}
    assert not report.refused
    card = json.loads((tmp_path / "model" / "mrharmony.json").read_text())
    assert card["working_zoom"] == 4
    job = open_job(tmp_path / "model", "diffusion", "mprage3t", "spgr15t")
    outcome = harmonize_scan(job, scan, tmp_path / "out.nii.gz")
    assert outcome.reason is None
    note = read_harmonized(tmp_path / "out.json")
    assert note and (note.target, note.method) == ("spgr15t", "diffusion")
    assert np.ptp(nib.load(tmp_path / "out.nii.gz").get_fdata()) > 0


def test_a_second_call_takes_up_the_prepared_brains(cohort: Path, preset: TrainingSettings, tmp_path: Path):
    train_on_bids(DataSet(cohort, "session", ["spgr15t"]), tmp_path / "model", preset, "cpu")
    brains = sorted((tmp_path / "model.training" / "brains").iterdir())
    times = [brain.stat().st_mtime_ns for brain in brains]
    with pytest.raises(MrharmonyError, match="exists already"):
        train_on_bids(DataSet(cohort, "session"), tmp_path / "model", preset, "cpu")
    (tmp_path / "model").rename(tmp_path / "earlier")
    train_on_bids(DataSet(cohort, "session", ["spgr15t"]), tmp_path / "model", preset, "cpu")
    assert [brain.stat().st_mtime_ns for brain in brains] == times
    assert len(brains) == 1


def test_an_unknown_domain_is_told_with_those_there_are(
    cohort: Path, preset: TrainingSettings, tmp_path: Path
):
    with pytest.raises(MrharmonyError, match=r"mars.*mprage3t"):
        train_on_bids(DataSet(cohort, "session", ["mars"]), tmp_path / "model", preset, "cpu")


def test_copies_among_the_scans_are_told(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(cohort / "sub-001", tmp_path / "sub-001")
    assert seen_scans(tmp_path, BidsIndex.open(tmp_path, "session").scans)
    assert capsys.readouterr().err == ""
    for scan in cohort.glob("sub-001/ses-mprage3t/anat/*.nii.gz"):
        copy = tmp_path / "sub-002" / "ses-mprage3t" / "anat" / scan.name.replace("001", "002")
        copy.parent.mkdir(parents=True)
        copy.symlink_to(scan)
    seen_scans(tmp_path, BidsIndex.open(tmp_path, "session").scans)
    assert (
        "1 of 3 scans to learn from are copies of others, as in sub-001 and sub-002."
        in capsys.readouterr().err
    )

"""CycleGAN from the command line: a pair is trained on a data set and harmonizes its scans."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.data_sets import DataSet
from mrharmony.jobs.training import train_pairs_on_bids
from mrharmony.networks.cyclegan.networks import CycleGanSettings

TINY = "channels: 4\nblocks: 0\ndiscriminator_channels: 4\nsteps: 3\n"


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    return file


def test_a_pair_is_trained_and_a_scan_keeps_its_grid(run, cohort: Path, scan: Path, preset: Path, tmp_path):
    model, output = tmp_path / "model", tmp_path / "harmonized.nii.gz"
    columns = ("--domain-column", "session", "--preset", preset, "--json")
    status, printed, _ = run(
        "train", cohort, "--method", "cyclegan", "--pair", "mprage3t", "spgr15t", "--output", model, *columns
    )
    assert status == 0
    assert json.loads(printed)["domains"] == {"mprage3t": 1, "spgr15t": 1}
    record = json.loads((model / "cyclegan.json").read_text("utf-8"))["pairs"][0]
    assert (record["first"], record["second"], record["settings"]["steps"]) == ("mprage3t", "spgr15t", 3)
    status, _, errors = run(
        *("harmonize", scan, "--from", "mprage3t", "--to", "spgr15t", "--output", output),
        *("--method", "cyclegan", "--model", model),
    )
    assert (status, errors) == (0, "")
    before, after = nib.load(scan), nib.load(output)
    assert after.shape == before.shape
    assert np.array_equal(after.affine, before.affine)
    voxels = after.get_fdata()
    assert np.isfinite(voxels).all()
    assert voxels.any()
    note = json.loads((tmp_path / "harmonized.json").read_text("utf-8"))
    assert (note["Method"], note["Source"], note["Target"]) == ("cyclegan", "mprage3t", "spgr15t")
    other = json.loads((model / "mrharmony.json").read_text("utf-8"))
    other["domains"][0]["scans"] = 9
    (model / "mrharmony.json").write_text(json.dumps(other))
    with pytest.raises(MrharmonyError, match="fitted on other scans"):
        train_pairs_on_bids(
            DataSet(cohort, "session"),
            model,
            [("mprage3t", "spgr15t")],
            CycleGanSettings.preset(str(preset)),
            "cpu",
        )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--method", "cyclegan"), "name one: --pair A B"),
        (("--method", "nyul", "--pair", "mprage3t", "spgr15t"), "Leave --pair out"),
        (("--method", "nyul", "--preset", "quick"), "Leave --preset out"),
        (("--method", "cyclegan", "--pair", "mprage3t", "mars"), "mars: no such domain"),
        (("--method", "cyclegan", "--pair", "mprage3t", "mprage3t"), "two different domains"),
        (("--method", "cyclegan", "--pair", "mprage3t", "spgr15t", "--domain", "mprage3t"), "--domain out"),
    ],
)
def test_what_cannot_be_trained_is_told_before_any_work(run, cohort: Path, tmp_path, arguments, sentence):
    status, _, errors = run(
        "train", cohort, "--output", tmp_path / "model", "--domain-column", "session", *arguments
    )
    assert status == 2
    assert sentence in errors
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "model.training").exists()


def test_a_model_without_pairs_says_how_to_train_them(run, scan: Path, tmp_path: Path):
    status, _, errors = run(
        *("harmonize", scan, "--from", "NSK", "--to", "LA", "--output", tmp_path, "--method", "cyclegan")
    )
    assert status == 2
    assert "--method cyclegan --pair A B" in errors

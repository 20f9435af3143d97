"""`--detail` on the command line: off by default, told in the sidecar, refused where a model cannot do it."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrharmony.methods.detail import DETAIL
from mrharmony.methods.diffusion import load_diffusion
from mrharmony.weights import shipped_model


def test_the_shipped_model_knows_the_detail_of_all_its_domains(run):
    names = {domain["name"] for domain in json.loads(run("domains", "--json")[1])}
    assert load_diffusion(shipped_model()).details.keys() == names


def test_detail_is_off_by_default_and_told_where_it_was_asked_for(run, scan: Path, tmp_path: Path):
    arguments = ("harmonize", scan, "--to", "NSK", "--force")
    assert run(*arguments, "--output", tmp_path / "plain.nii.gz")[0] == 0
    status, _, errors = run(*arguments, "--detail", "--output", tmp_path / "detail.nii.gz")
    assert status == 0, errors
    plain, detailed = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("plain", "detail"))
    assert (plain["DetailTransfer"], plain["Detail"]) == (False, None)
    assert detailed["DetailTransfer"] is True
    record = detailed["Detail"]
    assert 0.4 <= record["least_gain"] <= 1 <= record["greatest_gain"] <= 1.5
    codes = {finding["code"] for finding in detailed["Findings"]}
    assert len(codes & {"detail-transferred", "detail-kept", "detail-dropped"}) == 1
    images = [nib.load(tmp_path / f"{name}.nii.gz") for name in ("plain", "detail")]
    assert np.array_equal(images[0].affine, images[1].affine)
    voxels = [image.get_fdata() for image in images]
    assert np.isfinite(voxels[1]).all()
    assert not voxels[1][voxels[0] == 0].any()
    assert np.array_equal(*voxels) != record["transferred"]


def test_a_data_set_is_done_again_when_detail_is_asked_for(run, scan: Path, tmp_path: Path):
    one, out = tmp_path / "one", tmp_path / "out"
    shutil.copytree(scan.parent, one / scan.parent.relative_to(scan.parents[3]))
    arguments = ("bids", one, out, "participant", "--to", "LA", "--domain-column", "session", "--force")
    assert run(*arguments)[0] == 0
    (note,) = out.glob("sub-*/**/*_T1w.json")
    assert not json.loads(note.read_text())["DetailTransfer"]
    assert run(*arguments, "--detail")[0] == 2  # a folder is of one setting
    assert run(*arguments, "--detail", "--overwrite")[0] == 0
    assert json.loads(note.read_text())["DetailTransfer"]


@pytest.fixture
def without_detail(tmp_path: Path) -> Path:
    """The shipped model as it was before it knew detail."""
    model = tmp_path / "old"
    shutil.copytree(shipped_model(), model)
    (model / DETAIL).unlink()
    return model


def test_a_model_without_detail_refuses_with_a_remedy(run, scan: Path, without_detail: Path, tmp_path: Path):
    arguments = ("harmonize", scan, "--to", "NSK", "--model", without_detail, "--output", tmp_path / "out")
    status, _, errors = run(*arguments, "--detail")
    assert status == 2
    assert "does not know the detail of NSK" in errors
    assert "mrharmony train" in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--method", "histogram"), "--method diffusion"), (("--extent", "head"), "--extent head")],
)
def test_detail_with_what_cannot_have_it_is_refused(run, scan: Path, tmp_path: Path, options, message):
    arguments = ("harmonize", scan, "--to", "NSK", "--output", tmp_path / "out", "--detail")
    status, _, errors = run(*arguments, *options)
    assert status == 2
    assert message in errors
    assert not (tmp_path / "out").exists()

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from helpers.template_heads import template_anatomy
from mrharmony.core.findings import MrharmonyError
from mrharmony.scans.bids import BidsIndex
from mrharmony.simulate.anatomy import LESION_LABEL, Anatomy
from mrharmony.simulate.cohort import write_recipe_cohort
from mrharmony.simulate.recipe import Population, Recipe
from mrharmony.space.grid import Grid

RECIPE = Recipe(
    name="small",
    description="Two sites, the old ones at one.",
    scanners=("mprage-3t", "spgr-1.5t"),
    new_scanners=("mp2rage-3t",),
    sites={"spgr-1.5t": Population(age=(75, 80), patients=1.0)},
    population=Population(age=(20, 25), patients=0.0),
    training_subjects=1,
    test_subjects=2,
    zoom=4,
    seed=3,
)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "participants.tsv").open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe") / "bids"
    write_recipe_cohort(folder, RECIPE)
    return folder


def test_training_subjects_have_one_session_and_test_subjects_all(small: Path) -> None:
    sessions: dict[str, set[str]] = {}
    for scan in BidsIndex.open(small, "session").scans:
        sessions.setdefault(scan.subject, set()).add(str(scan.session))
    everywhere = {"mprage3t", "spgr15t", "mp2rage3t"}
    assert sessions == {"001": {"mprage3t"}, "002": {"spgr15t"}, "003": everywhere, "004": everywhere}
    table = (small / "sub-001/sub-001_sessions.tsv").read_text().splitlines()
    assert table == ["session_id\tscanner", "ses-mprage3t\tmprage-3t"]


def test_participants_table_tells_split_site_and_known_factors(small: Path) -> None:
    rows = rows_of(small)
    assert [(row["split"], row["site"], row["group"]) for row in rows] == [
        ("train", "mprage-3t", "control"), ("train", "spgr-1.5t", "patient"),
        ("test", "mprage-3t", "control"), ("test", "spgr-1.5t", "patient"),
    ]  # fmt: skip
    for young, old in (rows[:2], rows[2:]):
        for column in ("age", "ventricle_scale", "cortical_thinning", "lesions_ml"):
            assert float(young[column]) < float(old[column])


def test_the_truth_lies_on_the_grid_of_the_scans_and_holds_the_lesions(small: Path) -> None:
    row = rows_of(small)[3]
    folder = small / "derivatives/truth/sub-004/anat"
    labels = nib.load(folder / "sub-004_dseg.nii.gz")
    scan = nib.load(small / "sub-004/ses-mp2rage3t/anat/sub-004_ses-mp2rage3t_T1w.nii.gz")
    volumes = json.loads((folder / "sub-004_dseg.json").read_text())["VolumesMl"]
    assert np.array_equal(labels.affine, scan.affine)
    assert LESION_LABEL in np.asarray(labels.dataobj)
    assert volumes["Lesions"] == pytest.approx(float(row["lesions_ml"]), abs=0.01)
    assert volumes["CorticalGM"] == pytest.approx(float(row["cortical_gm_ml"]), abs=0.1)
    brain_ml = (scan.get_fdata() > 0).sum() * 4**3 / 1000
    parts = ("CSF", "CorticalGM", "WM", "DeepGM", "Lesions")
    assert sum(volumes[part] for part in parts) == pytest.approx(brain_ml, rel=0.03)


def test_the_sidecar_of_an_mp2rage_holds_both_inversion_times(small: Path) -> None:
    path = small / "sub-003/ses-mp2rage3t/anat/sub-003_ses-mp2rage3t_T1w.json"
    sidecar = json.loads(path.read_text())
    assert sidecar["InversionTime"] == [0.7, 2.5]
    assert sidecar["FlipAngle"] == [4, 5]


def test_an_interrupted_run_ends_in_the_same_bytes(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bids"
    shutil.copytree(small, folder)
    shutil.rmtree(folder / "sub-004")
    (folder / "sub-003/ses-spgr15t/anat/sub-003_ses-spgr15t_T1w.json").unlink()
    (folder / "participants.tsv").unlink()
    write_recipe_cohort(folder, RECIPE)
    assert digests(folder) == digests(small)


def test_another_seed_is_another_cohort(small: Path) -> None:
    before = digests(small)
    with pytest.raises(MrharmonyError, match="holds something else"):
        write_recipe_cohort(small, RECIPE, seed=4)
    assert digests(small) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zoom": 9.0}, "small: zoom"),
        ({"seed": -1}, "small: seed"),
        ({"subjects": (0, 0)}, "small: there are no subjects"),
        ({"recipe": "cake"}, "known recipes"),
    ],
)
def test_absurd_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(MrharmonyError, match=message):
        write_recipe_cohort(tmp_path / "c", **({"recipe": RECIPE} | changes))  # type: ignore[arg-type]
    assert not (tmp_path / "c").exists()


def test_heads_are_based_on_the_anatomies_given(head: Anatomy, tmp_path: Path) -> None:
    bases = [head, template_anatomy(Grid.working(4.0))]
    paths = write_recipe_cohort(tmp_path / "c", RECIPE, subjects=(1, 1), anatomies=bases, pose=False)
    assert len(paths) == 2 + 3
    record = json.loads((tmp_path / "c/dataset_description.json").read_text())
    assert len(record["Simulation"]["Anatomies"]) == 2
    truth = json.loads((tmp_path / "c/derivatives/truth/sub-001/anat/sub-001_dseg.json").read_text())
    assert truth["ScannerToTemplate"] == np.eye(4).tolist()

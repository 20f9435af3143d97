from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from helpers.commands import Run, sentences
from helpers.label_heads import ellipsoid_labels, write_labels
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.label_heads import in_template_space, judge_heads
from mrharmony.simulate.cohort import write_recipe_cohort
from mrharmony.simulate.label_maps import JUDGE_HEADS, LabelMap, read_label_map
from mrharmony.simulate.recipe import Population, Recipe, load_recipe, plan_subjects

RECIPE = Recipe(
    name="two-sites",
    description="Two measured sites.",
    scanners=("site-hh", "site-nsk"),
    sites={"site-nsk": Population(age=(75, 80), patients=1.0)},
    population=Population(age=(20, 25), patients=0.0),
    training_subjects=1,
    test_subjects=2,
    zoom=4,
    seed=3,
)


@pytest.fixture(scope="module")
def label_map(tmp_path_factory: pytest.TempPathFactory) -> LabelMap:
    path = tmp_path_factory.mktemp("labels") / "head_dseg.nii.gz"
    return read_label_map(write_labels(path, ellipsoid_labels()[0])).crop(8)


@pytest.fixture(scope="module")
def cohort(label_map: LabelMap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign") / "bids"
    write_recipe_cohort(folder, RECIPE, anatomies=[label_map, label_map])
    return folder


def test_a_cohort_of_measured_sites_has_the_form_of_the_others(cohort: Path) -> None:
    scans = sorted(str(path.relative_to(cohort)) for path in cohort.glob("sub-*/ses-*/anat/*.nii.gz"))
    visits = {
        "001": ["sitehh"],
        "002": ["sitensk"],
        "003": ["sitehh", "sitensk"],
        "004": ["sitehh", "sitensk"],
    }
    assert scans == [
        f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}_T1w.nii.gz"
        for subject, sessions in visits.items()
        for session in sessions
    ]
    with (cohort / "participants.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [(row["split"], row["site"], row["group"]) for row in rows] == [
        ("train", "site-hh", "control"), ("train", "site-nsk", "patient"),
        ("test", "site-hh", "control"), ("test", "site-nsk", "patient"),
    ]  # fmt: skip
    assert float(rows[0]["ventricle_scale"]) < float(rows[1]["ventricle_scale"])
    assert float(rows[2]["ventricles_ml"]) < float(rows[3]["ventricles_ml"])


def test_the_truth_lies_on_the_grid_of_the_scans_and_is_their_mask(cohort: Path) -> None:
    labels = nib.load(cohort / "derivatives/truth/sub-003/anat/sub-003_dseg.nii.gz")
    scan = nib.load(cohort / "sub-003/ses-sitensk/anat/sub-003_ses-sitensk_T1w.nii.gz")
    assert np.array_equal(labels.affine, scan.affine)
    assert np.array_equal(np.asarray(labels.dataobj) > 0, scan.get_fdata() > 0)
    sidecar = json.loads((cohort / "sub-003/ses-sitensk/anat/sub-003_ses-sitensk_T1w.json").read_text())
    assert sidecar["Scanner"] == "site-nsk"
    assert "EchoTime" not in sidecar


def test_the_shipped_recipes_differ_in_whom_their_sites_scan() -> None:
    scales = {}
    for name in ("foreign", "foreign-confounded"):
        recipe = load_recipe(name)
        subjects = plan_subjects(recipe, len(JUDGE_HEADS))
        assert len(subjects) == recipe.subjects
        train = [s for s in subjects if s.split == "train"]
        assert not {s.base for s in train} & {s.base for s in subjects if s.split == "test"}
        scales[name] = [
            float(np.mean([np.log(s.person.ventricle_scale) for s in train if s.site == site]))
            for site in recipe.scanners
        ]
    assert np.ptp(scales["foreign"]) < 0.35
    assert np.ptp(scales["foreign-confounded"]) > 1


def test_simulated_sequences_and_measured_sites_are_not_mixed(label_map: LabelMap, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be in one recipe"):
        Recipe(name="mixed", description="", scanners=("site-hh", "mprage-3t"))
    with pytest.raises(MrharmonyError, match="foreign: this recipe's scanners take label maps"):
        write_recipe_cohort(tmp_path / "out", "foreign")
    with pytest.raises(MrharmonyError, match="clean: this recipe's scanners take no label maps"):
        write_recipe_cohort(tmp_path / "out", "clean", anatomies=[label_map, label_map])
    assert not (tmp_path / "out").exists()


def test_a_turned_head_is_brought_to_the_template_with_left_on_its_left(label_map: LabelMap) -> None:
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", (12, -5, 4), degrees=True).as_matrix()
    turn[:3, 3] = (15, -20, 30)
    back = in_template_space(replace(label_map, affine=turn @ label_map.affine))
    voxels = np.argwhere(back.labels == 11)
    left = (voxels @ back.affine[:3, :3].T + back.affine[:3, 3]).mean(axis=0)
    assert left == pytest.approx((-26, 8, 14), abs=8)


def test_a_folder_without_the_heads_for_judging_is_refused(tmp_path: Path) -> None:
    write_labels(tmp_path / JUDGE_HEADS[0], ellipsoid_labels()[0])
    with pytest.raises(MrharmonyError, match=f"holds no {JUDGE_HEADS[1]}"):
        judge_heads(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--recipe", "foreign"), "--recipe foreign needs label maps of whole heads: give --labels DIR."),
        (
            ("--recipe", "clean", "--labels", "DIR"),
            "--recipe clean takes no label maps: run it without --labels.",
        ),
        (
            ("--labels", "DIR"),
            "--labels is for the recipes foreign and foreign-confounded: give --recipe too.",
        ),
        (
            ("--labels", "DIR", "--anatomy", "DIR"),
            "--labels and --anatomy both bring the heads: give one of them.",
        ),
    ],
)
def test_the_command_says_which_option_is_missing(
    run: Run, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    given = [tmp_path if word == "DIR" else word for word in options]
    status, _, errors = run("simulate", tmp_path / "out", *given)
    assert status == 2
    assert message in " ".join(sentences(errors))

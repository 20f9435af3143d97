"""The head that ships: a brain within fluid, bone, fat and soft tissue, and no face."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from benchmarks.training.shipped_head import MARGIN_MM, PLANE

from helpers.commands import Run, sentences
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.cohort import write_cohort
from mrharmony.simulate.label_maps import BRAIN, OUTER, LabelMap, read_label_map
from mrharmony.simulate.shipped_head import SHIPPED_HEAD, shipped_head


@pytest.fixture(scope="module")
def labels() -> LabelMap:
    return read_label_map(SHIPPED_HEAD)


@pytest.fixture(scope="module")
def head() -> Anatomy:
    return shipped_head()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, head: Anatomy) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "bids"
    write_cohort(folder, 1, ("mprage-3t", "mp2rage-3t"), zoom=4, anatomies=[head])
    return folder


def test_the_file_is_small_and_shows_no_face(labels: LabelMap) -> None:
    assert SHIPPED_HEAD.stat().st_size < 500_000
    assert nib.load(SHIPPED_HEAD).get_data_dtype() == np.uint8
    (y0, z0), (y1, z1) = PLANE
    slope = (z1 - z0) / (y1 - y0)

    def lowest(where: np.ndarray) -> float:
        """Height of the lowest voxel above the plane that takes the face away, mm."""
        _, y, z = (np.argwhere(where) @ labels.affine[:3, :3].T + labels.affine[:3, 3]).T
        return float((z - z0 - slope * (y - y0)).min()) / float(np.hypot(1, slope))

    assert lowest(labels.labels > 0) > -1
    assert lowest(labels.where(*BRAIN)) > MARGIN_MM - 1


def test_the_brain_lies_within_bone_and_bone_within_skin(labels: LabelMap) -> None:
    column = labels.labels[labels.labels.shape[0] // 2 + 20, labels.labels.shape[1] // 2]  # upward
    top = [int(label) for label in column[::-1] if label]
    brain = next(n for n, label in enumerate(top) if label == 3)  # cortex
    assert top[0] == OUTER["soft-tissue"]
    assert top.index(OUTER["soft-tissue"]) < top.index(OUTER["fat"]) < top.index(OUTER["bone"]) < brain


def test_shares_sum_to_one_at_most_and_nothing_around_is_in_the_brain(head: Anatomy) -> None:
    assert head.around is not None
    assert float(head.filled.max()) <= 1 + 1e-5
    assert 1000 < head.brain_mask.sum() * head.voxel_ml < 1700
    deep = head.tissues.sum(axis=0) > 0.999
    assert float(head.around[:, deep].max()) < 1e-3


def test_a_whole_head_has_scalp_and_noise_where_a_brain_has_nothing(cohort: Path) -> None:
    anat = cohort / "sub-001" / "ses-mprage3t" / "anat" / "sub-001_ses-mprage3t_T1w"
    voxels = np.asarray(nib.load(f"{anat}.nii.gz").dataobj)
    truth = np.asarray(nib.load(cohort / "derivatives/truth/sub-001/anat/sub-001_dseg.nii.gz").dataobj)
    white = float(np.median(voxels[truth == 3]))
    air = voxels[:2, :2, -2:]
    assert 0 < float(np.median(air)) < 0.1 * white
    assert np.percentile(voxels[truth == 0], 95) > white  # fat
    assert json.loads(Path(f"{anat}.json").read_text())["SkullStripped"] is False
    readme = (cohort / "README").read_text()
    assert "Billot et al. 2023" in readme
    assert "skull-stripped" not in readme


def test_an_older_cohort_of_brains_is_not_taken_for_one_of_whole_heads(
    cohort: Path, tmp_path: Path, run: Run
) -> None:
    kept = (cohort / "dataset_description.json").read_bytes()
    status, _, errors = run(
        "simulate", cohort, "--subjects", 1, "--scanners", "mprage-3t,mp2rage-3t", "--zoom", 4
    )
    assert status == 2
    assert "holds something else, or a cohort of other settings" in errors
    assert (cohort / "dataset_description.json").read_bytes() == kept


@pytest.mark.parametrize("other", [("--recipe", "clean"), ("--anatomy", "DIR")])
def test_whole_heads_bring_their_own_anatomy(run: Run, tmp_path: Path, other: tuple[str, str]) -> None:
    status, _, errors = run("simulate", tmp_path / "out", "--extent", "head", *other)
    assert status == 2
    assert sentences(errors) == [
        "mrharmony: --extent head is for travelling heads on the anatomy that ships: "
        "leave --recipe and --anatomy out."
    ]

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import nibabel as nib
import numpy as np
import pytest

from mrharmony.core.atomic import StagedFile
from mrharmony.core.findings import MrharmonyError
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.names import sidecar_path
from mrharmony.scans.reading import check_scan
from mrharmony.simulate.cohort import write_cohort
from mrharmony.simulate.cohort_files import claim, true_brain
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import load_scanners

NAMES = ("mprage-3t", "spgr-1.5t")


def write(folder: Path) -> tuple[Path, ...]:
    return write_cohort(folder, subjects=2, scanners=NAMES, seed=7, zoom=4)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "bids"
    write(folder)
    return folder


def test_every_head_went_through_every_scanner(cohort: Path) -> None:
    index = BidsIndex.open(cohort, "session")
    assert {(scan.subject, scan.session) for scan in index.scans} == {
        (subject, session) for subject in ("001", "002") for session in ("mprage3t", "spgr15t")
    }
    for scan in index.scans:
        assert scan.session == load_scanners()[scan.sidecar["Scanner"]].session


def test_scans_have_no_findings_that_matter(cohort: Path) -> None:
    for scan in BidsIndex.open(cohort, "session").scans:
        assert [finding for finding in check_scan(scan.path) if finding.level != "info"] == []


def test_sidecars_say_what_was_simulated(cohort: Path) -> None:
    sidecar = json.loads((cohort / "sub-001/ses-spgr15t/anat/sub-001_ses-spgr15t_T1w.json").read_text())
    assert sidecar["SkullStripped"] is True
    assert sidecar["Simulated"] is True
    assert sidecar["MagneticFieldStrength"] == 1.5
    assert sidecar["RepetitionTimeExcitation"] == pytest.approx(0.022)


def test_the_truth_lies_on_the_grid_of_the_scans(cohort: Path) -> None:
    labels = nib.load(cohort / "derivatives/truth/sub-002/anat/sub-002_dseg.nii.gz")
    scan = nib.load(cohort / "sub-002/ses-mprage3t/anat/sub-002_ses-mprage3t_T1w.nii.gz")
    assert np.array_equal(labels.affine, scan.affine)
    assert nib.aff2axcodes(scan.affine) == ("R", "A", "S")
    assert scan.header.get_zooms() == (4, 4, 4)
    assert np.array_equal(np.asarray(labels.dataobj) > 0, scan.get_fdata() > 0)


def test_only_virtual_heads_have_a_true_brain(cohort: Path) -> None:
    assert true_brain(cohort, "002") == cohort / "derivatives/truth/sub-002/anat/sub-002_dseg.nii.gz"
    assert true_brain(cohort, "003") is None


def test_participants_table_holds_the_known_factors(cohort: Path) -> None:
    with (cohort / "participants.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["participant_id"] for row in rows] == ["sub-001", "sub-002"]
    for row in rows:
        assert 0.6 <= float(row["ventricle_scale"]) <= 2.5
        truth = cohort / f"derivatives/truth/{row['participant_id']}/anat/{row['participant_id']}_dseg.json"
        record = json.loads(truth.read_text())
        assert float(row["ventricles_ml"]) == pytest.approx(record["VolumesMl"]["Ventricles"], abs=0.01)


def test_the_same_seed_gives_the_same_bytes(cohort: Path, tmp_path: Path) -> None:
    write(tmp_path / "again")
    assert digests(tmp_path / "again") == digests(cohort)


def test_an_interrupted_run_is_taken_up_where_it_stopped(cohort: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(cohort, tmp_path / "resumed"))
    kept = folder / "sub-001/ses-mprage3t/anat/sub-001_ses-mprage3t_T1w.nii.gz"
    written = kept.stat().st_mtime_ns
    lost = folder / "sub-002/ses-spgr15t/anat"
    (lost / "sub-002_ses-spgr15t_T1w.json").unlink()
    (lost / "sub-002_ses-spgr15t_T1w.nii.gz").unlink()
    (folder / "participants.tsv").unlink()
    write(folder)
    assert digests(folder) == digests(cohort)
    assert kept.stat().st_mtime_ns == written


def test_a_run_that_is_ended_leaves_no_image_without_sidecar_and_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small = partial(write_cohort, subjects=1, scanners=1, zoom=5)
    write_small(tmp_path / "whole")
    for files in range(4):  # the scan and the truth, each with its sidecar
        folder, left = tmp_path / str(files), files

        def commit_some(file: StagedFile, commit: Callable[[StagedFile], None] = StagedFile.commit) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            commit(file)

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(StagedFile, "commit", commit_some)
            write_small(folder)
        images = list(folder.rglob("*.nii.gz"))
        assert len(images) == files // 2
        assert all(sidecar_path(image).is_file() for image in images)
        write_small(folder)
        assert digests(folder) == digests(tmp_path / "whole")


SCAN = "sub-001/ses-spgr15t/anat/sub-001_ses-spgr15t_T1w.nii.gz"
TRUTH = "derivatives/truth/sub-001/anat/sub-001_dseg.nii.gz"


def cut(folder: Path, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def take_that_of_another_scanner(folder: Path, file: Path) -> None:
    shutil.copy(folder / SCAN.replace("spgr15t", "mprage3t"), file)


def take_that_of_another_person(folder: Path, file: Path) -> None:
    take_with_its_sidecar(folder / SCAN.replace("sub-001", "sub-002"), file)


def take_that_of_another_seed(folder: Path, file: Path) -> None:
    (other,) = write_cohort(folder.with_name("other"), subjects=1, scanners=NAMES[1:], seed=8, zoom=4)
    take_with_its_sidecar(other, file)


def take_with_its_sidecar(other: Path, file: Path) -> None:
    shutil.copy(other, file)
    shutil.copy(sidecar_path(other), sidecar_path(file))


def change_the_sidecar(folder: Path, file: Path) -> None:
    record = json.loads(sidecar_path(file).read_text())
    changed = {key: "x" if isinstance(value, float) else value for key, value in record.items()}
    sidecar_path(file).write_text(json.dumps(changed))


def take_the_record_of_another_person(folder: Path, file: Path) -> None:
    record = json.loads(sidecar_path(file).read_text())
    other = json.loads(sidecar_path(folder / TRUTH.replace("sub-001", "sub-002")).read_text())
    seal = "SimulationSHA256"
    sidecar_path(file).write_text(json.dumps(other | {seal: record[seal]}))


def take_the_seal_away(folder: Path, file: Path) -> None:
    record = json.loads(sidecar_path(file).read_text())
    del record["SimulationSHA256"]
    sidecar_path(file).write_text(json.dumps(record))


def make_a_folder(folder: Path, file: Path) -> None:
    file.unlink()
    file.mkdir()


def take_one_without_sidecar(folder: Path, file: Path) -> None:
    sidecar_path(file).unlink()
    take_that_of_another_scanner(folder, file)


def make_a_folder_without_sidecar(folder: Path, file: Path) -> None:
    sidecar_path(file).unlink()
    make_a_folder(folder, file)


def link_to_nothing_without_sidecar(folder: Path, file: Path) -> None:
    sidecar_path(file).unlink()
    file.unlink()
    file.symlink_to("nowhere")


@pytest.mark.parametrize(("name", "spoil"), [
    (TRUTH, cut), (SCAN, cut), (SCAN, take_that_of_another_scanner), (SCAN, take_that_of_another_person),
    (SCAN, take_that_of_another_seed), (SCAN, make_a_folder),
    (SCAN, change_the_sidecar), (TRUTH, change_the_sidecar), (TRUTH, take_the_record_of_another_person),
    (SCAN, take_the_seal_away), (TRUTH, take_the_seal_away),
    (SCAN, take_one_without_sidecar), (TRUTH, take_one_without_sidecar),
    (SCAN, make_a_folder_without_sidecar), (SCAN, link_to_nothing_without_sidecar),
])  # fmt: skip
def test_another_file_under_the_name_of_an_image_is_told_and_left_alone(
    cohort: Path, tmp_path: Path, name: str, spoil: Callable[[Path, Path], None]
) -> None:
    folder = Path(shutil.copytree(cohort, tmp_path / "spoilt"))
    file = folder / name
    spoil(folder, file)
    before = digests(folder)
    with pytest.raises(MrharmonyError, match="Move it away and call again; it is made anew") as refusal:
        write(folder)
    assert str(refusal.value).startswith(f"{file}: is not the file that was simulated here")
    assert digests(folder) == before
    file.rename(tmp_path / "moved")
    write(folder)
    assert digests(folder) == digests(cohort)


def test_tables_that_a_person_has_changed_stay_and_are_told(cohort: Path, tmp_path: Path, capsys) -> None:
    folder = Path(shutil.copytree(cohort, tmp_path / "edited"))
    table, readme = folder / "participants.tsv", folder / "README"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]}\tsite", *(f"{line}\tA" for line in lines[1:])]) + "\n")
    readme.unlink()
    before = table.read_bytes()
    write(folder)
    assert table.read_bytes() == before
    assert f"{table}: was changed since it was written, and stays as it is" in capsys.readouterr().err
    assert readme.read_text() == (cohort / "README").read_text()


def test_an_image_without_sidecar_stays_where_it_is_the_one_that_is_simulated(
    cohort: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(cohort, tmp_path / "without-sidecar"))
    written = {image: image.stat().st_mtime_ns for image in (folder / SCAN, folder / TRUTH)}
    for image in written:
        sidecar_path(image).unlink()
    write(folder)
    assert digests(folder) == digests(cohort)
    assert {image: image.stat().st_mtime_ns for image in written} == written


def test_a_scan_does_not_depend_on_the_other_scanners(cohort: Path, tmp_path: Path) -> None:
    (alone, *_) = write_cohort(tmp_path / "alone", subjects=1, scanners=NAMES[1:], seed=7, zoom=4)
    assert alone.read_bytes() == (cohort / alone.relative_to(tmp_path / "alone")).read_bytes()


def test_without_pose_heads_lie_straight(tmp_path: Path) -> None:
    write_cohort(tmp_path / "c", subjects=1, scanners=1, zoom=5, pose=False)
    record = json.loads((tmp_path / "c/derivatives/truth/sub-001/anat/sub-001_dseg.json").read_text())
    assert record["ScannerToTemplate"] == np.eye(4).tolist()


def test_scanners_of_one_s_own_can_be_used(tmp_path: Path) -> None:
    scanner = random_scanner(np.random.default_rng(0))
    (path,) = write_cohort(tmp_path / "c", subjects=1, scanners=[scanner], zoom=5)
    assert scanner.session in path.name


def test_a_folder_with_something_else_is_refused_and_left_alone(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    for folder in (tmp_path, cohort):
        before = digests(folder)
        with pytest.raises(MrharmonyError, match="holds something else"):
            write_cohort(folder, subjects=2, scanners=NAMES, seed=8, zoom=4)
        assert digests(folder) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subjects": 0}, "1 to 999 subjects"),
        ({"scanners": 0}, "scanners ship"),
        ({"scanners": 99}, "scanners ship"),
        ({"scanners": ["mprage-3t", "toaster"]}, "toaster.*known scanners: .*spgr-1.5t"),
        ({"scanners": []}, "no scanner is named"),
        ({"scanners": ["spgr-3t", "spgr-3t"]}, "name each scanner once"),
        ({"zoom": 0.0}, "voxel size"),
        ({"zoom": float("nan")}, "voxel size"),
        ({"seed": -1}, "seed"),
    ],
)
def test_absurd_arguments_are_refused_in_one_sentence(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(MrharmonyError, match=message):
        write_cohort(tmp_path / "c", **({"subjects": 1, "scanners": 2, "seed": 0} | arguments))  # type: ignore[arg-type]
    assert not (tmp_path / "c").exists()


def test_a_number_of_scanners_takes_the_usual_ones(tmp_path: Path) -> None:
    paths = write_cohort(tmp_path / "c", subjects=1, scanners=3, zoom=5)
    assert [path.parts[-3] for path in paths] == ["ses-mprage3t", "ses-mprage3tsoft", "ses-spgr15t"]
    assert len({scanner.session for scanner in load_scanners().values()}) == len(load_scanners())


def test_of_two_cohorts_begun_in_one_folder_at_once_one_is_refused(tmp_path: Path) -> None:
    together = Barrier(2)

    def begin(folder: Path, seed: int) -> bool:
        together.wait()
        try:
            claim(folder, {"Seed": seed})
        except MrharmonyError:
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        for number in range(10):
            begun = list(threads.map(partial(begin, tmp_path / str(number)), (0, 1)))
            assert begun.count(True) == 1
            claim(tmp_path / str(number), {"Seed": begun.index(True)})

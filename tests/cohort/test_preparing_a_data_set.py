"""Real virtual scans into derivatives: what is written, what is kept, what is told."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.domains.statistics import load_statistics
from mrharmony.jobs import preparing
from mrharmony.jobs.harmonizing import HarmonizeJob, harmonize_scan
from mrharmony.jobs.preparing import INDEX, Preparation, prepare_data_set
from mrharmony.methods.tone_curves import ClassicalHarmonizer
from mrharmony.networks.card import STATISTICS
from mrharmony.preparation.saved import PreparedFiles, read_note, read_prepared
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.reading import read_scan
from mrharmony.weights import shipped_model

_UNLINK = Path.unlink


@pytest.fixture(scope="module")
def data_set(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> BidsIndex:
    """A head, and a second subject whose file ends in the middle."""
    root = tmp_path_factory.mktemp("study") / "study"
    shutil.copytree(cohort, root, ignore=shutil.ignore_patterns("ses-spgr15t"))
    whole = BidsIndex.open(root, "session").scans[0].path
    broken = root / "sub-002" / "anat" / "sub-002_T1w.nii.gz"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return BidsIndex.open(root, "session")


@pytest.fixture(scope="module")
def first_run(data_set: BidsIndex, tmp_path_factory) -> tuple[Path, list[Preparation]]:
    """The derivatives, and what is told of them."""
    folder = tmp_path_factory.mktemp("derivatives")
    return folder, prepare_data_set(data_set, folder, workers=1)


@pytest.fixture
def prepared(first_run, tmp_path: Path) -> Path:
    """A copy of the derivatives that the test may spoil."""
    shutil.copytree(first_run[0], tmp_path / "prepared")
    return tmp_path / "prepared"


def _times(folder: Path) -> dict[Path, int]:
    files = (file for file in folder.rglob("sub-001*") if file.is_file())
    return {file: file.stat().st_mtime_ns for file in files}


def test_sound_scans_are_prepared_and_the_broken_one_is_told(first_run, data_set: BidsIndex):
    folder, results = first_run
    assert [result.scan for result in results] == [scan.path for scan in data_set.scans]
    assert [result.verdict == "refused" for result in results] == [False, True]
    assert "sub-002_T1w.nii.gz" in results[1].reason
    log = read_note(PreparedFiles.of(results[1].scan, folder).log)
    assert log["reason"] == results[1].reason
    assert "truncated-gzip" in {finding["code"] for finding in log["findings"]}
    assert len(list(folder.rglob("*_desc-brain_mask.nii.gz"))) == 1


def test_the_folder_is_a_bids_derivative_that_knows_the_participants(first_run, data_set: BidsIndex):
    folder, _ = first_run
    assert json.loads((folder / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    table = (folder / "participants.tsv").read_bytes()
    assert table == (data_set.root / "participants.tsv").read_bytes()
    assert read_note(PreparedFiles.of(data_set.scans[0].path, folder).note)["Domain"] == "mprage3t"
    assert not list(folder.rglob("*.tmp"))


def test_the_index_lists_every_scan_with_its_verdict(first_run):
    folder, results = first_run
    page = (folder / INDEX).read_text()
    assert all(result.scan.name in page for result in results)
    assert "1 refused" in page
    link = PreparedFiles.of(results[0].scan, folder).page.relative_to(folder).as_posix()
    assert f"href='{link}'" in page


def test_finished_scans_are_not_done_again(prepared: Path, data_set: BidsIndex, first_run):
    before = _times(prepared)
    results = prepare_data_set(data_set, prepared, workers=1)
    assert _times(prepared) == before
    assert [result.record() for result in results] == [result.record() for result in first_run[1]]


@pytest.mark.parametrize("name", ["bias_field", "canonical", "transform"])
def test_a_damaged_preparation_is_made_anew(prepared: Path, data_set: BidsIndex, name: str):
    file = getattr(PreparedFiles.of(data_set.scans[0].path, prepared), name)
    before = file.read_bytes()
    file.write_bytes(before[: len(before) // 2])
    prepare_data_set(data_set, prepared, ["001"], workers=1)
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["page", "log", "volume_corrected_note"])
def test_a_page_a_log_or_a_sidecar_that_is_another_scans_or_gone_is_made_anew(
    prepared: Path, data_set: BidsIndex, name: str
):
    scan = data_set.scans[0].path
    prepare_data_set(data_set, prepared, ["001"], workers=1, volume_corrected=True)
    files = PreparedFiles.of(scan, prepared)
    file = getattr(files, name)
    before = file.read_bytes()
    if name == "volume_corrected_note":
        file.unlink()
    else:
        file.write_bytes(before.replace(scan.name.encode(), b"sub-009_T1w.nii.gz"))
        assert file.read_bytes() != before
    prepare_data_set(data_set, prepared, ["001"], workers=1, volume_corrected=True)
    assert file.is_file()
    assert name == "log" or file.read_bytes() == before  # a log has the time that it took
    assert b"sub-009" not in file.read_bytes()


@pytest.mark.parametrize("name", ["bias_field", "canonical", "volume_corrected"])
def test_a_file_that_is_another_one_is_told_and_stays_until_it_is_moved(
    prepared: Path, data_set: BidsIndex, name: str
):
    prepare_data_set(data_set, prepared, ["001"], workers=1, volume_corrected=name == "volume_corrected")
    file = getattr(PreparedFiles.of(data_set.scans[0].path, prepared), name)
    before = file.read_bytes()
    image = nib.load(file)
    nib.save(type(image)(np.asarray(image.dataobj) + np.float32(1), image.affine, image.header), file)
    other = file.read_bytes()
    for volume_corrected in (False, True):
        (told,) = prepare_data_set(data_set, prepared, ["001"], workers=1, volume_corrected=volume_corrected)
        assert (told.verdict, f"{file}: was changed since" in str(told.reason)) == ("refused", True)
        assert file.read_bytes() == other
    file.rename(prepared / "moved.nii.gz")
    (again,) = prepare_data_set(data_set, prepared, ["001"], workers=1, volume_corrected=True)
    assert again.verdict != "refused"
    assert file.read_bytes() == before


def test_brains_of_the_templates_size_are_made_anew_where_they_were(prepared: Path, data_set: BidsIndex):
    (done,) = prepare_data_set(data_set, prepared, ["001"], workers=1, volume_corrected=True)
    files = PreparedFiles.of(done.scan, prepared)
    before = files.volume_corrected.read_bytes()
    files.transform.unlink()
    prepare_data_set(data_set, prepared, ["001"], workers=1)
    assert files.volume_corrected.read_bytes() == before


def test_brains_of_the_templates_size_are_added_to_finished_scans(prepared: Path, data_set: BidsIndex):
    before = _times(prepared)
    results = prepare_data_set(data_set, prepared, ["001"], workers=1, volume_corrected=True)
    files = PreparedFiles.of(results[0].scan, prepared)
    added = set(_times(prepared)) - set(before)
    assert added == {files.volume_corrected, files.volume_corrected_note}
    assert before.items() <= _times(prepared).items()
    size = read_note(files.log)["figures"]["size"]
    assert read_note(files.volume_corrected_note)["HeadSize"] == read_note(files.note)["HeadSize"] == size
    assert f"{size:.3f}" in files.page.read_text()


def test_a_scan_that_cannot_be_read_keeps_what_was_prepared(
    prepared: Path, data_set: BidsIndex, tmp_path: Path
):
    study = Path(shutil.copytree(data_set.root, tmp_path / "study"))
    scan = BidsIndex.open(study, "session").scans[0].path
    content, before = scan.read_bytes(), _times(prepared)
    scan.unlink()
    scan.symlink_to("nowhere")  # as after `datalad drop`
    (result, _) = prepare_data_set(BidsIndex.open(study, "session"), prepared, workers=1)
    assert result.verdict == "refused"
    assert result.reason is not None
    assert result.reason.endswith("What was prepared of it before stays.")
    files = PreparedFiles.of(scan, prepared)
    assert {file: time for file, time in before.items() if file != files.log} == {
        file: time for file, time in _times(prepared).items() if file != files.log
    }
    scan.unlink()
    scan.write_bytes(content)
    assert read_prepared(files, read_scan(scan)).scale > 0


def test_a_mask_edited_in_place_is_taken_by_the_next_run(prepared: Path, data_set: BidsIndex):
    scan = data_set.scans[0].path
    files = PreparedFiles.of(scan, prepared)
    image = nib.load(files.mask)
    edited = np.asarray(image.dataobj).copy()
    edited[: np.flatnonzero(edited.any(axis=(1, 2)))[2]] = 0  # two slices fewer
    nib.save(nib.Nifti1Image(edited, image.affine), files.mask)
    content = files.mask.read_bytes()
    results = prepare_data_set(data_set, prepared, ["001"], workers=1)
    assert results[0].verdict != "refused"
    assert files.mask.read_bytes() == content
    assert np.array_equal(read_prepared(files, read_scan(scan)).brain_mask, edited > 0)


def test_a_mask_that_was_edited_before_its_scan_was_replaced_is_taken_and_that_is_told(
    prepared: Path, data_set: BidsIndex, tmp_path: Path
):
    root = Path(shutil.copytree(data_set.root, tmp_path / "study"))
    scan = BidsIndex.open(root, "session").scans[0].path
    files = PreparedFiles.of(scan, prepared)
    mask, image = nib.load(files.mask), nib.load(scan)
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj), mask.affine), files.mask)
    edited = files.mask.read_bytes()
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine), scan)
    for _ in range(2):  # made, and kept
        (told,) = prepare_data_set(BidsIndex.open(root, "session"), prepared, ["001"], workers=1)
        assert (told.verdict, "mask-of-another-scan" in {f.code for f in told.findings}) == ("warned", True)
    assert files.mask.read_bytes() == edited
    saved = read_prepared(files, read_scan(scan))
    assert "mask-of-another-scan" in {finding.code for finding in saved.findings}


@pytest.mark.usefixtures("worked_out_anew")
def test_harmonizing_a_prepared_scan_gives_the_same_voxels(
    prepared: Path, data_set: BidsIndex, tmp_path: Path
):
    scan = data_set.scans[0].path
    method = ClassicalHarmonizer("histogram", load_statistics(shipped_model() / STATISTICS), "brain")
    target = Domain("LA", "LA")
    outputs = tmp_path / "fresh.nii.gz", tmp_path / "taken.nii.gz"
    for output, folder in zip(outputs, (None, prepared), strict=True):
        job = HarmonizeJob(method, None, target, prepared=folder)
        assert harmonize_scan(job, scan, output).reason is None
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_a_scan_that_is_not_prepared_is_refused_downstream(
    prepared: Path, data_set: BidsIndex, tmp_path: Path
):
    scan = tmp_path / "sub-009_T1w.nii.gz"
    shutil.copy(data_set.scans[0].path, scan)
    method = ClassicalHarmonizer("none", load_statistics(shipped_model() / STATISTICS), "brain")
    job = HarmonizeJob(method, None, Domain("LA", "LA"), prepared=prepared)
    outcome = harmonize_scan(job, scan, tmp_path / "out.nii.gz")
    assert "mrharmony prepare" in (outcome.reason or "")
    assert not (tmp_path / "out.nii.gz").exists()


def test_a_fault_of_ours_in_one_scan_is_told_and_leaves_the_others(
    data_set: BidsIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def faulty(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(preparing, "prepare_beside", faulty)
    results = prepare_data_set(data_set, tmp_path, workers=1)
    assert [result.verdict for result in results] == ["refused"] * 2
    assert "unexpected ZeroDivisionError: oops" in (results[0].reason or "")
    log = read_note(PreparedFiles.of(data_set.scans[0].path, tmp_path).log)
    assert "faulty" in log["traceback"]


def test_a_folder_that_takes_no_files_is_told_and_leaves_the_others(
    first_run, prepared: Path, data_set: BidsIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def no_permission(self: Path, missing_ok: bool = False) -> None:
        if self.is_relative_to(prepared / "sub-001"):
            raise PermissionError(13, "Permission denied", str(self))
        _UNLINK(self, missing_ok=missing_ok)

    changed = Path(shutil.copytree(data_set.root, tmp_path / "study"))
    whole = BidsIndex.open(changed, "session").scans[0].path
    nib.save(nib.load(whole), whole)  # with another time
    monkeypatch.setattr(Path, "unlink", no_permission)
    results = prepare_data_set(BidsIndex.open(changed, "session"), prepared, workers=1)
    assert [result.verdict for result in results] == ["refused"] * 2
    assert "cannot be removed (Permission denied)" in (results[0].reason or "")
    assert results[1].reason.endswith(first_run[1][1].reason.split(":", 1)[1])


def test_the_folder_of_the_scans_is_not_taken_for_derivatives(data_set: BidsIndex):
    with pytest.raises(MrharmonyError, match="holds the scans"):
        prepare_data_set(data_set, data_set.root)


def test_scans_of_one_name_are_not_mixed_up(data_set: BidsIndex, tmp_path: Path):
    scan = data_set.scans[0].path
    for subject in ("1", "2"):
        misnamed = tmp_path / "twins" / f"sub-{subject}" / "anat" / "sub-1_T1w.nii.gz"
        misnamed.parent.mkdir(parents=True)
        shutil.copy(scan, misnamed)
    with pytest.raises(MrharmonyError, match="has the name of"):
        prepare_data_set(BidsIndex.open(tmp_path / "twins", "session"), tmp_path / "out")

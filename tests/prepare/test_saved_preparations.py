import os
import shutil
from dataclasses import replace
from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.ndimage import binary_erosion
from scipy.spatial.transform import Rotation

from mrharmony.core.atomic import StagedFile, write_json
from mrharmony.core.findings import Finding, MrharmonyError
from mrharmony.core.volume import Matrix
from mrharmony.preparation import saved
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.quality import preparation_figures
from mrharmony.preparation.saved import (
    PreparedFiles,
    discard_prepared,
    doubtful_files,
    is_whole,
    itk_transform,
    manual_mask,
    mask_source_findings,
    read_note,
    read_prepared,
    why_not_usable,
    write_prepared,
    write_volume_corrected,
)
from mrharmony.scans.reading import Scan, read_scan
from mrharmony.space.grid import CANONICAL_GRID


@pytest.fixture(scope="module")
def rigid_to_template() -> Matrix:
    """A turn about an oblique axis, and a shift in all directions."""
    rigid_to_template = np.eye(4)
    rigid_to_template[:3, :3] = Rotation.from_rotvec(np.radians([12, -7, 20])).as_matrix()
    rigid_to_template[:3, 3] = (6.1, -14.3, 9.7)
    return rigid_to_template


@pytest.fixture(scope="module")
def prepared_brain(brain, rigid_to_template: Matrix, tmp_path_factory) -> tuple[Scan, PreparedScan]:
    """The template's brain as a scan file in LAS order, turned, with values that have no short decimals."""
    volume, mask = brain
    mirror = from_matvec(np.diag([-1.0, 1, 1]), (volume.shape[0] - 1, 0, 0))
    affine = np.linalg.inv(rigid_to_template) @ volume.affine @ mirror
    path = tmp_path_factory.mktemp("scans") / "sub-01" / "ses-a" / "anat" / "sub-01_ses-a_T1w.nii.gz"
    path.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(volume.voxels[::-1], affine), path)
    scan = read_scan(path)
    rng = np.random.default_rng(0)
    finding = Finding("warning", "a-code", "Something.", "Look.")
    bias = np.exp(rng.normal(0, 0.1, mask.shape)).astype(np.float32)
    prepared = PreparedScan(
        scan.volume, mask[::-1].copy(), bias, rigid_to_template, 1000 / 3, True, findings=(finding,), size=0.9
    )
    return scan, prepared


@pytest.fixture(scope="module")
def written(prepared_brain, tmp_path_factory) -> Path:
    """The prepared brain on disk."""
    scan, prepared = prepared_brain
    folder = tmp_path_factory.mktemp("written")
    write_prepared(PreparedFiles.of(scan.path, folder), scan, prepared, {"Domain": "A"})
    return folder


@pytest.fixture
def files(prepared_brain, written: Path, tmp_path: Path) -> PreparedFiles:
    """A copy of it that the test may spoil."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return PreparedFiles.of(prepared_brain[0].path, tmp_path)


def test_what_is_read_back_is_what_was_written_to_the_bit(prepared_brain, files: PreparedFiles):
    scan, prepared = prepared_brain
    again = read_prepared(files, scan)
    assert np.array_equal(again.brain_mask, prepared.brain_mask)
    assert again.bias_field.dtype == np.float32
    assert again.bias_field.tobytes() == prepared.bias_field.tobytes()
    assert again.rigid_to_template.tobytes() == prepared.rigid_to_template.tobytes()
    assert (again.scale, again.skull_stripped, again.findings) == (1000 / 3, True, prepared.findings)
    assert again.size == 0.9
    assert np.array_equal(again.native.voxels, scan.volume.voxels)


def test_the_bias_field_is_stored_so_that_reading_it_takes_no_unpacking(prepared_brain, files: PreparedFiles):
    _, prepared = prepared_brain
    content = files.bias_field.read_bytes()
    assert prepared.bias_field.ravel(order="F")[:1000].tobytes() in content
    assert nib.load(files.bias_field).get_fdata(dtype=np.float32).tobytes() == prepared.bias_field.tobytes()


def test_names_and_grids_are_those_of_bids_derivatives(prepared_brain, files: PreparedFiles, tmp_path: Path):
    scan, _ = prepared_brain
    assert files.folder == tmp_path / "sub-01" / "ses-a" / "anat"
    assert files.mask.name == "sub-01_ses-a_desc-brain_mask.nii.gz"
    mask, canonical = nib.load(files.mask), nib.load(files.canonical)
    assert mask.get_data_dtype() == np.uint8
    assert mask.shape == scan.volume.shape
    assert np.array_equal(mask.affine, scan.volume.affine)
    assert canonical.shape == (160, 224, 160)
    assert np.array_equal(canonical.affine, CANONICAL_GRID.affine)
    assert canonical.header["qform_code"] == canonical.header["sform_code"] == 4
    assert {"SkullStripped", "Sources", "SpatialReference", "Domain"} <= set(read_note(files.note))


def test_equal_preparations_are_equal_bytes(prepared_brain, files: PreparedFiles, tmp_path: Path):
    scan, prepared = prepared_brain
    twin = PreparedFiles.of(scan.path, tmp_path / "twin")
    write_prepared(twin, scan, prepared, {"Domain": "A"})
    pairs = zip(sorted(files.folder.iterdir()), sorted(twin.folder.iterdir()), strict=True)
    assert all(one.read_bytes() == other.read_bytes() for one, other in pairs)


@pytest.mark.parametrize("kind", ["rigid_to_template", "volume_corrected"])
def test_ants_moves_points_of_the_template_to_the_native_scan(
    files: PreparedFiles, prepared_brain, kind: str
):
    native = np.array([[10.0, 20.0, 30.0], [-45.0, 3.0, 12.0]])
    lps = np.array([-1, -1, 1])
    file = files.transform if kind == "rigid_to_template" else files.similarity
    transform = ants.read_transform(str(file))
    for point, wanted in zip(apply_affine(getattr(prepared_brain[1], kind), native), native, strict=True):
        moved = np.array(ants.apply_ants_transform_to_point(transform, tuple(point * lps))) * lps
        np.testing.assert_allclose(moved, wanted, atol=1e-4)


def test_ants_resamples_the_native_scan_onto_the_canonical_brain(prepared_brain, files: PreparedFiles):
    scan, prepared = prepared_brain
    moved = ants.apply_transforms(
        fixed=ants.image_read(str(files.canonical)),
        moving=ants.image_read(str(scan.path)),
        transformlist=[str(files.transform)],
    ).numpy()
    unbiased = replace(prepared, bias_field=np.ones_like(prepared.bias_field))
    wanted, mask = unbiased.canonical(CANONICAL_GRID)
    inside = binary_erosion(mask, iterations=4)  # ANTs lets the background leak into the border
    assert np.corrcoef(moved[inside], wanted.voxels[inside])[0, 1] > 0.995


def test_ants_grows_the_native_scan_onto_the_volume_corrected_brain(prepared_brain, files: PreparedFiles):
    scan, prepared = prepared_brain
    write_volume_corrected(files, scan.path, prepared)
    grown, note = nib.load(files.volume_corrected), read_note(files.volume_corrected_note)
    assert note["HeadSize"] == 0.9
    moved = ants.apply_transforms(
        fixed=ants.image_read(str(files.volume_corrected)),
        moving=ants.image_read(str(files.mask)),
        transformlist=[str(files.similarity)],
    )
    overlap = (moved.numpy() > 0.5) & (grown.get_fdata() > 0)
    assert 2 * overlap.sum() / ((moved.numpy() > 0.5).sum() + (grown.get_fdata() > 0).sum()) > 0.99
    growth = (grown.get_fdata() > 0).sum() / (nib.load(files.canonical).get_fdata() > 0).sum()
    assert growth == pytest.approx(0.9**-3, rel=0.01)
    discard_prepared(files)
    assert not files.volume_corrected.exists()


def test_a_transform_without_motion_says_so():
    numbers = itk_transform(np.eye(4)).splitlines()[3].split()[1:]
    np.testing.assert_array_equal([float(n) for n in numbers], [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0])


def test_a_changed_scan_is_not_the_prepared_one(prepared_brain, files: PreparedFiles, tmp_path: Path):
    scan, _ = prepared_brain
    copy = tmp_path / scan.path.name
    nib.save(nib.Nifti1Image(scan.volume.voxels + 1, scan.volume.affine), copy)
    with pytest.raises(MrharmonyError, match="has changed since it was prepared"):
        read_prepared(files, read_scan(copy))


def test_a_copy_of_the_scan_is_as_good(prepared_brain, files: PreparedFiles, tmp_path: Path):
    scan, _ = prepared_brain
    copy = tmp_path / scan.path.name
    copy.write_bytes(scan.path.read_bytes())
    assert why_not_usable(files, copy) is None


@pytest.mark.parametrize("lost", ["mask", "bias_field", "transform", "similarity", "canonical", "note"])
def test_a_preparation_with_a_lost_file_does_not_count(prepared_brain, files: PreparedFiles, lost: str):
    getattr(files, lost).unlink()
    with pytest.raises(MrharmonyError, match="not prepared"):
        read_prepared(files, prepared_brain[0])


def test_a_damaged_bias_field_is_refused(prepared_brain, files: PreparedFiles):
    files.bias_field.write_bytes(files.bias_field.read_bytes()[:-100])
    with pytest.raises(MrharmonyError, match="changed or damaged"):
        read_prepared(files, prepared_brain[0])


@pytest.mark.parametrize("name", ["bias_field", "note"])
def test_a_file_that_may_not_be_read_is_not_told_as_damaged(
    prepared_brain, files: PreparedFiles, monkeypatch: pytest.MonkeyPatch, name: str
):
    closed = getattr(files, name)
    monkeypatch.setattr(os, "access", lambda file, mode: file != closed)  # root may read all files
    with pytest.raises(MrharmonyError, match=rf"^{closed}: may not be read\. Change its permissions\.$"):
        read_prepared(files, prepared_brain[0])


@pytest.mark.parametrize("changed", ["bias_field", "transform", "similarity", "canonical"])
def test_a_file_that_another_one_has_replaced_is_noticed(prepared_brain, files: PreparedFiles, changed: str):
    assert doubtful_files(files) == {}
    file = getattr(files, changed)
    other = files.transform if changed == "similarity" else files.similarity
    file.write_bytes(other.read_bytes() + b" ")
    assert doubtful_files(files) == {file: True}


@pytest.mark.parametrize("name", ["bias_field", "transform", "similarity", "canonical"])
def test_a_file_that_was_cut_is_not_whole(prepared_brain, files: PreparedFiles, name: str):
    file = getattr(files, name)
    assert is_whole(file)
    file.write_bytes(file.read_bytes()[:100])
    assert not is_whole(file)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HeadSize", "large"),
        ("IntensityScale", 1e300),
        ("RigidToTemplate", np.zeros((4, 4)).tolist()),
        ("RigidToTemplate", (-np.eye(4)).tolist()),
        ("Findings", [{"level": 1}]),
        ("MaskSHA256", None),
        ("FilesSHA256", [1]),
        ("IntensityScale", 500.0),
    ],
)
def test_a_damaged_record_does_not_count(prepared_brain, files: PreparedFiles, key: str, value: object):
    write_json(files.note, read_note(files.note) | {key: value})
    assert "damaged record" in (why_not_usable(files, prepared_brain[0].path) or "")
    with pytest.raises(MrharmonyError, match=r"canonical_T1w\.json .*Run `mrharmony prepare` again"):
        read_prepared(files, prepared_brain[0])


@pytest.mark.parametrize("lost", ["RigidToTemplate", "RecordSHA256"])
def test_a_record_without_alignment_or_seal_does_not_count(prepared_brain, files: PreparedFiles, lost: str):
    note = read_note(files.note)
    note["Posture"] = note.pop(lost)
    write_json(files.note, note)
    with pytest.raises(MrharmonyError, match=r"damaged record, .*canonical_T1w\.json"):
        read_prepared(files, prepared_brain[0])


def test_a_mask_edited_by_hand_is_noticed_and_outlives_preparation(prepared_brain, files: PreparedFiles):
    scan, prepared = prepared_brain
    assert manual_mask(files) is None
    edited = prepared.brain_mask.copy()
    edited[: edited.shape[0] // 3] = False
    nib.save(nib.Nifti1Image(edited.astype(np.uint8), scan.volume.affine), files.mask)
    with pytest.raises(MrharmonyError, match="edited"):
        read_prepared(files, scan)
    discard_prepared(files)
    assert manual_mask(files) == files.mask
    for _ in range(2):
        write_prepared(files, scan, replace(prepared, brain_mask=edited), {})
        assert np.array_equal(read_prepared(files, scan).brain_mask, edited)
        assert read_note(files.mask_note)["Manual"] is True


def edit_mask(files: PreparedFiles, slices: int) -> None:
    image = nib.load(files.mask)
    voxels = np.asarray(image.dataobj).copy()
    voxels[:slices] = 0
    nib.save(nib.Nifti1Image(voxels, image.affine), files.mask)


@pytest.fixture
def _no_canonical_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds."""
    monkeypatch.setattr(saved, "_canonical_image", lambda *_, **__: b"")


def prepare_with(files: PreparedFiles, scan: Scan, prepared: PreparedScan) -> list[str]:
    """Save a preparation of the scan with the mask on disk; returns what is noticed of the mask."""
    discard_prepared(files)
    noticed = mask_source_findings(files, scan)
    write_prepared(files, scan, prepared, {})
    return [finding.code for finding in noticed]


@pytest.mark.usefixtures("_no_canonical_images")
@pytest.mark.parametrize("taken", [True, False], ids=["taken for the first scan", "edited only"])
def test_a_mask_of_a_person_that_was_made_on_another_scan_is_told_until_it_is_edited_again(
    prepared_brain, files: PreparedFiles, taken: bool
):
    scan, prepared = prepared_brain
    other, told = replace(scan, sha256="f" * 64), ["mask-of-another-scan"]
    edit_mask(files, 60)
    if taken:
        assert prepare_with(files, scan, prepared) == []
    content = files.mask.read_bytes()
    for _ in range(2):  # also where it is prepared again, as by another version
        assert prepare_with(files, other, prepared) == told
        assert files.mask.read_bytes() == content
    assert prepare_with(files, scan, prepared) == []  # the first scan is back
    assert prepare_with(files, other, prepared) == told
    edit_mask(files, 70)
    for _ in range(2):
        assert prepare_with(files, other, prepared) == []


@pytest.mark.usefixtures("_no_canonical_images")
@pytest.mark.parametrize("kept", [("SHA256", "Manual"), None], ids=["made before", "put there"])
def test_of_a_persons_mask_without_a_known_scan_nothing_is_told(
    prepared_brain, files: PreparedFiles, kept: tuple[str, ...] | None
):
    scan, prepared = prepared_brain
    edit_mask(files, 60)
    prepare_with(files, scan, prepared)
    note = read_note(files.mask_note)
    if kept:
        write_json(files.mask_note, {key: note[key] for key in kept})
    else:
        files.mask_note.unlink()
    other = replace(scan, sha256="f" * 64)
    assert prepare_with(files, other, prepared) == []
    assert read_note(files.mask_note)["SourceSHA256"] == other.sha256


@pytest.mark.usefixtures("_no_canonical_images")
def test_a_mask_that_was_found_is_made_anew_for_another_scan_without_a_word(
    prepared_brain, files: PreparedFiles
):
    scan, prepared = prepared_brain
    assert prepare_with(files, replace(scan, sha256="f" * 64), prepared) == []
    assert read_note(files.mask_note)["SourceSHA256"] == "f" * 64


def test_whenever_discarding_is_interrupted_a_written_mask_is_no_persons(files: PreparedFiles, monkeypatch):
    """Let the process die at each removal in turn."""
    removed = []
    unlink = Path.unlink

    def dying(path: Path, missing_ok: bool = False) -> None:
        if len(removed) == last:
            raise KeyboardInterrupt
        removed.append(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", dying)
    for last in range(9):
        with pytest.raises(KeyboardInterrupt):
            discard_prepared(files)
        removed.clear()
        assert manual_mask(files) is None
        assert last == 0 or not files.note.exists()


@pytest.mark.parametrize("last", range(7))
def test_whenever_writing_is_interrupted_nothing_counts(
    prepared_brain, files: PreparedFiles, monkeypatch: pytest.MonkeyPatch, last: int
):
    """Let the process die at the commit of each of the seven files in turn, over an older preparation."""
    scan, prepared = prepared_brain
    committed = []
    commit = StagedFile.commit

    def dying(file: StagedFile) -> None:
        if len(committed) == last:
            raise KeyboardInterrupt
        committed.append(file.target)
        commit(file)

    with monkeypatch.context() as patch:
        patch.setattr(StagedFile, "commit", dying)
        with pytest.raises(KeyboardInterrupt):
            write_prepared(files, scan, prepared, {})
    assert len(committed) == last
    assert manual_mask(files) is None
    assert not files.note.exists()
    assert "not prepared" in (why_not_usable(files, scan.path) or "")


def test_the_figures_tell_how_the_head_lay(prepared_brain):
    figures = preparation_figures(prepared_brain[1])
    turn = np.degrees(np.linalg.norm(np.radians([12, -7, 20])))
    assert figures.rotation_degrees == pytest.approx(turn)
    assert figures.template_dice > 0.97
    assert 1500 < figures.brain_ml < 2200

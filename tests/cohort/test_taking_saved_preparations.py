"""What `mrharmony prepare` has saved is taken by every command, and nothing is prepared again."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrharmony.benchmark.folder import BenchmarkFolder
from mrharmony.benchmark.plan import BenchmarkPlan, BenchmarkScan, Fold
from mrharmony.benchmark.run import BenchmarkRequest
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs import brains as brain_jobs
from mrharmony.jobs import harmonizing
from mrharmony.jobs.brains import ScanFile, load_brain, prepare_brains, prepare_positions, saved_sha256
from mrharmony.jobs.evaluation_scans import evaluation_scans, prepared_alone, prepared_on_one_grid
from mrharmony.jobs.harmonizing import harmonize_scan
from mrharmony.jobs.opening import open_job
from mrharmony.jobs.training import run_folder, training_brains
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.saved import PreparedFiles, discard_prepared, read_prepared, write_prepared
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.names import way_to
from mrharmony.scans.reading import read_mask, read_scan
from mrharmony.scans.sidecar import HarmonizedSidecar
from mrharmony.scans.writing import write_scan
from mrharmony.simulate.cohort_files import true_brain
from mrharmony.space.grid import Grid

GRID = Grid.working(4)


@pytest.fixture(scope="module")
def index(cohort: Path) -> BidsIndex:
    return BidsIndex.open(cohort, "session")


@pytest.fixture(scope="module")
def saved_once(index: BidsIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Preparations that no program would find: masks cut by hand, other alignments and scales."""
    folder = tmp_path_factory.mktemp("saved")
    for number, entry in enumerate(index.scans):
        scan = read_scan(entry.path)
        mask = read_mask(true_brain(index.root, entry.subject), scan)
        mask[: np.flatnonzero(mask.any(axis=(1, 2)))[3 + number]] = False
        rigid_to_template = np.eye(4)
        rigid_to_template[:3, 3] = 4 * number + 3
        field = np.full(mask.shape, 1 + number / 10, np.float32)
        prepared = PreparedScan(scan.volume, mask, field, rigid_to_template, 300.0 + number, False, (), 0.9)
        write_prepared(PreparedFiles.of(entry.path, folder), scan, prepared, {})
    return folder


@pytest.fixture
def saved(saved_once: Path, tmp_path: Path) -> Path:
    """A copy that the test may spoil."""
    return Path(shutil.copytree(saved_once, tmp_path / "prepared"))


@pytest.fixture(autouse=True)
def _no_scan_is_prepared(monkeypatch: pytest.MonkeyPatch):
    def prepare_beside(*arguments: object, **options: object) -> None:
        raise AssertionError("a scan was prepared again")

    monkeypatch.setattr(brain_jobs, "prepare_beside", prepare_beside)


def canonical(scan: Path, saved: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the saved brain on the grid, half precision as it is kept, and its mask."""
    brain, mask = read_prepared(PreparedFiles.of(scan, saved), read_scan(scan)).canonical(GRID)
    return brain.voxels.astype(np.float16).astype(np.float32), mask


def mend(scan: Path, saved: Path) -> None:
    """Take two more slices off a saved mask by hand."""
    file = PreparedFiles.of(scan, saved).mask
    image = nib.load(file)
    mask = np.asarray(image.dataobj).copy()
    mask[: np.flatnonzero(mask.any(axis=(1, 2)))[2]] = 0
    nib.save(nib.Nifti1Image(mask, image.affine), file)


def prepare_again(scan: Path, saved: Path) -> None:
    """Do what `mrharmony prepare` does with a mask that was mended."""
    files, read = PreparedFiles.of(scan, saved), read_scan(scan)
    before = replace(prepared_before(files, read), brain_mask=read_mask(files.mask, read))
    write_prepared(files, read, before, {})


def prepared_before(files: PreparedFiles, read) -> PreparedScan:
    note = json.loads(files.note.read_text())
    field = np.asarray(nib.load(files.bias_field).dataobj, np.float32)
    mask = read_mask(files.mask, read)
    return PreparedScan(
        read.volume, mask, field, np.array(note["RigidToTemplate"]), note["IntensityScale"], False, ()
    )


def test_models_are_trained_on_the_saved_brains(index: BidsIndex, saved: Path, tmp_path: Path):
    brains = training_brains(index, None, None, GRID, tmp_path, saved)
    assert brains.domains() == ["mprage3t", "spgr15t"]
    for (_, brain), entry in zip(brains.kept, index.scans, strict=True):
        voxels, mask = canonical(entry.path, saved)
        np.testing.assert_array_equal(brain.volume.voxels, voxels)
        np.testing.assert_array_equal(brain.mask, mask)


def test_a_method_is_fitted_on_them_from_the_command_line(run, cohort: Path, saved: Path, tmp_path: Path):
    arguments = ("--method", "nyul", "--domain-column", "session", "--prepared", saved, "--json")
    status, output, errors = run("train", cohort, "--output", tmp_path / "model", *arguments)
    assert status == 0, errors
    assert json.loads(output)["domains"] == {"mprage3t": 1, "spgr15t": 1}


def test_a_fresh_scan_is_hashed_as_it_is_read_and_not_again(
    index: BidsIndex, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hashed, scan = [], index.scans[0].path

    def digest(stream, name):
        hashed.append(Path(stream.name))
        return file_digest(stream, name)

    file_digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", digest)
    job = replace(open_job(None, "none", None, "LA"), prepared=saved, force=True)
    output = tmp_path / "out.nii.gz"
    assert harmonize_scan(job, scan, output).reason is None
    assert hashed.count(scan) == 0
    note = json.loads((tmp_path / "out.json").read_text())
    assert note["SourceSHA256"] == hashlib.sha256(scan.read_bytes()).hexdigest()


def test_a_scan_that_is_replaced_meanwhile_leaves_the_hash_of_what_was_read(
    index: BidsIndex, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scan = tmp_path / index.scans[0].path.name
    scan.write_bytes(index.scans[0].path.read_bytes())
    read = hashlib.sha256(scan.read_bytes()).hexdigest()
    job = replace(open_job(None, "none", None, "LA"), prepared=saved, force=True)
    harmonize_prepared = harmonizing.harmonize_prepared

    def harmonize_and_replace(*arguments):
        scan.write_bytes(index.scans[1].path.read_bytes())
        return harmonize_prepared(*arguments)

    monkeypatch.setattr(harmonizing, "harmonize_prepared", harmonize_and_replace)
    assert harmonize_scan(job, scan, tmp_path / "out.nii.gz").reason is None
    assert json.loads((tmp_path / "out.json").read_text())["SourceSHA256"] == read


def test_evaluators_judge_the_saved_brains(index: BidsIndex, saved: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mrharmony.jobs.evaluation_scans.ZOOM", 4.0)
    found = evaluation_scans(index, index.scans, workers=1, prepared=saved)
    for entry, brain in zip(found.scans, found.brains, strict=True):
        np.testing.assert_array_equal(brain.volume.voxels, canonical(entry.path, saved)[0])
    one, other = (entry.path for entry in index.scans)
    assert prepared_alone(ScanFile(one, prepared=saved)).scale == 300
    first, second = prepared_on_one_grid([one, other], None, saved)
    assert (first.scale, second.scale) == (300, 301)
    np.testing.assert_array_equal(first.brain_mask, second.brain_mask)
    np.testing.assert_array_equal(first.rigid_to_template, second.rigid_to_template)


def test_scans_of_a_virtual_head_share_mask_and_posture_of_the_first(
    index: BidsIndex, saved: Path, tmp_path: Path
):
    scans = [BenchmarkScan(s.path, s.subject, str(s.domain), {}) for s in index.scans]
    positions = BenchmarkPlan(index.root, "spgr15t", ()).positions(scans, saved)
    files, refused = prepare_positions(positions, GRID, tmp_path / "brains", 1)
    assert not refused
    one, other = (load_brain(files[scan.path], GRID) for scan in scans)
    voxels, mask = canonical(scans[0].path, saved)
    np.testing.assert_array_equal(one.volume.voxels, voxels)
    np.testing.assert_array_equal(other.mask, mask)
    assert other.scale == 301


def test_a_harmonized_scan_takes_the_preparation_of_the_scan_it_was_made_of(
    index: BidsIndex, saved: Path, tmp_path: Path
):
    path, made = index.scans[0].path, tmp_path / "made" / "sub-001_desc-harmonized_T1w.nii.gz"
    scan = read_scan(path)
    note = HarmonizedSidecar(
        schema_version=1,
        target="spgr15t",
        method="none",
        intensity_scale=500.0,
        sources=(way_to(path, made.parent),),
        drift={},
        verdict="pass",
    )
    write_scan(made, scan.volume.voxels * np.float32(2), scan, note.record())
    before, after = prepared_on_one_grid([path, made], None, saved)
    alone = prepared_on_one_grid([made], None, saved)[0]
    for prepared in (after, alone):
        np.testing.assert_array_equal(prepared.brain_mask, before.brain_mask)
        np.testing.assert_array_equal(prepared.rigid_to_template, before.rigid_to_template)
        assert prepared.scale == 500
        np.testing.assert_allclose(prepared.intensities(), scan.volume.voxels * 2 / 500, rtol=1e-6)


@pytest.mark.parametrize("fault", ["lost", "edited", "changed"])
def test_what_is_not_prepared_or_stale_is_refused_although_its_brain_is_kept(
    index: BidsIndex, saved: Path, tmp_path: Path, fault: str
):
    study = Path(shutil.copytree(index.root, tmp_path / "study"))
    one, other = (entry.path for entry in BidsIndex.open(study, "session").scans)
    arguments = ([one, other], GRID, tmp_path / "brains", 1, saved)
    assert not prepare_brains(*arguments)[1]
    if fault == "lost":
        discard_prepared(PreparedFiles.of(one, saved))
    elif fault == "edited":
        mend(one, saved)
    else:
        scan = read_scan(one)
        nib.save(nib.Nifti1Image(scan.volume.voxels + 1, scan.volume.affine), one)
    brains, refused = prepare_brains(*arguments)
    assert list(brains) == [other]
    reason = refused[one]
    words = {"lost": "is not prepared in", "edited": "was edited since", "changed": "has changed since"}
    assert words[fault] in reason
    assert reason.endswith("Run `mrharmony prepare` again.")
    assert reason.count(str(one)) == 1


def test_a_kept_brain_that_was_damaged_is_made_anew_or_told(index: BidsIndex, saved: Path, tmp_path: Path):
    scan = ScanFile(index.scans[0].path, prepared=saved)
    (file,) = prepare_positions([[scan]], GRID, tmp_path, 1)[0].values()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert prepare_positions([[scan]], GRID, tmp_path, 1) == ({scan.path: file}, {})
    assert file.read_bytes() == whole
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(MrharmonyError, match="Move the file away"):
        load_brain(file, GRID)


def test_a_mended_mask_makes_another_brain_and_another_run(index: BidsIndex, saved: Path, tmp_path: Path):
    before = training_brains(index, None, None, GRID, tmp_path, saved)
    one = index.scans[0].path
    mend(one, saved)
    prepare_again(one, saved)
    after = training_brains(index, None, None, GRID, tmp_path, saved)
    assert after.kept[0][1].mask.sum() < before.kept[0][1].mask.sum()
    np.testing.assert_array_equal(after.kept[1][1].volume.voxels, before.kept[1][1].volume.voxels)
    assert run_folder(tmp_path, after, "settings") != run_folder(tmp_path, before, "settings")
    assert run_folder(tmp_path, after, "settings") != run_folder(tmp_path, after, "others")


def test_a_benchmark_notices_another_preparation(index: BidsIndex, saved: Path, tmp_path: Path):
    scans = tuple(BenchmarkScan(s.path, s.subject, str(s.domain), {}) for s in index.scans)
    plan = BenchmarkPlan(index.root, "spgr15t", (Fold(scans, scans),))
    request = BenchmarkRequest(index.root, tmp_path / "out", tmp_path, "benchmark", prepared=saved)
    folder = BenchmarkFolder(request.output)
    folder.claim(request.settings(plan), {})
    moved = replace(request, prepared=saved.rename(tmp_path / "moved"))
    folder.claim(moved.settings(plan), {})
    mend(scans[0].path, tmp_path / "moved")
    assert saved_sha256(ScanFile(scans[0].path, prepared=moved.prepared)) is None
    prepare_again(scans[0].path, tmp_path / "moved")
    for other in (moved, replace(moved, prepared=None)):
        with pytest.raises(MrharmonyError, match="another preparation"):
            folder.claim(other.settings(plan), {})


COMMANDS = {
    "train": ("train", "STUDY", "--output", "OUT"),
    "train a simple method": ("train", "STUDY", "--output", "OUT", "--method", "nyul"),
    "train diffusion": ("train", "STUDY", "--output", "OUT", "--method", "diffusion"),
    "train cyclegan": (
        *("train", "STUDY", "--output", "OUT", "--method", "cyclegan"),
        *("--pair", "mprage3t", "spgr15t"),
    ),
    "adapt": ("adapt", "STUDY", "--output", "OUT", "--domain-column", "place"),
    "benchmark": ("benchmark", "STUDY", "--output", "OUT"),
    "evaluate sites": ("evaluate", "sites", "STUDY"),
    "evaluate biology": ("evaluate", "biology", "STUDY", "--to", "mprage3t", "--factor", "ventricle_scale"),
    "evaluate unlearning": ("evaluate", "unlearning", "STUDY", "--factor", "ventricle_scale"),
    "evaluate paper": (
        *("evaluate", "paper", "STUDY", "--from", "spgr15t", "--to", "mprage3t"),
        *("--output", "OUT"),
    ),
    "evaluate identity": ("evaluate", "identity", "SCAN", "--domain", "mprage-3t", "--method", "histogram"),
    "evaluate paired": ("evaluate", "paired", "SCAN", "OTHER"),
    "evaluate anatomy": ("evaluate", "anatomy", "SCAN", "OTHER"),
    "evaluate repeat": ("evaluate", "repeat", "SCAN", "OTHER"),
    "simulate": ("simulate", "OUT", "--anatomy", "STUDY"),
    "harmonize": ("harmonize", "SCAN", "--to", "LA", "--method", "none", "--output", "OUT"),
    "bids": ("bids", "STUDY", "OUT", "participant", "--to", "LA", "--method", "none"),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, cohort: Path) -> Path:
    """Ten subjects on two scanners: scans of one head in files that differ by the zeros that end them."""
    folder = tmp_path_factory.mktemp("study") / "study"
    rows = ["participant_id\tsplit\tventricle_scale\tplace"]
    sources = sorted(cohort.glob("sub-*/ses-*/anat/*_T1w.nii.gz"))
    for number in range(1, 11):
        rows.append(f"sub-{number}\t{'train' if number > 3 else 'test'}\t{number / 2}\there")
        for source in sources:
            name = source.name.replace("sub-001", f"sub-{number}")
            scan = folder / f"sub-{number}" / source.parent.parent.name / "anat" / name
            scan.parent.mkdir(parents=True)
            scan.write_bytes(source.read_bytes() + bytes(number))
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_looks_for_its_scans_in_the_folder(
    command: str, run, study: Path, scan: Path, tmp_path
):
    """In an empty folder nothing is found, and nothing is prepared instead."""
    other = next(scan.parents[2].rglob("ses-spgr15t/anat/*_T1w.nii.gz"))
    places = {"STUDY": study, "SCAN": scan, "OTHER": other, "OUT": tmp_path / "out"}
    arguments = [places.get(argument, argument) for argument in COMMANDS[command]]
    if "STUDY" in COMMANDS[command] and command not in ("simulate", "adapt"):
        arguments += ["--domain-column", "session"]
    empty = tmp_path / "empty"
    empty.mkdir()
    status, _, errors = run(*arguments, "--prepared", empty)
    assert status in (2, 3), errors
    assert f"is not prepared in {empty}" in errors
    assert "Run `mrharmony prepare` again." in errors
    assert "Traceback" not in errors

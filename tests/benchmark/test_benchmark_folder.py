"""The folder of a benchmark: begun once, taken up only for the same comparison."""

import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from mrharmony.benchmark.contenders import OURS
from mrharmony.benchmark.folder import SETTINGS, BenchmarkFolder
from mrharmony.benchmark.plan import BenchmarkScan
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.preparation.canonical import CanonicalBrain


def test_another_model_forgets_its_own_results_and_nothing_else(tmp_path: Path):
    folder = BenchmarkFolder(tmp_path / "out")
    folder.claim({"seed": 0}, models={OURS: "first"})
    for method in (OURS, "nyul"):
        folder.fitted(0, method).mkdir(parents=True)
        folder.write_figures(method, {"refused": "by all"})
    folder.claim({"seed": 0}, models={OURS: "first"})
    assert folder.read_figures(OURS)
    folder.claim({"seed": 0}, models={OURS: "second"})
    assert folder.read_figures(OURS) is None
    assert not folder.fitted(0, OURS).exists()
    assert folder.read_figures("nyul")
    assert folder.fitted(0, "nyul").is_dir()


def test_other_settings_are_refused(tmp_path: Path):
    folder = BenchmarkFolder(tmp_path / "out")
    folder.claim({"seed": 0}, models={OURS: "first"})
    with pytest.raises(MrharmonyError, match="another seed"):
        folder.claim({"seed": 1}, models={OURS: "first"})


def test_of_two_benchmarks_begun_in_one_folder_at_once_one_is_refused(tmp_path: Path):
    together = Barrier(2)

    def begin(folder: BenchmarkFolder, seed: int) -> bool:
        together.wait()
        try:
            folder.claim({"seed": seed}, models={OURS: "first"})
        except MrharmonyError:
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        for number in range(10):
            folder = BenchmarkFolder(tmp_path / str(number))
            begun = list(threads.map(partial(begin, folder), (0, 1)))
            assert begun.count(True) == 1
            folder.claim({"seed": begun.index(True)}, models={OURS: "first"})


def test_what_is_no_benchmark_is_refused(tmp_path: Path):
    (tmp_path / ".hidden").touch()
    BenchmarkFolder(tmp_path).claim({"seed": 0}, {})
    (tmp_path / SETTINGS).rename(tmp_path / "other.json")
    with pytest.raises(MrharmonyError, match="is not empty and holds no benchmark"):
        BenchmarkFolder(tmp_path).claim({"seed": 0}, {})


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(MrharmonyError, match="file: is a file"):
        BenchmarkFolder(tmp_path / "file").claim({}, {})


SCORES = {"seconds": [1.0], "targets": {"B": {"mse": 0.5, "ssim": 0.9}}, "peak_mib": 9.0}


@pytest.fixture
def scan(tmp_path: Path) -> BenchmarkScan:
    return BenchmarkScan(tmp_path / "sub-1_T1w.nii.gz", "1", "A", {})


@pytest.fixture
def folder(tmp_path: Path, scan: BenchmarkScan) -> BenchmarkFolder:
    """A folder that has a record of each kind."""
    folder = BenchmarkFolder(tmp_path / "out")
    folder.claim({"seed": 0}, models={OURS: "first"})
    folder.add_session({"wall": 1.0})
    folder.add_fit(0, OURS, 2.0)
    folder.write_figures(OURS, {"leak": {"leaked_noise": [0.1]}})
    folder.write_scores(OURS, scan, SCORES)
    return folder


def records(folder: BenchmarkFolder) -> list[Path]:
    return [*folder.root.glob("work/**/*.json"), *folder.root.glob("methods/**/*.json")]


def kept(folder: BenchmarkFolder, scan: BenchmarkScan) -> tuple[object, ...]:
    about = folder.read_figures(OURS), folder.read_scores(OURS, scan), folder.fit_seconds(0, OURS)
    return *about, *folder.sessions()


def test_records_are_read_back_also_where_the_folder_was_moved(folder: BenchmarkFolder, scan: BenchmarkScan):
    moved = BenchmarkFolder(folder.root.rename(folder.root.with_name("moved")))
    assert kept(moved, scan) == ({"leak": {"leaked_noise": [0.1]}}, SCORES, 2.0, {"wall": 1.0})


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-9],
        lambda text: "[1]",
        lambda text: "{}",
        lambda text: '{"seconds": 2.0, "sessions": null, "targets": {}}',
        lambda text: re.sub(r"\d\.\d", "null", text, count=1),
        lambda text: re.sub(r"\d\.\d", "NaN", text, count=1),
        lambda text: re.sub(r"\d\.\d", "1.5", text, count=1),
    ],
)
def test_records_that_were_changed_count_as_missing(
    folder: BenchmarkFolder, scan: BenchmarkScan, change: Callable[[str], str]
):
    assert len(records(folder)) == 4
    for file in records(folder):
        file.write_text(change(file.read_text("utf-8")), encoding="utf-8")
    assert kept(folder, scan) == (None, None, None)


def test_records_of_another_scan_or_method_count_as_missing(folder: BenchmarkFolder, scan: BenchmarkScan):
    other = BenchmarkScan(scan.path.with_name("sub-2_T1w.nii.gz"), "2", "A", {})
    for file in records(folder):
        place = Path(str(file).replace(OURS, "nyul").replace(scan.key, other.key))
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(file.read_bytes())
    assert folder.read_scores("nyul", scan) is None
    assert folder.read_scores("nyul", other) is None
    assert folder.read_figures("nyul") is None
    assert folder.read_scores(OURS, scan) == SCORES


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a"', '{"seed": 0}', '{"seed": 0, "models": [1]}'])
def test_damaged_settings_are_told(folder: BenchmarkFolder, content: str):
    (folder.root / SETTINGS).write_text(content, encoding="utf-8")
    with pytest.raises(MrharmonyError, match=f"{SETTINGS}: is damaged"):
        folder.claim({"seed": 0}, models={OURS: "first"})


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04cut"])
def test_arrays_that_were_damaged_are_told_with_their_file(
    tmp_path: Path, scan: BenchmarkScan, content: bytes
):
    folder = BenchmarkFolder(tmp_path / "out")
    mask = np.ones((4, 4, 4), bool)
    brain = CanonicalBrain(Volume(np.ones(mask.shape, np.float32), np.eye(4)), mask, 1.0)
    folder.save_brain(OURS, scan, brain.volume.voxels, mask)
    assert folder.load_brain(OURS, scan, brain).volume.voxels.all()
    (file,) = (tmp_path / "out" / "work" / OURS).glob("*.npz")
    tissues = tmp_path / "out" / "work" / "tissues" / f"{scan.key}.npz"
    tissues.parent.mkdir()
    for damaged in (file, tissues):
        damaged.write_bytes(content)
    with pytest.raises(MrharmonyError, match=f"{file.name}: was damaged since it was kept"):
        folder.load_brain(OURS, scan, brain)
    with pytest.raises(MrharmonyError, match=f"tissues/{tissues.name}: was damaged since it was kept"):
        folder.segmentation(scan, brain)


def test_arrays_of_another_method_are_told(tmp_path: Path, scan: BenchmarkScan):
    folder = BenchmarkFolder(tmp_path / "out")
    mask = np.ones((4, 4, 4), bool)
    brain = CanonicalBrain(Volume(np.ones(mask.shape, np.float32), np.eye(4)), mask, 1.0)
    folder.save_brain(OURS, scan, brain.volume.voxels, mask)
    shutil.copytree(tmp_path / "out" / "work" / OURS, tmp_path / "out" / "work" / "nyul")
    with pytest.raises(MrharmonyError, match=f"nyul/{scan.key}.npz: was damaged since it was kept"):
        folder.load_brain("nyul", scan, brain)

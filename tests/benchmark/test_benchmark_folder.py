"""The folder of a benchmark: begun once, taken up only for the same comparison."""

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
        folder.figures(method).parent.mkdir(exist_ok=True)
        folder.figures(method).write_text("{}", encoding="utf-8")
    folder.claim({"seed": 0}, models={OURS: "first"})
    assert folder.figures(OURS).is_file()
    folder.claim({"seed": 0}, models={OURS: "second"})
    assert not folder.figures(OURS).exists()
    assert not folder.fitted(0, OURS).exists()
    assert folder.figures("nyul").is_file()
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


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a"'])
def test_damaged_files_are_told_or_count_as_missing(tmp_path: Path, content: str):
    folder = BenchmarkFolder(tmp_path / "out")
    folder.claim({"seed": 0}, models={OURS: "first"})
    folder.add_session({"wall": 1.0})
    for file in (folder.figures(OURS), *folder.root.glob("work/*.json"), folder.root / SETTINGS):
        file.parent.mkdir(exist_ok=True)
        file.write_text(content, encoding="utf-8")
    assert not folder.read_figures(OURS)
    assert folder.sessions() == []
    with pytest.raises(MrharmonyError, match=f"{SETTINGS}: is damaged"):
        folder.claim({"seed": 0}, models={OURS: "first"})


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04cut"])
def test_arrays_that_were_damaged_are_told_with_their_file(tmp_path: Path, content: bytes):
    folder = BenchmarkFolder(tmp_path / "out")
    scan = BenchmarkScan(tmp_path / "sub-1_T1w.nii.gz", "1", "A", {})
    mask = np.ones((4, 4, 4), bool)
    brain = CanonicalBrain(Volume(np.ones(mask.shape, np.float32), np.eye(4)), mask, 1.0)
    folder.save_brain(OURS, scan, brain.volume.voxels, mask)
    assert folder.load_brain(OURS, scan, brain).volume.voxels.all()
    (kept,) = (tmp_path / "out" / "work" / OURS).glob("*.npz")
    tissues = tmp_path / "out" / "work" / "tissues" / f"{scan.key}.npz"
    tissues.parent.mkdir()
    for file in (kept, tissues):
        file.write_bytes(content)
    with pytest.raises(MrharmonyError, match=f"{kept.name}: was damaged since it was kept"):
        folder.load_brain(OURS, scan, brain)
    with pytest.raises(MrharmonyError, match=f"tissues/{tissues.name}: was damaged since it was kept"):
        folder.segmentation(scan, brain)

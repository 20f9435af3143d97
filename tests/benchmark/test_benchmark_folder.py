"""The folder of a benchmark: begun once, taken up only for the same comparison."""

from pathlib import Path

import pytest

from mrharmony.benchmark.contenders import OURS
from mrharmony.benchmark.folder import BenchmarkFolder
from mrharmony.core.findings import MrharmonyError


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

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs import demo


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoResult:
    """The demo on one head and two scanners."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SUBJECTS", 1)
        patch.setattr(demo, "SCANNERS", ("mprage-3t-soft", "spgr-1.5t"))
        return demo.run_demo(tmp_path_factory.mktemp("demo") / "out", seed=3)


def test_ours_beats_nothing_and_histogram_matching(small_demo: demo.DemoResult):
    ours = small_demo.mean("diffusion", "psnr")
    assert ours > small_demo.mean("none", "psnr") + 3
    assert ours > small_demo.mean("histogram", "psnr")


def test_no_method_beats_the_lock_that_knows_the_truth(small_demo: demo.DemoResult):
    ceiling = small_demo.mean(demo.CEILING, "psnr")
    assert all(ceiling > small_demo.mean(method, "psnr") for method in demo.METHODS)


def test_identity_changes_nothing(small_demo: demo.DemoResult):
    assert small_demo.identity_ssim >= 0.99


def test_the_picture_and_the_harmonized_scans_are_left(small_demo: demo.DemoResult):
    assert np.ptp(imread(small_demo.folder / demo.SHEET)) > 0.5
    assert len(list((small_demo.folder / "harmonized").glob("*.nii.gz"))) == 2


def test_the_table_names_every_method_and_the_distances(small_demo: demo.DemoResult):
    console = Console(record=True, width=140)
    small_demo.print(console)
    text = console.export_text()
    assert all(name in text for name in ("nothing", "histogram", "regional", "ours", demo.CEILING))
    assert "dB from regional curves" in text


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "thesis.txt").write_text("precious")
    with pytest.raises(MrharmonyError, match="cohort"):
        demo.run_demo(tmp_path)
    assert (tmp_path / "cohort" / "thesis.txt").read_text() == "precious"

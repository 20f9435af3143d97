"""Whatever happens to a DICOM folder: the scan, or a sentence, never a shorter scan in silence."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from benchmarks.robustness._mutations.dicom import LOSES, MUTATIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.dicom_files import write_series
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.scans.dicom import convert_dicom
from mrharmony.scans.reading import read_scan


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """An examination of 24 slices, and what it is converted to."""
    i, j, k = np.indices((30, 28, 24)) / 24
    volume = Volume((100 + 400 * i * j + 90 * k).astype(np.float32), np.diag([4.0, 4, 4, 1]))
    folder = tmp_path_factory.mktemp("sound")
    write_series(folder / "exam", volume, 4)
    return folder / "exam", read_scan(
        convert_dicom(folder / "exam", folder / "scan.nii.gz", series=4)
    ).volume.voxels


@settings(max_examples=10, deadline=None)
@given(name=st.sampled_from(sorted(MUTATIONS)), seed=st.integers(0, 2**32 - 1))
def test_mutated_folders_are_refused_or_give_the_scan(sound, name: str, seed: int):
    with TemporaryDirectory() as place:
        folder = Path(place, "exam")
        shutil.copytree(sound[0], folder)
        MUTATIONS[name](folder, np.random.default_rng(seed))
        try:
            scan = read_scan(convert_dicom(folder, Path(place, "scan.nii.gz"), series=4))
        except MrharmonyError:
            assert name in LOSES
            return
        if name in LOSES:
            assert any(finding.level == "warning" for finding in scan.findings)
        else:
            np.testing.assert_array_equal(scan.volume.voxels, sound[1])

"""`mrharmony prepare` ended in the middle by the operating system, and called again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from helpers.commands import Run
from mrharmony.preparation.saved import PreparedFiles, why_not_usable

SUBJECTS = ("1", "2")
SECONDS = 200


@pytest.fixture
def study(scan: Path, tmp_path: Path) -> tuple[list[Path], Path]:
    """Two subjects, and a folder of derivatives with a mask for each, so that no network is needed."""
    scans = []
    for label in SUBJECTS:
        path = tmp_path / "study" / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        shutil.copy(scan, path)
        files = PreparedFiles.of(path, tmp_path / "out")
        files.folder.mkdir(parents=True)
        image = nib.load(scan)
        brain = (image.get_fdata() > 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(brain, image.affine), files.mask)
        scans.append(path)
    return scans, tmp_path / "out"


def _command(study: Path, out: Path) -> tuple[str, ...]:
    return ("prepare", str(study), str(out), "--workers", "1", "--json", "--domain-column", "session")


def _wait_for(count: int, notes: list[Path]) -> None:
    end = time.monotonic() + SECONDS
    while sum(note.is_file() for note in notes) < count:
        assert time.monotonic() < end, "nothing was prepared in time"
        time.sleep(0.01)


def test_a_killed_run_goes_on_with_what_is_missing_and_leaves_the_rest_alone(study, run: Run):
    scans, out = study
    files = [PreparedFiles.of(scan, out) for scan in scans]
    command = [sys.executable, "-m", "mrharmony", *_command(scans[0].parents[2], out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait_for(1, [each.note for each in files])
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    done = [each for each, scan in zip(files, scans, strict=True) if why_not_usable(each, scan) is None]
    assert 1 <= len(done) < len(scans)
    before = {file: file.stat().st_mtime_ns for each in done for file in each.folder.iterdir()}

    status, output, errors = run(*_command(scans[0].parents[2], out))
    assert status == 0, errors
    assert output.count('"verdict"') == len(scans)
    assert all(why_not_usable(each, scan) is None for each, scan in zip(files, scans, strict=True))
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]

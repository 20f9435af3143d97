"""The documents are true: commands run, links lead somewhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_of_the_project(document: Path):
    for target in LINK.findall(document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_bash_blocks_run(document: Path, cohort: Path, scan: Path, tmp_path: Path):
    """Blocks run in a folder with a scan `sub-01_T1w.nii.gz` and a data set `BIDS_DIR`."""
    shutil.copy(scan, tmp_path / "sub-01_T1w.nii.gz")
    shutil.copytree(cohort, tmp_path / "BIDS_DIR")
    path = f"PATH={Path(sys.executable).parent}:$PATH"
    for block in BLOCK.findall(document.read_text("utf-8")):
        script = f"export {path}\n{block}"
        command = ["bash", "-euc", script]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["README.md", "docs/tutorials/python.md"])
def test_python_blocks_run(name: str, scan: Path, tmp_path: Path):
    """Blocks of a document run in one process, in a folder with a scan `sub-01_T1w.nii.gz`."""
    shutil.copy(scan, tmp_path / "sub-01_T1w.nii.gz")
    code = "\n".join(PYTHON.findall((ROOT / name).read_text("utf-8")))
    assert "mrharmony.Harmonizer" in code
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_readme_begins_with_the_two_commands():
    head = (ROOT / "README.md").read_text("utf-8").split("\n## ")[0]
    assert "make demo" in head
    assert "make test" in head

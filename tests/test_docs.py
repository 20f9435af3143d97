"""The documents are true: their commands and examples run, their links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.commands import Run

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```([\w{}-]*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)\)")
PROTOCOL = {"MagneticFieldStrength": 3, "ScanningSequence": ["GR", "IR"], "Manufacturer": "Siemens"}
PROTOCOL |= {"RepetitionTime": 2.3, "InversionTime": 0.9, "EchoTime": 0.003, "FlipAngle": 9}


class Block(NamedTuple):
    """A block of code in a document."""

    is_marked: bool  # as one that cannot run
    language: str
    code: str


def blocks(document: Path) -> list[Block]:
    return [
        Block(bool(mark), language, code)
        for mark, language, code in FENCE.findall(document.read_text("utf-8"))
    ]


def to_run(document: Path) -> list[Block]:
    return [b for b in blocks(document) if b.language in ("bash", "python") and not b.is_marked]


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.fixture(scope="module")
def desk(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a reader works in: a scan, a protocol, and a data set of two sites."""
    folder = tmp_path_factory.mktemp("desk")
    scans = sorted(cohort.glob("sub-*/ses-*/anat/*_T1w.nii.gz"))
    people = {"sub-01": "north", "sub-02": "south"}
    for scan, person in zip(scans, people, strict=True):
        anat = folder / "BIDS_DIR" / person / "anat"
        anat.mkdir(parents=True)
        shutil.copy(scan, anat / f"{person}_T1w.nii.gz")
    rows = ["participant_id\tsite", *("\t".join(pair) for pair in people.items())]
    (folder / "BIDS_DIR" / "participants.tsv").write_text("\n".join(rows) + "\n")
    shutil.copy(cohort / "dataset_description.json", folder / "BIDS_DIR")
    shutil.copy(scans[0], folder / "sub-01_T1w.nii.gz")
    (folder / "protocol.json").write_text(json.dumps(PROTOCOL))
    return folder


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_of_the_project(document: Path):
    for target in LINK.findall(document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS[1:], ids=name_of)
def test_blocks_that_are_not_run_say_why(document: Path):
    for block in blocks(document):
        if not block.is_marked and block.language not in ("bash", "python"):
            assert "mrharmony " not in block.code, block.code
            assert block.language in ("text", "") or block.language.startswith("{"), block.language


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if to_run(one)], ids=name_of)
def test_blocks_run(document: Path, desk: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    """In their order, in one folder and, in Python, with the same variables."""
    prepared = desk / "prepared"
    if not prepared.exists():
        assert run("prepare", desk / "BIDS_DIR", prepared)[0] == 0
    folder = shutil.copytree(desk, tmp_path / "desk")
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for block in to_run(document):
        if block.language == "python":
            exec(compile(block.code, name_of(document), "exec"), names)
            continue
        for line in block.code.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                assert words[0] == "mrharmony", line
                status, _, errors = run(*words[1:])
                assert status == 0, f"{line}\n{errors}"


def test_the_readme_begins_with_the_two_commands():
    head = (ROOT / "README.md").read_text("utf-8").split("\n## ")[0]
    assert "make demo" in head
    assert "make test" in head

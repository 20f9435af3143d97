"""BIDS data sets with a damaged table or damaged sidecars, and what the commands take of them."""

import json
from pathlib import Path

import numpy as np

from benchmarks.robustness._mutations import Kind, is_sentence, refusals
from benchmarks.robustness._mutations.files import (
    DAMAGED_JSON,
    any_of,
    cut,
    encode,
    flip,
    no_file,
    pointer,
    replace,
)
from mrharmony.benchmark.plan import make_plan
from mrharmony.jobs.columns import column_entries, column_groups, column_numbers
from mrharmony.jobs.data_sets import training_scans
from mrharmony.jobs.derivatives import begin_derivatives
from mrharmony.scans.acquisition import acquisition_findings
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.participants import PARTICIPANTS
from mrharmony.simulate.protocol import protocol_of_sidecar

TABLE = (
    "participant_id\tsite\tage\tsex\tsplit\n"
    "sub-01\tA\t31.5\tF\ttrain\nsub-02\tB\t40\tM\ttrain\nsub-03\tA\tn/a\tF\ttest\nsub-04\tB\t75\tM\ttest\n"
)
SIDECAR = {
    "Manufacturer": "Siemens",
    "MagneticFieldStrength": 3,
    "SeriesDescription": "t1_mprage_sag_p2",
    "ScanningSequence": ["GR", "IR"],
    "RepetitionTime": 2.3,
    "InversionTime": 0.9,
    "EchoTime": 0.003,
    "FlipAngle": 9,
    "ConversionFindings": [{"level": "info", "code": "c", "message": "m", "fix": "f"}],
}
_CELLS = (
    *("", "n/a", "NaN", "1e999", "-inf", "0x10", "１２", "forty", "\0", "a\0b", "\x1b[2J", '"', '"a', 'a"b'),
    *("../../elsewhere", "/dev/zero", "=1+1", "é" * 200, "x" * 5_000, "x" * 200_000, "train", "sub-sub-01"),
    *(" ", "\u2028", "\r", "sub-01", "01", "1", "\ud7ff", "🧠"),
)


def _data_set(folder: Path) -> Path:
    root = folder / "study"
    for name in ("sub-01", "sub-02/ses-x", "sub-03", "sub-04"):
        scan = root / name / "anat" / f"{name.replace('/', '_')}_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        scan.touch()
        scan.with_name(scan.name.replace(".nii.gz", ".json")).write_text(json.dumps(SIDECAR))
    (root / "T1w.json").write_text('{"MRAcquisitionType": "3D"}')
    (root / "participants.tsv").write_text(TABLE)
    return root


def _cells(random: np.random.Generator, file: Path) -> None:
    """Some cells hold others' content."""
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    for _ in range(random.integers(1, 4)):
        row = rows[random.integers(len(rows))]
        row[random.integers(len(row))] = _CELLS[random.integers(len(_CELLS))]
    replace(file, "".join("\t".join(row) + "\n" for row in rows).encode())


def _rows(random: np.random.Generator, file: Path) -> None:
    """A line is twice there, gone, short, long, empty, or there are very many."""
    lines = file.read_text().splitlines(keepends=True)
    place = int(random.integers(len(lines)))
    line = lines[place]
    many = "".join(f"sub-m{number}\tA\t1\tF\ttrain\n" for number in range(20_000))
    lines[place] = (
        line * 2, "", line.rpartition("\t")[0] + "\n", line[:-1] + "\t" * 40 + "\n", "\n", line + many,
        line + TABLE.splitlines()[0] + "\n",
    )[random.integers(7)]  # fmt: skip
    replace(file, "".join(lines).encode())


def _separators(random: np.random.Generator, file: Path) -> None:
    """Columns or lines are separated by something else."""
    old, new = (
        ("\t", ","),
        ("\t", " "),
        ("\t", ";"),
        ("\t", "\t\t"),
        ("\n", "\r"),
        ("\n", "\r\n"),
        ("\n", ""),
    )[random.integers(7)]
    replace(file, file.read_bytes().replace(old.encode(), new.encode()))


def _header(random: np.random.Generator, file: Path) -> None:
    """A column has the name of another, or none that is known."""
    head, rest = file.read_text().split("\n", 1)
    names = head.split("\t")
    others = (*names, "", "Site", "participant", "x" * 5_000, "a\0b")
    names[random.integers(len(names))] = others[random.integers(len(others))]
    replace(file, ("\t".join(names) + "\n" + rest).encode())


_DAMAGED_TABLE = any_of(
    _cells, _cells, _rows, _rows, _separators, _header, encode, cut, flip, no_file, pointer
)


def _table(random: np.random.Generator, folder: Path) -> Path:
    root = _data_set(folder)
    _DAMAGED_TABLE(random, root / "participants.tsv")
    return root


def _sidecars(random: np.random.Generator, folder: Path) -> Path:
    root = _data_set(folder)
    files = sorted(root.rglob("*T1w.json"))
    any_of(DAMAGED_JSON, encode)(random, files[random.integers(len(files))])
    return root


def open_data(root: Path) -> None:
    """Index a data set, and take of it what the commands take; what one of them refuses, others may do."""
    index, table = BidsIndex.open(root, None), root / PARTICIPANTS
    assert len(index.scans) == 4, "lost scans"
    for scan in index.scans:
        said = [*index.findings, *acquisition_findings(scan.path)]
        assert all(is_sentence(f"{finding.message} {finding.fix}") for finding in said), said
        with refusals():
            assert np.isfinite(protocol_of_sidecar(scan.sidecar, scan.path.name).field_strength)
    with refusals():
        training_scans(index, None, None)
    with refusals():
        ages = column_entries(table, index.scans, "age")
        known = column_numbers(table, ages, "age")
        assert np.isfinite(list(known.values())).all(), "an age without value"
    with refusals():
        column_groups(table, index.scans, "sex")
    with refusals():
        make_plan(root, "site", None)
    begin_derivatives(index, root.parent / "out", "fuzz")


KINDS = (Kind("participants.tsv", _table, open_data), Kind("sidecars of scans", _sidecars, open_data))

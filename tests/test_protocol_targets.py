"""Protocols instead of domains, from the command line, in a data set and in Python."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mrharmony
from helpers.commands import sentences
from mrharmony.core.findings import MrharmonyError
from mrharmony.domains.statistics import load_statistics
from mrharmony.evidence.drift import scan_evidence
from mrharmony.jobs import opening
from mrharmony.jobs.harmonizing import HarmonizeJob
from mrharmony.jobs.participants import EVERYTHING, run_participants
from mrharmony.jobs.sources import Sources
from mrharmony.methods.protocol import HarmonizedVolume
from mrharmony.methods.registry import DEFAULT_METHOD, METHODS
from mrharmony.networks.card import STATISTICS, ModelCard, read_card
from mrharmony.scans.bids import BidsIndex
from mrharmony.simulate.protocol import EXAMPLE, read_protocol
from mrharmony.weights import shipped_model

NAME = "mprage-3T-TR2300-TI900-TE3-FA9"
OTHERS = [method.name for method in METHODS if not method.options.protocol]
SIDECAR = {
    "MagneticFieldStrength": 3,
    "ScanningSequence": "GR\\IR",
    "RepetitionTime": 2.3,
    "InversionTime": 0.9,
    "EchoTime": 0.003,
    "FlipAngle": 9,
}


@dataclass(frozen=True)
class Unchanged:
    """A method that leaves scans alone: these tests are about what is said of them."""

    name: str = DEFAULT_METHOD

    def harmonize(self, scan, source, target):
        volume = scan.native.with_voxels(np.where(scan.brain_mask, scan.intensities(), 0))
        found = scan_evidence(scan, volume, 1.0, load_statistics(shipped_model() / STATISTICS)["mprage-3t"])
        return HarmonizedVolume(volume, 1.0, found, {"method": self.name, "extent": "brain"})


@pytest.fixture
def unchanged(monkeypatch) -> None:
    monkeypatch.setattr(opening, "load_method", lambda *_: Unchanged())


@pytest.fixture
def job() -> HarmonizeJob:
    return HarmonizeJob(Unchanged(), None, read_protocol(EXAMPLE).domain)


@pytest.fixture
def strangers() -> ModelCard:
    """A model that knows no domain of the cohort."""
    card = read_card(shipped_model())
    return card.model_copy(update={"domains": card.domains[:1]})


@pytest.mark.usefixtures("unchanged")
def test_a_sentence_and_a_sidecar_name_the_same_target_and_say_what_was_assumed(run, scan: Path, tmp_path):
    (tmp_path / "protocol.json").write_text(json.dumps(SIDECAR), "utf-8")
    notes = []
    for folder, target in (("a", EXAMPLE), ("b", tmp_path / "protocol.json"), ("c", NAME)):
        status, _, errors = run("harmonize", scan, "--to", target, "--output", tmp_path / folder / "x.nii.gz")
        assert status == 0
        assert [sum(part in line for line in sentences(errors)) for part in ("spacing", "0.96")] == [1, 1]
        notes.append((tmp_path / folder / "x.json").read_text("utf-8"))
    assert notes[0] == notes[1] == notes[2]
    note = json.loads(notes[0])
    assert note["Target"] == NAME
    assert note["TargetProtocol"]["field_strength"] == 3
    assert note["TargetProtocol"]["sequence"]["inversion_time_ms"] == 900
    assert "SourceProtocol" not in note
    assumed = [f["message"] for f in note["Findings"] if f["code"] == "assumed-protocol"]
    assert assumed == [f"{NAME}: {said}" for said in read_protocol(EXAMPLE).assumed]


@pytest.mark.usefixtures("unchanged")
def test_the_name_of_a_domain_wins_and_its_sidecar_has_no_protocol(run, scan: Path, tmp_path):
    arguments = ("--to", "mprage 3T", "--from", "spgr 1.5T TR=22 TE=9.2 FA=30")
    assert run("harmonize", scan, *arguments, "--output", tmp_path / "x.nii.gz")[0] == 0
    note = json.loads((tmp_path / "x.json").read_text("utf-8"))
    assert note["Target"] == "mprage-3t"
    assert "TargetProtocol" not in note
    assert note["Source"] == "spgr-1.5T-TR22-TE9.2-FA30"
    assert note["SourceProtocol"]["sequence"]["kind"] == "spgr"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "mprage 7T TR=2300 TI=900 FA=9"), "7 T is not known"),
        (("--to", "nowhere.json"), "nowhere.json"),
        (("--to", "NSK", "--from", "mprage 3T TR=2300 FA=9"), "Add TI="),
        (("--to", EXAMPLE, "--detail"), "does not know the detail of mprage-3T"),
        *(((("--to", EXAMPLE, "--method", name), f"--method {DEFAULT_METHOD}")) for name in OTHERS),
    ],
)
def test_protocols_that_cannot_serve_end_with_status_2_before_any_work(
    run, scan: Path, tmp_path: Path, arguments, message
):
    status, _, errors = run("harmonize", scan, "--output", tmp_path / "out", *arguments)
    assert status == 2
    assert message in errors
    assert len(sentences(errors)) == 1
    assert not (tmp_path / "out").exists()


def test_both_kinds_of_target_are_taught(run):
    assert EXAMPLE in run("domains")[1]
    for command in ("harmonize", "bids"):
        assert "protocol.json" in run(command, "--help")[1]


def test_scans_of_unknown_domains_come_from_their_own_protocols_where_asked(
    job, cohort: Path, strangers, tmp_path
):
    index = BidsIndex.open(cohort, "session")

    def sources(out_dir: Path, **options: bool) -> dict[str, dict[str, object]]:
        outcomes = run_participants(index, out_dir, EVERYTHING, job, Sources(strangers, **options))
        notes = [json.loads(o.output.with_name(o.output.name[:-7] + ".json").read_text()) for o in outcomes]
        return {note["Source"]: note for note in notes}

    assert set(sources(tmp_path / "unasked")) == {None}
    found = sources(tmp_path / "asked", by_protocol=True)
    assert set(found) == {"mprage-3T-TR2300-TI900-TE3-FA9", "spgr-1.5T-TR22-TE9.2-FA30"}
    assert all(note["SourceProtocol"]["sequence"]["kind"] in name for name, note in found.items())


def test_a_sidecar_that_is_no_protocol_leaves_the_source_unknown_and_says_why(
    job, cohort: Path, strangers, tmp_path
):
    index = BidsIndex.open(cohort, "session")
    broken = replace(index.scans[0], sidecar={"MagneticFieldStrength": 7})
    index = replace(index, scans=(broken,))
    (outcome,) = run_participants(index, tmp_path, EVERYTHING, job, Sources(strangers, by_protocol=True))
    (finding,) = [finding for finding in outcome.findings if finding.code == "no-source-protocol"]
    assert broken.path.name in finding.message
    assert "7 T is not known" in finding.message
    known = replace(job, harmonizer=Unchanged("histogram"))
    with pytest.raises(MrharmonyError, match=f"histogram: .*method='{DEFAULT_METHOD}'"):
        run_participants(index, tmp_path / "b", EVERYTHING, known, Sources(strangers, by_protocol=True))


def test_a_data_set_is_done_again_for_another_protocol_only(job, cohort: Path, strangers, tmp_path):
    index = BidsIndex.open(cohort, "session")
    index = replace(index, scans=index.scans[:1])

    def harmonized_at(text: str, overwrite: bool = False) -> int:
        own = replace(job, target=read_protocol(text).domain, overwrite=overwrite)
        (outcome,) = run_participants(index, tmp_path, EVERYTHING, own, Sources(strangers))
        return outcome.output.stat().st_mtime_ns

    first = harmonized_at(EXAMPLE)
    assert harmonized_at(NAME) == first
    with pytest.raises(MrharmonyError, match="overwrite=True"):
        harmonized_at(f"{EXAMPLE} ES=8")
    assert harmonized_at(f"{EXAMPLE} ES=8", overwrite=True) > first


def test_python_takes_sentences_and_protocols_and_saves_what_the_command_line_writes(
    unchanged, run, scan: Path, tmp_path
):
    harmonizer = mrharmony.Harmonizer.from_pretrained(target=mrharmony.read_protocol(EXAMPLE))
    assert run("harmonize", scan, "--to", EXAMPLE, "--output", tmp_path / "a" / "x.nii.gz")[0] == 0
    for target in (None, EXAMPLE, mrharmony.read_protocol(NAME)):
        result = harmonizer.harmonize(nib.load(scan) if target is None else scan, target=target)
        assert [f.code for f in result.findings].count("assumed-protocol") == 3
    result.save(tmp_path / "b" / "x.nii.gz")
    assert (tmp_path / "a" / "x.json").read_bytes() == (tmp_path / "b" / "x.json").read_bytes()
    with pytest.raises(MrharmonyError, match="flip angle is missing"):
        harmonizer.harmonize(scan, target=EXAMPLE, source="mprage 3T TR=2300 TI=900")

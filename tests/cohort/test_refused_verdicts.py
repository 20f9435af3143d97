"""Scans whose verdict is `fail`: not written, and told why; written by force, and marked."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from helpers.commands import sentences
from mrharmony.core.domain import Domain
from mrharmony.domains.statistics import load_statistics
from mrharmony.evidence.drift import scan_evidence
from mrharmony.jobs.harmonizing import HarmonizeJob, harmonize_scan
from mrharmony.jobs.participants import EVERYTHING, run_participants
from mrharmony.jobs.sources import Sources
from mrharmony.methods.protocol import HarmonizedVolume
from mrharmony.networks.card import STATISTICS, read_card
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.sidecar import Provenance
from mrharmony.weights import shipped_model

TARGET = Domain("mprage-3t", "mprage-3t")
PROVENANCE = Provenance(model_sha256="0" * 64)


@dataclass(frozen=True)
class Inverting:
    """A method that turns bright to dark in scans of one domain, and leaves others alone."""

    disliked: str
    name: str = "inverting"

    def harmonize(self, scan, source, target):
        voxels = np.where(scan.brain_mask, scan.intensities(), 0)
        if source is not None and source.name == self.disliked:
            voxels = np.where(scan.brain_mask, voxels.max() - voxels, 0)
        volume = scan.native.with_voxels(voxels)
        statistics = load_statistics(shipped_model() / STATISTICS)[target.name]
        found = scan_evidence(scan, volume, 1.0, statistics)
        return HarmonizedVolume(volume, 1.0, found, {"method": self.name, "extent": "brain"})


@pytest.fixture
def job() -> HarmonizeJob:
    return HarmonizeJob(Inverting("spgr-1.5t"), Domain("spgr-1.5t", ""), TARGET, PROVENANCE)


def test_a_failed_scan_is_not_written_and_the_sentence_says_why_and_what_to_do(job, scan, tmp_path):
    outcome = harmonize_scan(job, scan, tmp_path / "out.nii.gz")
    assert (outcome.output, outcome.verdict) == (None, "fail")
    assert outcome.record()["reason"] == outcome.reason
    assert len(sentences(outcome.reason)) == 1
    for part in (scan.name, "rank_correlation is -", "below 0.", "force=True"):
        assert part in outcome.reason
    assert not list(tmp_path.iterdir())


def test_force_writes_it_with_its_verdict_and_says_so(job, scan, tmp_path):
    outcome = harmonize_scan(replace(job, force=True), scan, tmp_path / "out.nii.gz")
    note = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert (outcome.verdict, outcome.reason) == ("fail", None)
    before, after = (nib.load(path).get_fdata() for path in (scan, tmp_path / "out.nii.gz"))
    assert np.corrcoef(before[after > 0], after[after > 0])[0, 1] < -0.5
    assert note["Verdict"] == "fail"
    assert "rank_correlation" in note["VerdictReasons"]
    assert [finding["code"] for finding in note["Findings"]].count("forced") == 1
    assert "rank_correlation" in next(f.message for f in outcome.findings if f.code == "forced")


def test_in_a_data_set_the_others_are_done_and_force_can_come_later(job, cohort: Path, tmp_path):
    index, card = BidsIndex.open(cohort, "session"), read_card(shipped_model())

    def run(job):
        return {o.scan.name: o for o in run_participants(index, tmp_path, EVERYTHING, job, Sources(card))}

    first, forced = run(job), run(replace(job, force=True))
    assert all(outcome.output.is_file() for outcome in forced.values())
    again = run(job)
    assert {outcome.verdict == "fail" for outcome in first.values()} == {True, False}
    bad = next(name for name, outcome in first.items() if outcome.verdict == "fail")
    assert "spgr" in bad
    assert [name for name, outcome in first.items() if outcome.reason] == [bad]
    assert not any(outcome.reason for outcome in forced.values())
    assert again[bad].reason == first[bad].reason
    assert not forced[bad].output.exists()
    assert sorted(o.output for o in again.values() if o.output) == sorted(tmp_path.rglob("*harmonized*.gz"))
    assert (tmp_path / "participants.tsv").read_bytes() == (cohort / "participants.tsv").read_bytes()

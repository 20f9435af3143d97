"""Figures over all scans of a cohort that one method has brought to one domain: sites, anatomy, biology."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrharmony.benchmark.harmonizing import Contest
from mrharmony.benchmark.plan import HOME, BenchmarkScan
from mrharmony.evaluate import (
    BiologyScores,
    CohortBiology,
    TargetVolumetry,
    TissueSegmentation,
    biology_scores,
    cohort_biology,
    compare_anatomy,
    cross_fit_probe,
    probe_sites,
    site_distances,
)
from mrharmony.harmonize import CanonicalBrain
from mrharmony.scans import write_json

Vector = NDArray[np.float64]
# Columns of participants.tsv, the first that is there, and what log volume is linear in.
FACTORS: dict[str, Callable[[Vector], Vector]] = {"ventricle_scale": np.log, "age": np.asarray}
GROUP = "group"
LEAST_HEADS = 3
Brains = Mapping[str, CanonicalBrain]
Tissues = Mapping[str, TissueSegmentation]


def figure_cohort(contest: Contest, method: str) -> None:
    """Work out a method's figures over the cohort, if an earlier run has not."""
    if contest.folder.figures(method).is_file():
        return
    tested = contest.present(contest.plan.testing)
    raw = {scan.key: contest.brain(scan) for scan in tested}
    tissues = {scan.key: contest.folder.segmentation(scan, raw[scan.key]) for scan in tested}
    scans = [scan for scan in tested if contest.folder.has_brain(method, scan)]
    brains = {scan.key: contest.folder.load_brain(method, scan, raw[scan.key]) for scan in scans}
    figures: dict[str, Any] = {"scans": len(scans)}
    if len(scans) == len(tested):
        figures |= _site_figures(scans, brains, raw, tissues)
    at_home = [scan for scan in scans if _at_home(scan, scans)]
    if at_home:
        figures |= _anatomy_figures(at_home, brains, raw, tissues)
        figures |= _biology_figures(contest, at_home, brains)
    write_json(contest.folder.figures(method), figures)


def _site_figures(
    scans: Sequence[BenchmarkScan], brains: Brains, raw: Brains, tissues: Tissues
) -> dict[str, Any]:
    """Return how well the site can still be found, and how far the sites are apart."""
    sites, subjects = [scan.domain for scan in scans], [scan.subject for scan in scans]
    before, after = list(raw.values()), list(brains.values())
    labels = [tissues[scan.key].labels for scan in scans]
    return {
        "linear": asdict(probe_sites(after, sites, subjects, "linear")),
        "frozen": asdict(cross_fit_probe(before, sites, subjects, "linear").scores(after)),
        # Retrained, but without its control, which would take as long again; the linear probe has one.
        "cnn": asdict(cross_fit_probe(after, sites, subjects, "cnn").scores(after)),
        "distances": asdict(site_distances(after, sites, subjects, labels)),
    }


def _at_home(scan: BenchmarkScan, scans: Sequence[BenchmarkScan]) -> bool:
    """Whether this is the one scan of its subject that a study would have.

    That of the subject's own site where `participants.tsv` names it, else the first.
    """
    own = [other for other in scans if other.subject == scan.subject]
    home = [other for other in own if _plain(other.domain) == _plain(other.participant.get(HOME, ""))]
    return scan is (home or own)[0]


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _anatomy_figures(
    scans: Sequence[BenchmarkScan], brains: Brains, raw: Brains, tissues: Tissues
) -> dict[str, Any]:
    """Return what became of the anatomy between raw and harmonized scans."""
    scores = [compare_anatomy(raw[scan.key], brains[scan.key], tissues[scan.key]) for scan in scans]
    greatest = [max(abs(drift) for drift in score.volume_drift_percent.values()) for score in scores]
    return {
        "anatomy": {
            "greatest_drift_percent": greatest,
            "dice": [float(np.mean(list(score.dice.values()))) for score in scores],
            "edge_correspondence": [score.edge_correspondence for score in scores],
            "displacement_mm": [score.displacement_mm for score in scores],
        }
    }


def _biology_figures(contest: Contest, at_home: Sequence[BenchmarkScan], brains: Brains) -> dict[str, Any]:
    """Return what a study of ventricles on the target's scanner would find in the harmonized scans."""
    factor = next((name for name in FACTORS if any(name in scan.participant for scan in at_home)), None)
    scans = [scan for scan in at_home if factor in scan.participant]
    if factor is None or len(scans) < LEAST_HEADS:
        return {}
    volumetry = _volumetry(contest)
    measured = [volumetry.measure(brains[scan.key]).ventricle_ml for scan in scans]
    cause = FACTORS[factor](np.array([float(scan.participant[factor]) for scan in scans]))
    sites, groups = [scan.domain for scan in scans], _two_groups(scans)
    truths = [volumetry.measure(brain).ventricle_ml for brain in _truths(contest, scans)]
    found: BiologyScores | CohortBiology
    if truths:
        found = biology_scores(measured, truths, cause, sites, groups)
    else:
        found = cohort_biology(measured, cause, sites, groups, seed=contest.seed)
    return {"biology": {"factor": factor, "heads": len(scans), "truth": bool(truths), **asdict(found)}}


def _volumetry(contest: Contest) -> TargetVolumetry:
    """Return the volumetry of the target domain, from all its scans that some method may be fitted on."""
    training = {
        scan.key: scan
        for fold in contest.plan.folds
        for scan in contest.present(fold.training_of(contest.plan.target))
    }
    return TargetVolumetry.fit(contest.brain(scan) for scan in training.values())


def _two_groups(scans: Sequence[BenchmarkScan]) -> list[str] | None:
    groups = [scan.participant.get(GROUP, "") for scan in scans]
    return groups if len(set(groups)) == 2 and "" not in groups else None


def _truths(contest: Contest, scans: Sequence[BenchmarkScan]) -> list[CanonicalBrain]:
    """Return each subject's true scan in the target domain; none if one has not been there."""
    there = {
        scan.subject: scan
        for scan in contest.present(contest.plan.testing)
        if scan.domain == contest.plan.target
    }
    found = [contest.brain(there[scan.subject]) for scan in scans if scan.subject in there]
    return found if len(found) == len(scans) else []

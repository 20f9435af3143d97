"""Figures of a cohort that a method has brought to one domain: sites, anatomy, biology, leaks.

`figure_method` works them out and keeps them as JSON; `cohort_columns` turns them into cells of the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrharmony.benchmark.contenders import CEILING
from mrharmony.benchmark.directions import NOTHING
from mrharmony.benchmark.harmonizing import Contest
from mrharmony.benchmark.plan import BenchmarkScan
from mrharmony.core.findings import MrharmonyError
from mrharmony.evaluate.anatomy import compare_anatomy
from mrharmony.evaluate.biology import biology_scores, cohort_biology
from mrharmony.evaluate.paired import leaked_noise
from mrharmony.evaluate.site_classifiers import probe_inputs
from mrharmony.evaluate.site_distances import site_distances
from mrharmony.evaluate.site_probe import PROBES, CrossFittedProbe, cross_fit_probe, probe_sites
from mrharmony.evaluate.tissues import TargetVolumetry, TissueSegmentation
from mrharmony.jobs.columns import column_numbers
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.scans.participants import PARTICIPANTS

Vector = NDArray[np.float64]
# Columns of participants.tsv, in order of preference, and what log volume is linear in.
FACTORS: dict[str, Callable[[Vector], Vector]] = {"ventricle_scale": np.log, "age": np.asarray}
GROUP = "group"
LEAST_HEADS = 3
CNN_FOLDS = 3  # with five, the training of the network would take most of a benchmark's time
Brains = Mapping[str, CanonicalBrain]
Block = Callable[[Brains], dict[str, Any]]


def segment_scan(contest: Contest, scan: BenchmarkScan) -> None:
    """Segment a scan before harmonization, which the figures of all methods need."""
    contest.folder.segmentation(scan, contest.brain(scan))


def figure_method(contest: Contest, method: str) -> None:
    """Write the cohort figures of a method; each process reads the scans once for all its methods."""
    contest.folder.write_figures(method, _cohort(contest).figures(method))


@lru_cache(maxsize=1)
def _cohort(contest: Contest) -> Cohort:
    return Cohort(contest)


class Cohort:
    """The evaluated scans before harmonization, and what the figures of all methods take from them."""

    def __init__(self, contest: Contest) -> None:
        self._contest = contest
        self._scans = contest.present(contest.plan.evaluated)
        self._homes = contest.present(contest.plan.homes)
        # Many methods leave the target's own scans as they are: these would flatter them.
        self._brought = [scan for scan in self._homes if scan.domain != contest.plan.target]
        self._raw = {scan.key: contest.brain(scan) for scan in self._scans}
        self._sites_subjects = [s.domain for s in self._scans], [s.subject for s in self._scans]

    def figures(self, method: str) -> dict[str, Any]:
        """Return a method's figures; for a block that cannot be worked out, the reason."""
        folder = self._contest.folder
        served = [scan for scan in self._scans if folder.has_brain(method, scan)]
        brains = {scan.key: folder.load_brain(method, scan, self._raw[scan.key]) for scan in served}
        missing = len(self._scans) - len(served)
        if missing:
            return {"refused": f"{missing} of {len(self._scans)} scans cannot be brought to the target"}
        sites = partial(self._sites, control=method == NOTHING)
        blocks: dict[str, Block] = {"sites": sites, "anatomy": self._anatomy, "biology": self._biology}
        if method != CEILING and self._contest.plan.travelling:
            blocks["leak"] = self._leak
        return {name: _or_reason(block, brains) for name, block in blocks.items()}

    def _sites(self, brains: Brains, *, control: bool) -> dict[str, Any]:
        """Return how well the site can still be found, and how far the sites are apart.

        With `control` the CNN is also trained on shuffled labels, which takes twice as long.
        """
        after = list(brains.values())
        labels = [self._tissues[scan.key].labels for scan in self._scans]
        features = probe_inputs("linear", after)
        figures = {
            "linear": asdict(probe_sites(after, *self._sites_subjects, "linear", inputs=features)),
            "frozen": asdict(self._frozen_probe.input_scores(features)),
        }
        if control:
            probed = probe_sites(after, *self._sites_subjects, "cnn", PROBES["cnn"], CNN_FOLDS)
            figures |= {"cnn": asdict(probed.scores), "cnn_control": asdict(probed.control)}
        else:
            slices = probe_inputs("cnn", after)
            fitted = cross_fit_probe(slices, *self._sites_subjects, "cnn", PROBES["cnn"], CNN_FOLDS)
            figures["cnn"] = asdict(fitted.input_scores(slices))
        distances = site_distances(after, *self._sites_subjects, labels, features)
        return {**figures, "distances": asdict(distances)}

    def _anatomy(self, brains: Brains) -> dict[str, Any]:
        """Return how the anatomy of each subject's home scan away from the target has changed."""
        if not self._brought:
            raise MrharmonyError(f"no tested scan but those of {self._contest.plan.target} itself")
        scores = [
            compare_anatomy(self._raw[scan.key], brains[scan.key], self._tissues[scan.key])
            for scan in self._brought
        ]
        greatest = [max(abs(drift) for drift in score.volume_drift_percent.values()) for score in scores]
        return {
            "greatest_drift_percent": greatest,
            "dice": [float(np.mean(list(score.dice.values()))) for score in scores],
            "edge_correspondence": [score.edge_correspondence for score in scores],
            "displacement_mm": [score.displacement_mm for score in scores],
        }

    def _biology(self, brains: Brains) -> dict[str, Any]:
        """Return what a study of ventricles on the target's scanner would find in the home scans.

        Without a truth, in those away from the target: methods that leave its own scans alone keep what these
        show by doing nothing.
        """
        table, target = self._contest.plan.root / PARTICIPANTS, self._contest.plan.target
        homes = self._homes if self._contest.plan.travelling else self._brought
        factor = next((name for name in FACTORS if any(name in s.participant for s in homes)), None)
        scans = [scan for scan in homes if factor in scan.participant]
        if factor is None or len(scans) < LEAST_HEADS:
            raise MrharmonyError(f"{table}: no {' or '.join(FACTORS)} of {LEAST_HEADS} subjects")
        numbers = column_numbers(table, {scan.path: scan.participant[factor] for scan in scans}, factor)
        cause = FACTORS[factor](np.array(list(numbers.values())))
        measured = [self._volumetry.measure(brains[scan.key]).ventricle_ml for scan in scans]
        sites, groups = [scan.domain for scan in scans], _two_groups(scans)
        found: Any
        if self._contest.plan.travelling:
            true = [self._volumetry.measure(self._truth(scan)).ventricle_ml for scan in scans]
            found = biology_scores(measured, true, cause, sites, groups, target=target)
        else:
            found = cohort_biology(measured, cause, sites, groups, seed=self._contest.seed)
        return {"factor": factor, "heads": len(scans), **asdict(found)}

    def _leak(self, brains: Brains) -> dict[str, Any]:
        """Return how much noise of the true scans there is in each home scan away from the target."""
        noise = []
        for scan in self._brought:
            bound = self._contest.folder.load_brain(CEILING, scan, self._raw[scan.key]).volume.voxels
            truth, made = self._truth(scan).volume.voxels, brains[scan.key].volume.voxels
            noise.append(leaked_noise(made, bound, truth, self._raw[scan.key].mask))
        return {"leaked_noise": noise}

    def _truth(self, scan: BenchmarkScan) -> CanonicalBrain:
        """Return the true scan of a scan's subject in the target domain."""
        plan = self._contest.plan
        there = (s for s in plan.testing if (s.subject, s.domain) == (scan.subject, plan.target))
        return self._contest.brain(next(there))

    @cached_property
    def _tissues(self) -> dict[str, TissueSegmentation]:
        folder = self._contest.folder
        return {scan.key: folder.segmentation(scan, self._raw[scan.key]) for scan in self._scans}

    @cached_property
    def _frozen_probe(self) -> CrossFittedProbe:
        features = probe_inputs("linear", list(self._raw.values()))
        return cross_fit_probe(features, *self._sites_subjects, "linear")

    @cached_property
    def _volumetry(self) -> TargetVolumetry:
        """Volumetry of the target domain, from all its scans that methods may be fitted on."""
        plan = self._contest.plan
        training = dict.fromkeys(
            scan.key for fold in plan.folds for scan in self._contest.present(fold.training_of(plan.target))
        )
        return TargetVolumetry.fit(self._contest.brain(plan.scans[key]) for key in training)


def _or_reason(block: Block, brains: Brains) -> dict[str, Any]:
    """Return a block of figures, null where one is not finite, or why there are none."""
    try:
        return {name: _finite(value) for name, value in block(brains).items()}
    except MrharmonyError as error:
        return {"refused": str(error)}


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _two_groups(scans: Sequence[BenchmarkScan]) -> list[str] | None:
    groups = [scan.participant.get(GROUP, "") for scan in scans]
    return groups if len(set(groups)) == 2 and "" not in groups else None


def cohort_columns(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the table's cells from a method's cohort figures, without those that could not be worked out."""
    row: dict[str, Any] = {}
    for name, columns in (("sites", _sites), ("anatomy", _anatomy), ("biology", _biology), ("leak", _leak)):
        if name in figures and "refused" not in figures[name]:
            row |= columns(figures[name])
    return {key: None if value is None else float(value) for key, value in row.items()}


def _sites(sites: Mapping[str, Any]) -> dict[str, Any]:
    distances, linear, control = sites["distances"], sites["linear"], sites.get("cnn_control")
    return {
        "chance": linear["scores"]["chance"],
        "probe_linear": np.mean(linear["scores"]["balanced_accuracy"]),
        "probe_linear_control": np.mean(linear["control"]["balanced_accuracy"]),
        "probe_linear_frozen": np.mean(sites["frozen"]["balanced_accuracy"]),
        "probe_cnn": np.mean(sites["cnn"]["balanced_accuracy"]),
        "probe_cnn_trained": sites["cnn"]["trained"],
        "probe_cnn_control": np.mean(control["balanced_accuracy"]) if control else None,
        "wasserstein": np.mean(list(distances["wasserstein"].values())),
        "mmd": distances["mmd2"],
        "fid": distances["fid"],
        "kid": distances["kid"],
    }


def _anatomy(anatomy: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "drift": np.median(anatomy["greatest_drift_percent"]),
        "drift_95": np.percentile(anatomy["greatest_drift_percent"], 95),
        "dice": np.mean(anatomy["dice"]),
        "edges": np.mean(anatomy["edge_correspondence"]),
    }


def _biology(biology: Mapping[str, Any]) -> dict[str, Any]:
    if "slope_kept" in biology:
        columns = {
            "slope": "slope_kept",
            "rank": "rank",
            "group": "difference_kept",
            "ventricle_error": "log_error",
            "site_shift": "site_shift",
        }
        return {column: biology[name] for column, name in columns.items()}
    group = biology["group_difference"]  # of a cohort without truth
    return {"partial": biology["partial_correlation"]["value"], "cohen": group["value"] if group else None}


def _leak(leak: Mapping[str, Any]) -> dict[str, Any]:
    return {"leak": max(leak["leaked_noise"], default=None)}

"""What a study of ventricles finds in a data set: its columns are checked before its scans are prepared.

The evaluators on files: read, prepare alike, compare; each returns a record for a table or JSON.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.evaluate.anatomy import compare_anatomy
from mrharmony.evaluate.biology import cohort_biology, require_cohort
from mrharmony.evaluate.consistency import identity_scores, repeat_floor, summarize_identity
from mrharmony.evaluate.paired import leaked_noise, paired_scores, room_share
from mrharmony.evaluate.site_distances import site_distances
from mrharmony.evaluate.site_probe import frozen_probe, probe_sites
from mrharmony.evaluate.tissues import TargetVolumetry, segment_tissues
from mrharmony.jobs.brains import ScanFile, require_some
from mrharmony.jobs.evaluation_inputs import (
    ZOOM,
    judged_scans,
    prepared_alone,
    prepared_on_one_grid,
    scans_of,
)
from mrharmony.jobs.harmonizing import HarmonizeJob
from mrharmony.methods.rendering import truth_fitted
from mrharmony.prepare.canonical import CanonicalBrain
from mrharmony.scans.bids import BidsIndex, BidsScan
from mrharmony.space.grid import Grid

_NAMED_AT_MOST = 5


class _Row(NamedTuple):
    """What the study knows of a scan beside its ventricles."""

    factor: float
    site: str
    group: str | None


def evaluate_biology(
    index: BidsIndex,
    target: str,
    factor: str,
    group: str | None,
    only: Sequence[str],
    workers: int | None = None,
    prepared: Path | None = None,
) -> dict[str, Any]:
    """Say what a study of ventricles, with a volumetry made on `target`, finds in a cohort.

    Scans whose factor or group is not known are left out, and those that are refused.

    Parameters
    ----------
    index
        The data set.
    target
        Domain whose scans the volumetry is made on.
    factor, group
        Columns of participants.tsv: one with numbers, and one with two groups if any.
    only
        Use only these domains; all if empty.
    workers
        Processes that prepare scans; as many as there are usable cores if not given.
    prepared
        As in `judged_scans`.

    Raises
    ------
    MrharmonyError
        Before anything is prepared, if the columns do not hold what is needed for three scans or the target
        has no scan; afterwards, if the scans that are left are too few.
    """
    chosen = scans_of(index, only)
    if target not in {scan.domain for scan in chosen}:
        raise MrharmonyError(f"{index.root}: no scans of {target}, which the volumetry is made on.")
    rows = _rows(chosen, factor, group)
    require_cohort(*_columns(list(rows.values()), group))
    needed = [scan for scan in chosen if scan.path in rows or scan.domain == target]
    judged = judged_scans(index, needed, workers=workers, prepared=prepared)
    pairs = list(zip(judged.scans, judged.brains, strict=True))
    volumetry = TargetVolumetry.fit(brain for scan, brain in pairs if scan.domain == target)
    studied = [(rows[scan.path], brain) for scan, brain in pairs if scan.path in rows]
    measured = [volumetry.measure(brain).ventricle_ml for _, brain in studied]
    found = cohort_biology(measured, *_columns([row for row, _ in studied], group))
    return {"factor": factor, "heads": len(studied), **asdict(found), "refused": judged.refused}


def _rows(scans: Sequence[BidsScan], factor: str, group: str | None) -> dict[Path, _Row]:
    """Return the rows of the scans for which all that is needed is known."""
    numbers = {path: column_number(text, factor) for path, text in column_entries(scans, factor).items()}
    groups = column_groups(scans, group) if group else {}
    return {
        scan.path: _Row(numbers[scan.path], str(scan.domain), groups.get(scan.path))
        for scan in scans
        if scan.path in numbers and (group is None or scan.path in groups)
    }


def _columns(rows: Sequence[_Row], group: str | None) -> tuple[list[float], list[str], list[str] | None]:
    """Return factor, site and group of each row."""
    groups = [str(row.group) for row in rows] if group else None
    return [row.factor for row in rows], [row.site for row in rows], groups


def column_number(text: str, column: str) -> float:
    """Return an entry as a number, or raise `MrharmonyError`."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise MrharmonyError(
            f"participants.tsv: {column} must hold numbers, not {text!r}. Mend it, or write n/a for unknown."
        )
    return number


def column_groups(scans: Sequence[BidsScan], column: str) -> dict[Path, str]:
    """Return the group of each scan that has one; raises `MrharmonyError` unless there are two."""
    groups = column_entries(scans, column)
    names = sorted(set(groups.values()))
    if len(names) != 2:
        listed = ", ".join(names[:_NAMED_AT_MOST]) + (", …" if len(names) > _NAMED_AT_MOST else "")
        raise MrharmonyError(
            f"participants.tsv: {column} must hold two groups, not {len(names)} ({listed}). "
            "Choose another column, or write n/a for the others."
        )
    return groups


def column_entries(scans: Sequence[BidsScan], column: str) -> dict[Path, str]:
    """Return what a column says of the scans that it says something of."""
    entries = {scan.path: scan.participant[column] for scan in scans if column in scan.participant}
    if not entries:
        known = sorted({name for scan in scans for name in scan.participant})
        raise MrharmonyError(
            f"participants.tsv: no column {column}, or nothing in it for these scans. "
            f"Choose from: {', '.join(known) or 'none'}."
        )
    return entries


Record = dict[str, Any]


def evaluate_paired(
    output: Path, truth: Path, source: Path | None, mask: Path | None, prepared: Path | None = None
) -> Record:
    """Score a harmonized scan against the true scan of the same head by the target scanner.

    A scan that mrharmony harmonized is taken as it is, by its sidecar; any other is prepared like the truth,
    which takes its bias field and brightness away. With the unharmonized `source` also what it scores itself,
    the lock fitted to the truth, and whether the output holds noise that only the truth can have.
    """
    files = [truth, output, *([source] if source else [])]
    true, made, *before = prepared_on_one_grid(files, mask, prepared)
    inside = true.brain_mask
    scores = paired_scores(made.intensities(), true.intensities(), inside)
    record: Record = {"output": asdict(scores)}
    if before:
        unharmonized = before[0]
        bound = truth_fitted(unharmonized, true.intensities())
        ceiling = paired_scores(bound, true.intensities(), inside)
        nothing = paired_scores(unharmonized.intensities(), true.intensities(), inside)
        record |= {
            "nothing": asdict(nothing),
            "truth-fitted lock": asdict(ceiling),
            "gain_db": scores.psnr - nothing.psnr,
            "share_of_room_from_nothing": room_share(scores.psnr, nothing.psnr, ceiling.psnr),
            "leaked_noise": leaked_noise(made.intensities(), bound, true.intensities(), inside),
        }
    return record


def evaluate_anatomy(before: Path, after: Path, mask: Path | None, prepared: Path | None = None) -> Record:
    """Compare the anatomy of a scan before and after harmonization."""
    first, second = _canonical_pair(before, after, mask, prepared)
    return asdict(compare_anatomy(first, second))


def evaluate_repeat(first: Path, second: Path, mask: Path | None, prepared: Path | None = None) -> Record:
    """Return the noise floor: two scans of one head on one scanner."""
    return asdict(repeat_floor([_canonical_pair(first, second, mask, prepared)]))


def evaluate_identity(job: HarmonizeJob, scans: Sequence[Path]) -> Record:
    """Harmonize scans to their own domain, and say how much they have changed; refused ones are left out."""
    scores, refused = [], {}
    for path in track(scans, "identity"):
        try:
            prepared = prepared_alone(ScanFile(path, prepared=job.prepared))
        except MrharmonyError as error:
            refused[path] = str(error)
            continue
        voxels = job.harmonizer.harmonize(prepared, job.source, job.target).intensities()
        brain = CanonicalBrain(prepared.native.with_voxels(prepared.intensities()), prepared.brain_mask, 1.0)
        scores.append(identity_scores(brain, brain._replace(volume=prepared.native.with_voxels(voxels))))
    require_some(scores, refused)
    reasons = {path.name: reason for path, reason in refused.items()}
    return {**asdict(summarize_identity(scores)), "refused": reasons}


def evaluate_sites(
    index: BidsIndex,
    only: Sequence[str],
    raw: Path | None = None,
    workers: int | None = None,
    prepared: Path | None = None,
) -> Record:
    """Say whether the site of scans can still be told: retrained probes with their controls, distances.

    With the data set `raw` that was harmonized also the frozen probe, and distances in the tissues of its
    scans. Scans that are refused are left out.
    """
    judged = judged_scans(index, scans_of(index, only), raw, workers, prepared)
    brains = judged.brains
    sites, subjects = [str(scan.domain) for scan in judged.scans], [scan.subject for scan in judged.scans]
    probes = {name: probe_sites(brains, sites, subjects, name) for name in ("linear", "cnn")}
    before = judged.raw
    frozen = {"linear probe, frozen": frozen_probe(before, brains, sites, subjects).mean} if before else {}
    tissues = [segment_tissues(brain).labels for brain in before] if before else None
    return {
        "scans": {site: sites.count(site) for site in sorted(set(sites))},
        "chance": probes["linear"].scores.chance,
        **{f"{name} probe, retrained": probe.scores.mean for name, probe in probes.items()},
        **{f"{name} probe, shuffled labels": probe.control.mean for name, probe in probes.items()},
        **frozen,
        "distances": asdict(site_distances(brains, sites, subjects, tissues)),
        "refused": judged.refused,
    }


def _canonical_pair(
    first: Path, second: Path, mask: Path | None, prepared: Path | None
) -> tuple[CanonicalBrain, CanonicalBrain]:
    grid = Grid.working(ZOOM)
    one, other = (
        CanonicalBrain(*scan.canonical(grid), scan.scale)
        for scan in prepared_on_one_grid([first, second], mask, prepared)
    )
    return one, other

"""The evaluators on files: read, prepare alike, compare; each returns a record for a table or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mrharmony.cohort.harmonizing import HarmonizeJob
from mrharmony.cohort.judged import (
    ZOOM,
    judged_scans,
    prepared_alone,
    prepared_on_one_grid,
    scans_of,
)
from mrharmony.cohort.preparing import ScanFile, require_some
from mrharmony.evaluate import (
    compare_anatomy,
    frozen_probe,
    identity_scores,
    leaked_noise,
    paired_scores,
    probe_sites,
    repeat_floor,
    room_share,
    segment_tissues,
    site_distances,
    summarize_identity,
)
from mrharmony.harmonize import CanonicalBrain, truth_fitted
from mrharmony.prepare import Grid
from mrharmony.progress import track
from mrharmony.scans import BidsIndex
from mrharmony.volume import MrharmonyError

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

"""The evaluators on files: read, prepare alike, compare; each returns a record for a table or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mrharmony.cohort.harmonizing import HarmonizeJob
from mrharmony.cohort.judged import (
    ZOOM,
    judged_file,
    judged_scans,
    prepared_alone,
    prepared_on_one_grid,
    require_some,
    scans_of,
)
from mrharmony.cohort.preparing import ScanFile
from mrharmony.evaluate import (
    SliceRow,
    compare_anatomy,
    coronal_slices,
    frozen_probe,
    identity_scores,
    leaked_noise,
    paired_scores,
    paper_table,
    probe_sites,
    repeat_floor,
    room_share,
    segment_tissues,
    site_distances,
    summarize_identity,
)
from mrharmony.harmonize import CanonicalBrain, truth_fitted
from mrharmony.latent import ModelCard
from mrharmony.prepare import Grid, PreparedScan
from mrharmony.progress import track
from mrharmony.scans import BidsIndex
from mrharmony.volume import FloatArray, MrharmonyError

Record = dict[str, Any]


def evaluate_paired(output: Path, truth: Path, source: Path | None, mask: Path | None) -> Record:
    """Score a harmonized scan against the true scan of the same head by the target scanner.

    A scan that mrharmony harmonized is taken as it is, by its sidecar; any other is prepared like the truth,
    which takes its bias field and brightness away. With the unharmonized `source` also what it scores itself,
    the lock fitted to the truth, and whether the output holds noise that only the truth can have.
    """
    files = [truth, output, *([source] if source else [])]
    true, made, *before = prepared_on_one_grid(files, mask)
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


def evaluate_anatomy(before: Path, after: Path, mask: Path | None) -> Record:
    """Compare the anatomy of a scan before and after harmonization."""
    first, second = _canonical_pair(before, after, mask)
    return asdict(compare_anatomy(first, second))


def evaluate_repeat(first: Path, second: Path, mask: Path | None) -> Record:
    """Return the noise floor: two scans of one head on one scanner."""
    return asdict(repeat_floor([_canonical_pair(first, second, mask)]))


def evaluate_identity(job: HarmonizeJob, scans: Sequence[Path]) -> Record:
    """Harmonize scans to their own domain, and say how much they have changed; refused ones are left out."""
    scores, refused = [], {}
    for path in track(scans, "identity"):
        try:
            prepared = prepared_alone(ScanFile(path))
        except MrharmonyError as error:
            refused[path.name] = str(error)
            continue
        voxels = job.harmonizer.harmonize(prepared, job.source, job.target).intensities()
        brain = CanonicalBrain(prepared.native.with_voxels(prepared.intensities()), prepared.brain_mask, 1.0)
        scores.append(identity_scores(brain, brain._replace(volume=prepared.native.with_voxels(voxels))))
    require_some(scores, refused)
    return {**asdict(summarize_identity(scores)), "refused": refused}


def evaluate_sites(
    index: BidsIndex, only: Sequence[str], raw: Path | None = None, workers: int | None = None
) -> Record:
    """Say whether the site of scans can still be told: retrained probes with their controls, distances.

    With the data set `raw` that was harmonized also the frozen probe, and distances in the tissues of its
    scans. Scans that are refused are left out.
    """
    judged = judged_scans(index, scans_of(index, only), raw, workers)
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


def evaluate_paper(index: BidsIndex, job: HarmonizeJob, card: ModelCard, slices: int, seed: int) -> Record:
    """Return the paper's Table 2 for a method: source to target and target to target, against the inputs.

    Parameters
    ----------
    index
        The data set.
    job
        The method and both domains.
    card
        Of its model, which knows the data set's domains.
    slices, seed
        How many coronal slices, and of their choice.

    Returns
    -------
    The table as Markdown, and the scans that were refused with their reasons.
    """
    rows, refused = [], {}
    for origin in (job.source, job.target):
        assert origin is not None
        name = f"{origin.name} to {job.target.name}"
        chosen = [scan for scan in index.scans if scan.domain and card.find(scan.domain) == origin]
        if not chosen:
            raise MrharmonyError(f"{index.root}: no scans of {origin.name}. Name a domain of this data set.")
        each = -(-slices // len(chosen))
        own, pairs = replace(job, source=origin), []
        for scan in track(chosen, name):
            try:
                prepared = prepared_alone(judged_file(index.root, scan))
            except MrharmonyError as error:
                refused[scan.path.name] = str(error)
                continue
            pairs.append(_slices_of(own, prepared, each, seed))
        require_some(pairs, refused)
        made, given = (np.concatenate(images)[:slices] for images in zip(*pairs, strict=True))
        rows.append(SliceRow(name, made, given))
    return {"table": paper_table(rows), "refused": refused}


def _slices_of(
    job: HarmonizeJob, prepared: PreparedScan, count: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Return coronal slices of a scan after and before harmonization, on the 1 mm grid of the paper."""
    voxels = job.harmonizer.harmonize(prepared, job.source, job.target).intensities()
    made = replace(
        prepared,
        native=prepared.native.with_voxels(voxels),
        bias_field=np.ones_like(prepared.bias_field),
        scale=1.0,
    )
    after, before = (
        coronal_slices(CanonicalBrain(*one.canonical(Grid.canonical()), 1.0), count, seed)
        for one in (made, prepared)
    )
    return after, before


def _canonical_pair(first: Path, second: Path, mask: Path | None) -> tuple[CanonicalBrain, CanonicalBrain]:
    grid = Grid.working(ZOOM)
    one, other = (
        CanonicalBrain(*scan.canonical(grid), scan.scale)
        for scan in prepared_on_one_grid([first, second], mask)
    )
    return one, other

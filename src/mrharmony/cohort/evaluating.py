"""The evaluators on files: read, prepare alike, compare; each returns a record for a table or JSON."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mrharmony.cohort.harmonizing import HarmonizeJob
from mrharmony.cohort.preparing import ScanFile, prepare_brains, prepare_together
from mrharmony.evaluate import (
    SliceRow,
    TargetVolumetry,
    cohort_biology,
    compare_anatomy,
    coronal_slices,
    identity_scores,
    leaked_noise,
    paired_scores,
    paper_table,
    probe_sites,
    repeat_floor,
    room_share,
    site_distances,
    summarize_identity,
)
from mrharmony.harmonize import CanonicalBrain, truth_fitted
from mrharmony.latent import ModelCard
from mrharmony.prepare import Grid, PreparedScan
from mrharmony.progress import track
from mrharmony.scans import BidsIndex, BidsScan
from mrharmony.volume import FloatArray, MrharmonyError

ZOOM = 2.0  # mm, of the template grid that brains are compared on
Record = dict[str, Any]


def evaluate_paired(output: Path, truth: Path, source: Path | None, mask: Path | None) -> Record:
    """Score a harmonized scan against the true scan of the same head by the target scanner.

    With the unharmonized `source` also what it scores itself, the lock fitted to the truth, and whether the
    output holds noise that only the truth can have.
    """
    files = [truth, output, *([source] if source else [])]
    true, made, *before = _prepared_on_one_grid(files, mask)
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
    """Harmonize scans to their own domain, and say how much they have changed."""
    scores = []
    for path in track(scans, "identity"):
        (prepared,) = _prepared([path], None)
        voxels = _harmonized(job, prepared)
        brain = CanonicalBrain(prepared.native.with_voxels(prepared.intensities()), prepared.brain_mask, 1.0)
        scores.append(identity_scores(brain, brain._replace(volume=prepared.native.with_voxels(voxels))))
    return asdict(summarize_identity(scores))


def evaluate_sites(index: BidsIndex, only: Sequence[str]) -> Record:
    """Say whether the site of scans can still be told: retrained probes with their controls, distances."""
    scans, brains = _brains_of(index, only)
    sites, subjects = [str(scan.domain) for scan in scans], [scan.subject for scan in scans]
    probes = {name: probe_sites(brains, sites, subjects, name) for name in ("linear", "cnn")}
    return {
        "scans": {site: sites.count(site) for site in sorted(set(sites))},
        "chance": probes["linear"].scores.chance,
        **{f"{name} probe, retrained": probe.scores.mean for name, probe in probes.items()},
        **{f"{name} probe, shuffled labels": probe.control.mean for name, probe in probes.items()},
        "distances": asdict(site_distances(brains, sites, subjects)),
    }


def evaluate_biology(
    index: BidsIndex, target: str, factor: str, group: str | None, only: Sequence[str]
) -> Record:
    """Say what a study of ventricles, with a volumetry made on `target`, finds in a cohort.

    Raises
    ------
    MrharmonyError
        If the factor is not a number for three scans, or the target has no scan.
    """
    scans, brains = _brains_of(index, only)
    volumetry = TargetVolumetry.fit(b for s, b in zip(scans, brains, strict=True) if s.domain == target)
    known = [(s, b) for s, b in zip(scans, brains, strict=True) if factor in s.participant]
    try:
        cause = [float(scan.participant[factor]) for scan, _ in known]
    except ValueError as error:
        raise MrharmonyError(
            f"participants.tsv: {factor} is not a number everywhere ({error}). Mend it."
        ) from error
    measured = [volumetry.measure(brain).ventricle_ml for _, brain in known]
    groups = [scan.participant.get(group, "n/a") for scan, _ in known] if group else None
    found = cohort_biology(measured, cause, [str(scan.domain) for scan, _ in known], groups)
    return {"factor": factor, "heads": len(known), **asdict(found)}


def evaluate_paper(index: BidsIndex, job: HarmonizeJob, card: ModelCard, slices: int, seed: int) -> str:
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
    """
    rows = []
    for origin in (job.source, job.target):
        assert origin is not None
        name = f"{origin.name} to {job.target.name}"
        chosen = [scan for scan in index.scans if scan.domain and card.find(scan.domain) == origin]
        if not chosen:
            raise MrharmonyError(f"{index.root}: no scans of {origin.name}. Name a domain of this data set.")
        each = -(-slices // len(chosen))
        own = replace(job, source=origin)
        pairs = [_slices_of(own, scan, each, seed) for scan in track(chosen, name)]
        made, given = (np.concatenate(images)[:slices] for images in zip(*pairs, strict=True))
        rows.append(SliceRow(name, made, given))
    return paper_table(rows)


def _slices_of(job: HarmonizeJob, scan: BidsScan, count: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return coronal slices of a scan after and before harmonization, on the 1 mm grid of the paper."""
    (prepared,) = _prepared([scan.path], None)
    made = replace(
        prepared,
        native=prepared.native.with_voxels(_harmonized(job, prepared)),
        bias_field=np.ones_like(prepared.bias_field),
        scale=1.0,
    )
    after, before = (
        coronal_slices(CanonicalBrain(*one.canonical(Grid.canonical()), 1.0), count, seed)
        for one in (made, prepared)
    )
    return after, before


def _harmonized(job: HarmonizeJob, prepared: PreparedScan) -> FloatArray:
    """Return a scan's harmonized canonical intensities on its native grid."""
    harmonized = job.harmonizer.harmonize(prepared, job.source, job.target)
    return np.asarray(harmonized.volume.voxels / np.float32(harmonized.scale))


def _prepared(paths: Sequence[Path], mask: Path | None) -> list[PreparedScan]:
    """Prepare scans of one head; raises the first refusal."""
    done = []
    for path, prepared in zip(paths, prepare_together([ScanFile(p, mask) for p in paths]), strict=True):
        if isinstance(prepared, MrharmonyError):
            raise MrharmonyError(str(prepared) if path.name in str(prepared) else f"{path}: {prepared}")
        done.append(prepared)
    return done


def _prepared_on_one_grid(paths: Sequence[Path], mask: Path | None) -> list[PreparedScan]:
    """Prepare scans of one head on one grid, all with the brain mask of the first."""
    first, *others = _prepared(paths, mask)
    for path, other in zip(paths[1:], others, strict=True):
        if other.native.shape != first.native.shape or not np.allclose(
            other.native.affine, first.native.affine, atol=1e-3
        ):
            raise MrharmonyError(
                f"{path}: lies on another grid than {paths[0]}. Register and resample one of them first."
            )
    return [first, *(replace(other, brain_mask=first.brain_mask) for other in others)]


def _canonical_pair(first: Path, second: Path, mask: Path | None) -> tuple[CanonicalBrain, CanonicalBrain]:
    grid = Grid.working(ZOOM)
    one, other = (
        CanonicalBrain(*scan.canonical(grid), scan.scale)
        for scan in _prepared_on_one_grid([first, second], mask)
    )
    return one, other


def _brains_of(index: BidsIndex, only: Sequence[str]) -> tuple[list[BidsScan], list[CanonicalBrain]]:
    """Prepare the scans of a data set whose domain is known; raises the first refusal."""
    scans = [scan for scan in index.scans if scan.domain and (not only or scan.domain in only)]
    if not scans:
        raise MrharmonyError(f"{index.root}: no scans of {', '.join(only) or 'a known domain'}.")
    with tempfile.TemporaryDirectory() as cache:
        brains, refused = prepare_brains([scan.path for scan in scans], Grid.working(ZOOM), Path(cache))
    if refused:
        path, reason = next(iter(refused.items()))
        raise MrharmonyError(f"{path.name}: {reason} Leave it out of the data set to go on.")
    return scans, [brains[scan.path] for scan in scans]

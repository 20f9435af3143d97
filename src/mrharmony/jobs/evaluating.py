"""`mrharmony evaluate`: scans are prepared alike, then compared; each evaluator returns a record."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mrharmony.core.domain import find_name
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.pointers import real_path
from mrharmony.core.progress import track
from mrharmony.core.wording import count_of, some_of
from mrharmony.evaluate.anatomy import compare_anatomy, repeat_floor
from mrharmony.evaluate.biology import cohort_biology, few_people, require_cohort
from mrharmony.evaluate.paired import (
    identity_scores,
    leaked_noise,
    paired_scores,
    room_share,
    summarize_identity,
)
from mrharmony.evaluate.site_distances import site_distances
from mrharmony.evaluate.site_probe import PROBES, frozen_probe, probe_sites, require_sites
from mrharmony.evaluate.tissues import TargetVolumetry, segment_tissues
from mrharmony.jobs.brains import (
    reasons_by_name,
    require_some,
)
from mrharmony.jobs.columns import column_entries, column_groups, column_numbers
from mrharmony.jobs.data_sets import DataSet, readable_sha256, scans_of_domains, tell_copies
from mrharmony.jobs.evaluation_scans import (
    ZOOM,
    evaluation_scans,
    prepared_alone,
    prepared_on_one_grid,
    scan_file,
)
from mrharmony.jobs.harmonizing import HarmonizeJob, earlier_result, harmonize_prepared
from mrharmony.methods.rendering import truth_fitted
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.scans.bids import BidsScan
from mrharmony.scans.participants import PARTICIPANTS
from mrharmony.scans.reading import read_scan
from mrharmony.scans.sidecar import source_file
from mrharmony.space.grid import Grid

Record = dict[str, Any]


def evaluate_paired(
    output: Path, truth: Path, source: Path | None, mask: Path | None, prepared: Path | None = None
) -> Record:
    """Score a harmonized scan against the true scan of the same head by the target scanner.

    A scan that mrharmony harmonized is taken as it is, by its sidecar; any other is prepared like the truth,
    which takes its bias field and brightness away. With the unharmonized `source` also what it scores itself,
    the lock fitted to the truth, and whether the output holds noise that only the truth can have.
    """
    _require_two_files(truth, output)
    if earlier_result(truth) and not earlier_result(output):
        raise MrharmonyError(
            f"{truth}: is a result of mrharmony, and no true scan by the target's scanner. Name the result "
            "first."
        )
    if source:
        _require_two_files(truth, source)
    files = [truth, output, *([source] if source else [])]
    true, made, *before = prepared_on_one_grid(files, mask, prepared)
    aim, inside = true.intensities(), true.brain_mask
    if np.array_equal(made.intensities()[inside], aim[inside]):
        print(f"{output}: is equal to {truth} in the brain, so its PSNR is infinite.", file=sys.stderr)
    scores = paired_scores(made.intensities(), aim, inside)
    if not before:
        return {"output": asdict(scores)}
    bound = truth_fitted(before[0], aim)
    ceiling = paired_scores(bound, aim, inside)
    nothing = paired_scores(before[0].intensities(), aim, inside)
    return {
        "output": asdict(scores),
        "nothing": asdict(nothing),
        "truth-fitted lock": asdict(ceiling),
        "gain_db": scores.psnr - nothing.psnr,
        "share_of_room_from_nothing": room_share(scores.psnr, nothing.psnr, ceiling.psnr),
        "leaked_noise": leaked_noise(made.intensities(), bound, aim, inside),
    }


def evaluate_anatomy(before: Path, after: Path, mask: Path | None, prepared: Path | None = None) -> Record:
    """Compare the anatomy of a scan before and after harmonization.

    Raises `MrharmonyError` where both are one file, or the first was made of the second.
    """
    _require_two_files(before, after)
    note = earlier_result(before)
    if note and (made_of := source_file(before, note)) and real_path(made_of) == real_path(after):
        raise MrharmonyError(f"{before}: was made of {after}. Name the scan before harmonization first.")
    first, second = _canonical_pair(before, after, mask, prepared)
    return asdict(compare_anatomy(first, second))


def evaluate_repeat(first: Path, second: Path, mask: Path | None, prepared: Path | None = None) -> Record:
    """Return the noise floor: two scans of one head on one scanner; refuses a scan and its own copy.

    A copy has the same voxels, however it is stored. Refuses a scan and a result of mrharmony too: the error
    of a method is no noise.
    """
    results = [path for path in (first, second) if earlier_result(path)]
    if len(results) == 1:
        raise MrharmonyError(f"{results[0]}: is a result of mrharmony, and no rescan. Name the rescan.")
    if np.array_equal(read_scan(first).volume.voxels, read_scan(second).volume.voxels):
        raise MrharmonyError(
            f"{second}: has the same voxels as {first}, and no noise of its own. Name the rescan."
        )
    return asdict(repeat_floor([_canonical_pair(first, second, mask, prepared)]))


def evaluate_identity(job: HarmonizeJob, scans: Sequence[Path]) -> Record:
    """Harmonize scans to their own domain, and say how much they have changed; refused ones are left out.

    A file that is named several times, also by links, counts once. One that does not look like the domain is
    told on standard error: to leave it as it is says little.
    """
    scores, refused = [], {}
    for path in track(_each_once(scans), "identity"):
        try:
            prepared = prepared_alone(scan_file(path, prepared=job.prepared))
        except MrharmonyError as error:
            refused[path] = str(error)
            continue
        harmonized = harmonize_prepared(job, prepared)
        for doubt in harmonized.findings:
            print(f"{path}: {doubt.message} {doubt.fix}", file=sys.stderr)
        voxels = harmonized.intensities()
        brain = CanonicalBrain(prepared.native.with_voxels(prepared.intensities()), prepared.brain_mask, 1.0)
        scores.append(identity_scores(brain, brain._replace(volume=prepared.native.with_voxels(voxels))))
    require_some(scores, refused)
    return {**asdict(summarize_identity(scores)), "refused": reasons_by_name(refused)}


def _each_once(scans: Sequence[Path]) -> list[Path]:
    """Return the paths of different files; the others are told on standard error."""
    known: dict[Path, Path] = {}
    for path in scans:
        if known.setdefault(real_path(path), path) is not path:
            print(f"{path}: this file is given already, and counts once.", file=sys.stderr)
    return list(known.values())


def _require_two_files(one: Path, other: Path) -> None:
    """Raise `MrharmonyError` where two paths lead to one file."""
    if real_path(one) == real_path(other):
        raise MrharmonyError(f"{other}: is the same file as {one}. Name two images of the head.")


def _canonical_pair(
    first: Path, second: Path, mask: Path | None, prepared: Path | None
) -> tuple[CanonicalBrain, CanonicalBrain]:
    grid = Grid.working(ZOOM)
    one, other = (
        CanonicalBrain(*scan.canonical(grid), scan.scale)
        for scan in prepared_on_one_grid([first, second], mask, prepared)
    )
    return one, other


def evaluate_sites(data: DataSet, raw: Path | None = None, workers: int | None = None) -> Record:
    """Say whether the site of scans can still be recognized: retrained classifiers with controls, distances.

    `raw`, the data set that was harmonized into this one, adds the frozen classifier, and the distances are
    then taken in the tissues of its scans. `workers` processes prepare the scans. Refused scans are left out.
    Raises `MrharmonyError` before anything is prepared if there are too few sites, or subjects at a site;
    afterwards, if too few are left.
    """
    index = data.open()
    chosen = scans_of_domains(index, data.only)
    _require_one_target(index.root, chosen)
    require_sites(*_sites_and_subjects(chosen), len(chosen))
    hashes = [readable_sha256(scan.path) for scan in chosen]
    tell_copies(index.root, [scan.subject for scan in chosen], hashes, "scans")
    found = evaluation_scans(index, chosen, raw, workers, data.prepared)
    brains, before = found.brains, found.raw
    sites, subjects = _sites_and_subjects(found.scans)
    probes = {
        name: probe_sites(brains, sites, subjects, name, seeds)
        for name, seeds in track(PROBES.items(), "training classifiers")
    }
    frozen = {"linear probe, frozen": frozen_probe(before, brains, sites, subjects).mean} if before else {}
    tissues = [segment_tissues(brain).labels for brain in before] if before else None
    return {
        "scans": {site: sites.count(site) for site in sorted(set(sites))},
        "chance": probes["linear"].scores.chance,
        **{f"{name} probe, retrained": probe.scores.mean for name, probe in probes.items()},
        **{f"{name} probe, shuffled labels": probe.control.mean for name, probe in probes.items()},
        **{f"{name} probe, scans it was trained on": probe.scores.trained for name, probe in probes.items()},
        **frozen,
        "distances": asdict(site_distances(brains, sites, subjects, tissues)),
        "refused": found.refused,
    }


def _require_one_target(root: Path, scans: Sequence[BidsScan]) -> None:
    """Raise `MrharmonyError` where scans were harmonized to several targets: each is another study."""
    targets = sorted({note.target for scan in scans if (note := earlier_result(scan.path))})
    if len(targets) > 1:
        raise MrharmonyError(
            f"{root}: holds results of several targets ({some_of(targets)}), which no figure can judge "
            "together. Harmonize to each target into a folder of its own, without name_target=True."
        )


def _sites_and_subjects(scans: Sequence[BidsScan]) -> tuple[list[str], list[str]]:
    return [str(scan.domain) for scan in scans], [scan.subject for scan in scans]


def evaluate_biology(
    data: DataSet, target: str, factor: str, group: str | None, workers: int | None = None
) -> Record:
    """Say what a study of ventricles, with a volumetry made on the scans of `target`, finds in a cohort.

    `factor` is a column of participants.tsv with numbers, `group` one with two groups if any. Scans whose
    factor or group is not known are left out, and those that are refused. Raises `MrharmonyError` before
    anything is prepared if the columns do not hold what is needed for three scans or the target has no scan;
    afterwards, if too few scans are left. Figures of too few people have a `remark` beside them.
    """
    index = data.open()
    chosen = scans_of_domains(index, data.only)
    _require_one_target(index.root, chosen)
    fitted_on = find_name((str(scan.domain) for scan in chosen), target)
    if fitted_on is None:
        raise MrharmonyError(f"{index.root}: no scans of {target}, which the volumetry is made on.")
    table = index.root / PARTICIPANTS
    entries = column_entries(table, chosen, factor)
    factors = column_numbers(table, entries, factor)
    groups = column_groups(table, chosen, group) if group else None
    known = {path for path in factors if groups is None or path in groups}
    require_cohort(*_columns([scan for scan in chosen if scan.path in known], factors, groups))
    _tell_unknown(table, [scan for scan in chosen if scan.path not in known], factor, group)
    needed = [scan for scan in chosen if scan.path in known or scan.domain == fitted_on]
    found = evaluation_scans(index, needed, workers=workers, prepared=data.prepared)
    pairs = list(zip(found.scans, found.brains, strict=True))
    volumetry = TargetVolumetry.fit(brain for scan, brain in pairs if scan.domain == fitted_on)
    studied = [(scan, brain) for scan, brain in pairs if scan.path in known]
    volumes = [volumetry.measure(brain).ventricle_ml for _, brain in studied]
    columns = _columns([scan for scan, _ in studied], factors, groups)
    effects = cohort_biology(volumes, *columns, people=[scan.subject for scan, _ in studied])
    if groups and effects.group_difference is None:
        why = "no site has two heads or more of each"
        print(f"{index.root}: the groups of {group} cannot be compared: {why}.", file=sys.stderr)
    people = {scan.subject for scan, _ in studied}
    of_sites = Counter(site for _, site in {(scan.subject, str(scan.domain)) for scan, _ in studied})
    remark = few_people(len(people), of_sites)
    return {
        "factor": factor,
        "scans": len(studied),
        "people": len(people),
        **({"remark": remark} if remark else {}),
        **asdict(effects),
        "refused": found.refused,
    }


def _tell_unknown(table: Path, left_out: Sequence[BidsScan], factor: str, group: str | None) -> None:
    """Say whose scans are left out because the table does not say what they are studied for."""
    if left_out:
        people = some_of(sorted({f"sub-{scan.subject}" for scan in left_out}))
        columns = f"{factor} or {group}" if group else factor
        print(
            f"{table}: has no {columns} of {people}, left out with {count_of(len(left_out), 'scan')}. "
            "Fill it in if it is known.",
            file=sys.stderr,
        )


def _columns(
    scans: Sequence[BidsScan], factors: dict[Path, float], groups: dict[Path, str] | None
) -> tuple[list[float], list[str], list[str] | None]:
    """Return factor, site and group of each scan."""
    known = [groups[scan.path] for scan in scans] if groups else None
    return [factors[scan.path] for scan in scans], [str(scan.domain) for scan in scans], known

"""`mrharmony evaluate`: scans are prepared alike, then compared; each evaluator returns a record."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mrharmony.core.domain import composed, find_name
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.hashing import file_sha256
from mrharmony.core.pointers import real_path
from mrharmony.core.progress import track
from mrharmony.core.records import number_in
from mrharmony.core.temporaries import temporary_folder
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
    ScanFile,
    load_brain,
    on_one_grid,
    prepare_positions,
    prepare_together,
    reasons_by_name,
    require_some,
)
from mrharmony.jobs.data_sets import DataSet, readable_sha256, scans_of_domains, tell_copies
from mrharmony.jobs.harmonizing import HarmonizeJob, earlier_result, harmonize_prepared, reason_of
from mrharmony.methods.rendering import truth_fitted
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.scans.bids import BidsIndex, BidsScan
from mrharmony.scans.folders import IN_A_COPY
from mrharmony.scans.names import output_stem, sidecar_path
from mrharmony.scans.participants import PARTICIPANTS
from mrharmony.scans.reading import read_scan
from mrharmony.scans.sidecar import OTHER_IMAGE, read_harmonized, source_file
from mrharmony.scans.voxels import MANY_VALUED_CODE
from mrharmony.simulate.cohort_files import true_brain
from mrharmony.space.grid import Grid

ZOOM = 2.0  # mm, of the template grid that brains are compared on
_NAMED_AT_MOST = 5
_CODES_FOR_MISSING = frozenset({-9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0})
_LARGEST = 1e18  # of a factor: squares of larger ones overflow single precision

Record = dict[str, Any]
Key = TypeVar("Key")


@dataclass(frozen=True)
class EvaluationScans:
    """The scans of a data set that could be prepared."""

    scans: list[BidsScan]
    brains: list[CanonicalBrain]  # in the order of the scans
    raw: list[CanonicalBrain] | None  # before harmonization, in the same order; None where not asked for
    refused: dict[str, str]  # file names of the others, and why


def evaluation_scans(
    index: BidsIndex,
    scans: Sequence[BidsScan],
    raw: Path | None = None,
    workers: int | None = None,
    prepared: Path | None = None,
) -> EvaluationScans:
    """Prepare scans of a data set; virtual heads are cut out by their true brain mask.

    `raw` is the data set that was harmonized into this one, to prepare the scans before harmonization too:
    each gives its harmonized scan the alignment and the brain mask. Scans before harmonization are taken from
    the folder `prepared` if given. Raises `MrharmonyError` if one is missing in `raw`, or all were refused.
    """
    befores = _raw_scans(scans, raw, prepared) if raw else [[] for _ in scans]
    files, refused = scan_files(index.root, scans, prepared)
    groups = {
        number: [*before, files[scan.path]]
        for number, (scan, before) in enumerate(zip(scans, befores, strict=True))
        if scan.path in files
    }
    grid = Grid.working(ZOOM)
    with temporary_folder() as cache:
        ready, faults = prepare_positions(list(groups.values()), grid, cache, workers)
        brains = {
            number: [load_brain(ready[file.path], grid) for file in group]
            for number, group in groups.items()
            if all(file.path in ready for file in group)
        }
    refused |= faults
    require_some(list(brains), refused)
    refused |= index.refused
    return EvaluationScans(
        [scans[number] for number in brains],
        [group[-1] for group in brains.values()],
        [group[0] for group in brains.values()] if raw else None,
        reasons_by_name(refused),
    )


def scan_files(
    root: Path, scans: Sequence[BidsScan], prepared: Path | None = None
) -> tuple[dict[Path, ScanFile], dict[Path, str]]:
    """Return how each scan is prepared, cut out by its virtual head's true brain, and why others are not.

    A harmonized scan that was made of a scan of another name is told on standard error.
    """
    files, refused = {}, {}
    for scan in scans:
        try:
            _tell_of_another(scan.path)
            files[scan.path] = scan_file(scan.path, true_brain(root, scan.subject), prepared)
        except MrharmonyError as error:
            refused[scan.path] = str(error)
    return files, refused


def _tell_of_another(scan: Path) -> None:
    """Say so where a harmonized scan was made of a scan of another name."""
    note = read_harmonized(sidecar_path(scan))
    origin = Path(note.sources[0]) if note and note.sources else scan
    if _undescribed(origin) != _undescribed(scan):
        told = f"its JSON file says that it was made of {origin.name}; it counts as what its own name says."
        print(f"{scan}: {told}", file=sys.stderr)


def scan_file(scan: Path, mask: Path | None = None, prepared: Path | None = None) -> ScanFile:
    """Return how an evaluation prepares a scan; one that mrharmony harmonized is known by its sidecar.

    The intensities of such a scan are taken as they are, so that no wrong gain or shading of the method is
    taken away before it is scored; mask and alignment are those of the scan that it was made of, where that
    is in the folder `prepared`. Raises `MrharmonyError` if such a sidecar is damaged, or was written with
    another image.
    """
    note = read_harmonized(sidecar_path(scan))
    if note is None:
        return ScanFile(scan, mask, prepared=prepared)
    if note.image_sha256 != file_sha256(scan):
        raise MrharmonyError(f"{scan}: {OTHER_IMAGE}")
    origin = source_file(scan, note) if prepared else None
    return ScanFile(scan, mask, note.intensity_scale, prepared, origin)


def prepared_alone(file: ScanFile) -> PreparedScan:
    """Prepare one scan; raises `MrharmonyError` if it is refused."""
    (prepared,) = _prepared([file])
    return prepared


def prepared_on_one_grid(
    paths: Sequence[Path], mask: Path | None, prepared: Path | None = None
) -> list[PreparedScan]:
    """Prepare scans of one head on one grid, all with alignment and brain mask of the first.

    The brain is that of `mask` on their grid, or the saved one of the folder `prepared`, or else found here.
    Raises `MrharmonyError` if a scan is refused or lies on another grid.
    """
    first, *others = _prepared([scan_file(path, mask, prepared) for path in paths])
    for finding in (found for found in first.findings if found.code == MANY_VALUED_CODE):
        print(f"{finding.message} {finding.fix}", file=sys.stderr)
    for path, other in zip(paths[1:], others, strict=True):
        if not on_one_grid(first.native, other.native):
            raise MrharmonyError(f"{path}: lies on another grid than {paths[0]}. Register and resample one.")
    return [first, *others]


def _prepared(files: Sequence[ScanFile]) -> list[PreparedScan]:
    """Prepare scans of one head; raises the first refusal."""
    done = []
    for file, prepared in zip(files, prepare_together(files), strict=True):
        if isinstance(prepared, MrharmonyError):
            raise MrharmonyError(reason_of(prepared, file.path))
        done.append(prepared)
    return done


def _raw_scans(scans: Sequence[BidsScan], raw: Path, prepared: Path | None) -> list[list[ScanFile]]:
    """Return each harmonized scan's own before harmonization, found by its name without `desc-`."""
    index = BidsIndex.open(raw, None)
    known = {_undescribed(scan.path): scan for scan in index.scans}
    if result := next((scan.path for scan in index.scans if earlier_result(scan.path)), None):
        raise MrharmonyError(
            f"{raw}: holds results of mrharmony, such as {result.name}, and no scans before harmonization. "
            "Give the data set that was harmonized."
        )
    befores = []
    for scan in scans:
        name = _undescribed(scan.path)
        if name not in known:
            missing = f"{raw}: has no scan {name}_T1w that {scan.path.name} was made of."
            fault = MrharmonyError(f"{missing} Give the data set that was harmonized.")
            raise next(iter(index.closed), fault)
        befores.append([scan_file(known[name].path, true_brain(raw, known[name].subject), prepared)])
    return befores


def _undescribed(scan: Path) -> str:
    return "_".join(part for part in output_stem(scan).split("_") if not part.startswith("desc-"))


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


def column_numbers(table: Path, entries: Mapping[Key, str], column: str) -> dict[Key, float]:
    """Return entries of a column as numbers, and say where one is a usual code for what is missing.

    Raises `MrharmonyError` where one is no number.
    """
    numbers = {key: _number(table, text, column) for key, text in entries.items()}
    codes = sorted(_CODES_FOR_MISSING & set(numbers.values()))
    if codes:
        print(
            f"{table}: {column} is {codes[0]:g} in some rows, which is taken as a number. If it stands for a "
            f"missing value, write n/a there {IN_A_COPY}.",
            file=sys.stderr,
        )
    return numbers


def _number(table: Path, text: str, column: str) -> float:
    number = number_in(text)
    if not abs(number) < _LARGEST:
        raise MrharmonyError(
            f"{table}: {column} must hold numbers, not {text!r:.60}. "
            f"Choose another column, or write n/a there {IN_A_COPY}."
        )
    return number


def column_groups(table: Path, scans: Sequence[BidsScan], column: str) -> dict[Path, str]:
    """Return the group of each scan that has one; raises `MrharmonyError` unless there are two."""
    groups = column_entries(table, scans, column)
    names = sorted(set(groups.values()))
    if len(names) != 2:
        listed = ", ".join(f"{name:.60}" for name in names[:_NAMED_AT_MOST]) + (
            ", …" if len(names) > _NAMED_AT_MOST else ""
        )
        raise MrharmonyError(
            f"{table}: {column} must hold two groups, not {len(names)} ({listed}). "
            f"Choose another column, or write n/a for the others {IN_A_COPY}."
        )
    return groups


def column_entries(table: Path, scans: Sequence[BidsScan], column: str) -> dict[Path, str]:
    """Return what a column says of the scans that it says something of."""
    name = composed(column)
    entries = {scan.path: scan.participant[name] for scan in scans if name in scan.participant}
    if not entries:
        known = sorted({name for scan in scans for name in scan.participant})
        raise MrharmonyError(
            f"{table}: no column {column}, or nothing in it for these scans. "
            f"Choose from: {', '.join(f'{name:.60}' for name in known) or 'none'}."
        )
    return entries

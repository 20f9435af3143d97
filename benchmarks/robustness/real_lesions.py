"""Do the lesions of real patients stay as visible as they were, and do new ones appear?

python -m benchmarks.robustness.real_lesions BIDS_DIR --target NSK --target mprage-3t ...

BIDS_DIR holds patients with a T1w scan and, on its grid, a drawn `_label-lesion_mask`. Each scan goes from an
unknown source to each target of the shipped model. What the target's scanner would have shown is unknown, so
every figure compares the output with the prepared scan, on the same voxels; tissues are those of the scan.

- contrast: as in `lesions`, (white matter near the lesions - lesions) / (white matter - grey matter).
- parts: confluent lesions are cut at a lattice of 16 mm, and each part of 50 mm³ or more that is visible on
  the scan is compared with white matter around itself. Fainter: more than a tenth of its contrast is lost.
  Milder parts are no darker than grey matter. Inverted: the part is brighter than white matter.
- new: share of the inner white matter far from all lesions that is dark in the output and was not before.
  Dark: below white matter near it by half of the distance of grey from white matter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, distance_transform_edt, find_objects, gaussian_filter, label

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import domain
from benchmarks._shared.reports import Report, save
from benchmarks.robustness.lesions import GREY, NEAR_MM, WHITE, Labels, contrast, relative_contrast
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import BoolArray, FloatArray, Matrix
from mrharmony.evaluate.tissues import segment_tissues
from mrharmony.jobs.brains import ScanFile, prepare_together
from mrharmony.methods.protocol import Harmonizer
from mrharmony.methods.registry import DEFAULT_METHOD, METHOD_NAMES, load_method
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.scans.reading import read_mask, read_scan
from mrharmony.simulate.anatomy import LESION_LABEL
from mrharmony.space.grid import Grid
from mrharmony.weights import shipped_model

COMPARED = {"none", "histogram", "population", "regional", "regional-scan", DEFAULT_METHOD}
ONE_BY_ONE = {"histogram", "regional-scan", DEFAULT_METHOD}
PART_MM = 16.0  # edge of the lattice that cuts confluent lesions
LEAST_MM3 = 50.0  # of a part, and of the white matter around it
INNER_MM = 2.0  # of white matter from the other tissues, where new lesions are looked for
NEAR_SIGMA_MM = 8.0  # of the Gaussian over the white matter near a voxel
VISIBLE = 0.2  # contrast of a part that can be said to be seen on the scan
FAINTER = 0.9  # of its contrast is left, or less
SUFFIX = "_label-lesion_mask"
MEANS = ("before", "after", "kept", "middle", "fainter", "milder fainter", "inverted", "new")
KEPT = (
    "kept: {kept:.2f} | median part: {middle:.2f} | least part: {least:.2f} | fainter: {fainter:.1%} | "
    "milder least: {milder least:.2f} | milder fainter: {milder fainter:.1%} | "
    "inverted: {inverted:.1%} | new: {new:.3%}"
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A part of a lesion and the white matter around it, as voxels in the order of the flattened scan."""

    lesion: NDArray[np.intp]
    near: NDArray[np.intp]


def main() -> None:
    asked = on_one_thread(__doc__, "bids_dir", target=[str])
    methods = [load_method(name, shipped_model()) for name in METHOD_NAMES if name in COMPARED]
    masks = sorted(asked.bids_dir.rglob(f"*{SUFFIX}.nii*"))
    if not masks:
        raise MrharmonyError(f"{asked.bids_dir}: holds no {SUFFIX}. Give a folder with drawn lesions.")
    rows = [row for mask in track(masks, "patients") for row in measured(mask, methods, asked.target)]
    table = {method.name: summary(rows, method.name) for method in methods}
    record = {"targets": asked.target, "summary": table, "rows": rows}
    save(asked, report(record, asked.command), record)


def measured(mask: Path, methods: Sequence[Harmonizer], targets: Sequence[str]) -> Iterator[Row]:
    """Yield what each method leaves of a patient's lesions at each target."""
    scan, labels = prepared_patient(mask)
    before, zooms = scan.intensities() * scan.brain_mask, scan.native.zooms
    drawn = lesion_parts(labels, zooms)
    parts = visible_parts(before, labels, drawn)
    seen, whole = part_contrasts(before, labels, parts), contrast(before, labels, zooms)
    if whole is None or not parts:
        raise MrharmonyError(f"{mask}: too little of the lesions is visible on T1w. Leave this patient out.")
    about = {
        "subject": mask.name.partition(SUFFIX)[0],
        "ml": float((labels == LESION_LABEL).sum() * np.prod(zooms) / 1000),
        "parts": [len(drawn), len(parts)],
        "before": whole,
        "parts before": seen.tolist(),
    }
    was_dark = dark(before, labels, zooms)
    inner = inner_white(labels, zooms)
    for method in methods:
        for target in targets:
            after = method.intensities(scan, None, domain(target))
            new = float((dark(after, labels, zooms) & ~was_dark)[inner].mean())
            kept = part_contrasts(after, labels, parts) / seen
            whole_after = contrast(after, labels, zooms)
            assert whole_after is not None  # the volume of the lesions is the same
            found = {"after": whole_after, "kept": whole_after / whole, "new": new, **shares(seen, kept)}
            yield {**about, "target": target, "method": method.name, "parts kept": kept.tolist(), **found}


def prepared_patient(mask: Path) -> tuple[PreparedScan, Labels]:
    """Return a patient's prepared scan, and its tissues and lesions on its own grid."""
    path = mask.with_name(mask.name.replace(SUFFIX, "_T1w"))
    (scan,) = prepare_together([ScanFile(path)])
    if isinstance(scan, MrharmonyError):
        raise scan
    labels = tissues(scan)
    labels[read_mask(mask, read_scan(path)) & scan.brain_mask] = LESION_LABEL
    return scan, labels


def tissues(scan: PreparedScan) -> Labels:
    """Return the tissues of the native voxels: 0 outside the brain, 1 CSF, 2 grey, 3 white matter."""
    grid = Grid.working(1.0)
    found = segment_tissues(CanonicalBrain(*scan.canonical(grid), scan.scale)).labels
    place: Matrix = np.linalg.inv(grid.affine) @ scan.rigid_to_template @ scan.native.affine
    native = affine_transform(found, place[:3, :3], place[:3, 3], scan.native.shape, order=0)
    return np.where(scan.brain_mask, native, 0).astype(np.uint8)


def lesion_parts(labels: Labels, zooms: Sequence[float]) -> list[Part]:
    """Return the parts of the lesions that are large enough, with enough white matter near them."""
    lesion = labels == LESION_LABEL
    usable = (labels == WHITE) & (distance_transform_edt(~lesion, sampling=zooms) >= NEAR_MM[0])
    pieces = cut(lesion, zooms)
    flat = np.arange(labels.size).reshape(labels.shape)
    margin = np.ceil(NEAR_MM[1] / np.asarray(zooms)).astype(int)
    parts = []
    for number, found in enumerate(find_objects(pieces), start=1):
        box = tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(found, margin, strict=True))
        own = pieces[box] == number
        near = usable[box] & (distance_transform_edt(~own, sampling=zooms) <= NEAR_MM[1])
        if min(own.sum(), near.sum()) * np.prod(zooms) >= LEAST_MM3:
            parts.append(Part(flat[box][own], flat[box][near]))
    return parts


def cut(lesion: BoolArray, zooms: Sequence[float]) -> NDArray[np.intp]:
    """Return the numbers, from 1, of the parts of a lesion mask; 0 outside."""
    separate, _ = label(lesion, np.ones((3, 3, 3)))
    places = np.argwhere(lesion)
    keys = np.column_stack([separate[lesion], (places * zooms // PART_MM).astype(int)])
    numbers = np.zeros(lesion.shape, np.intp)
    numbers[lesion] = np.unique(keys, axis=0, return_inverse=True)[1].ravel() + 1
    return numbers


def visible_parts(voxels: FloatArray, labels: Labels, parts: Sequence[Part]) -> list[Part]:
    """Return the parts that are clearly darker than the white matter around them."""
    contrasts = part_contrasts(voxels, labels, parts)
    return [part for part, found in zip(parts, contrasts, strict=True) if found >= VISIBLE]


def part_contrasts(voxels: FloatArray, labels: Labels, parts: Sequence[Part]) -> NDArray[np.float64]:
    """Return the contrast of each part with the white matter around it."""
    grey, flat = float(np.median(voxels[labels == GREY])), voxels.ravel()
    return np.array([relative_contrast(flat[part.lesion], flat[part.near], grey) for part in parts])


def shares(seen: NDArray[np.float64], kept: NDArray[np.float64]) -> Row:
    """Return what is left of the parts' contrasts on the scan, and what share of the parts changes much."""
    milder = kept[seen <= 1]  # than grey matter
    return {
        "least": float(kept.min()),
        "middle": float(np.median(kept)),
        "fainter": float((kept < FAINTER).mean()),
        "milder least": float(milder.min()) if len(milder) else None,
        "milder fainter": float((milder < FAINTER).sum() / max(len(milder), 1)),
        "inverted": float((kept < 0).mean()),
    }


def inner_white(labels: Labels, zooms: Sequence[float]) -> BoolArray:
    """Return white matter inside its border, far from all lesions."""
    white = np.isin(labels, (WHITE, LESION_LABEL))
    inner = distance_transform_edt(white, sampling=zooms) > INNER_MM
    away = distance_transform_edt(labels != LESION_LABEL, sampling=zooms) >= NEAR_MM[0]
    return np.asarray(inner & away)


def dark(voxels: FloatArray, labels: Labels, zooms: Sequence[float]) -> BoolArray:
    """Return the voxels below white matter near them by half of the distance of grey from white matter."""
    white, grey = (float(np.median(voxels[labels == tissue])) for tissue in (WHITE, GREY))
    weights = (labels == WHITE).astype(np.float32)
    sums, counts = (
        gaussian_filter(part, NEAR_SIGMA_MM / np.asarray(zooms), truncate=2.0)
        for part in (weights * voxels, weights)
    )
    return np.asarray(voxels < sums / np.maximum(counts, 1e-6) - (white - grey) / 2)


def summary(rows: Sequence[Row], method: str) -> Row:
    """Return a method's figures over patients and targets: means, and the least."""
    own = [row for row in rows if row["method"] == method]
    means = {name: float(np.mean([row[name] for row in own])) for name in MEANS}
    milder = [row["milder least"] for row in own if row["milder least"] is not None]
    return {**means, "least": min(row["least"] for row in own), "milder least": min(milder, default=None)}


def report(record: Row, command: str) -> Report:
    rows = record["rows"]
    patients = {row["subject"]: row for row in rows}.values()
    lesions = "; ".join(
        "{subject} {ml:.0f} ml, {parts[0]} parts, of which {parts[1]} visible".format(**one)
        for one in patients
    )
    shown = Report(
        "Lesions of real patients after harmonization",
        f"Command: `{command}`",
        "Data: multiple sclerosis patients of the University Medical Centre Ljubljana (Lesjak et al. "
        "2016, 2017, Neuroinformatics; CC BY)",
        f"Lesions inside the brain: {lesions}",
        f"To {', '.join(record['targets'])} from an unknown source, with the shipped model; without a source "
        "`population` and `regional` do what `histogram` and `regional-scan` do",
        "Contrast: lesion against near white matter, in units of grey against white matter, before and after",
        "Kept: contrast after over before; the truth at the target is not known, and need not be 1",
        f"Part of a lesion: fainter if less than {FAINTER:.0%} of its contrast is left; inverted if brighter "
        "than white matter near it",
        "Milder: parts no darker than grey matter; the others lie between grey matter and CSF",
        "New: inner white matter far from lesions that became dark, by half of the distance to grey matter",
    )
    shown.table(
        ({"method": method, **row} for method, row in record["summary"].items()),
        f"method: {{method}} | before: {{before:.2f}} | after: {{after:.2f}} | {KEPT}",
    )
    shown.text("## Each patient and target")
    shown.table(
        (row for row in rows if row["method"] in ONE_BY_ONE),
        f"patient: {{subject}} | to: {{target}} | method: {{method}} | before: {{before:.2f}} | "
        f"after: {{after:.2f}} | {KEPT}",
        "each",
    )
    return shown


if __name__ == "__main__":
    main()

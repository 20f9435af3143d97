"""Does preparation let anything pass that is no upright T1w head?

python -m benchmarks.robustness.odd_heads BIDS_DIR --heads 14 --others FOLDER --output OUT

Heads of BIDS_DIR (`--first 14`: those after the first 14), of every site in turn, at 2 mm or coarser, are
prepared as they are and after changes that leave no sound T1w head under the header. FOLDER holds images of
other weightings, named by their BIDS suffix, and beside them T1w scans, which count as sound. Written: what
preparation does not refuse, so what `harmonize` could write at most; passed: written without a warning, so
that the verdict may be `pass`.

- front-back, head-foot: the voxels run the other way under an unchanged header. turned: both.
- even, random: each voxel of the brain has one value, or smooth random ones, on an empty background.
- FLAIR-like, T2-like: the head's intensities on the curve of another weighting.
- ball: ellipsoids of a head's size, with and without noise and shading.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.reports import Report, save
from benchmarks.robustness.scan_variants import Head, cubic
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import BoolArray, FloatArray, Volume
from mrharmony.preparation.pipeline import prepare_with_quality
from mrharmony.preparation.quality import quality_findings
from mrharmony.scans.bids import BidsIndex, shuffle_key
from mrharmony.scans.reading import read_scan
from mrharmony.space.resampling import FWHM_PER_SIGMA, to_ras

Row = dict[str, Any]
Change = Callable[[FloatArray, BoolArray, np.random.Generator], FloatArray]
SOUND = "sound T1w"
ZOOM = 2.0  # mm
RANDOM_FWHM = 4.7  # mm, of the smooth random brain
BALLS = (
    (65, 65, 65, 0.05),
    (65, 80, 60, 0.05),
    (70, 85, 65, 0.02),
    (60, 60, 60, 0.3),
    (66, 82, 62, 0.0),
)  # mm, noise


def front_back(voxels: FloatArray, _mask: BoolArray, _rng: np.random.Generator) -> FloatArray:
    return np.flip(voxels, 1).copy()


def head_foot(voxels: FloatArray, _mask: BoolArray, _rng: np.random.Generator) -> FloatArray:
    return np.flip(voxels, 2).copy()


def turned(voxels: FloatArray, _mask: BoolArray, _rng: np.random.Generator) -> FloatArray:
    return np.flip(voxels, (1, 2)).copy()


def even(voxels: FloatArray, mask: BoolArray, _rng: np.random.Generator) -> FloatArray:
    return np.where(mask, np.median(voxels[mask]), 0).astype(np.float32)


def random(voxels: FloatArray, mask: BoolArray, rng: np.random.Generator) -> FloatArray:
    noise = gaussian_filter(rng.normal(size=voxels.shape), RANDOM_FWHM / ZOOM / FWHM_PER_SIGMA)
    values = np.median(voxels[mask]) * (1 + 0.3 * noise / noise.std())
    return np.where(mask, np.maximum(values, 0), 0).astype(np.float32)


def flair_like(voxels: FloatArray, mask: BoolArray, _rng: np.random.Generator) -> FloatArray:
    fluid, grey, white = np.percentile(voxels[mask], [3, 40, 88])
    known = (0, fluid, (fluid + grey) / 2, grey, white, 1.5 * white)
    return _on_curve(voxels, known, np.array([0, 0.15, 0.6, 1, 0.75, 0.9]) * white)


def t2_like(voxels: FloatArray, mask: BoolArray, _rng: np.random.Generator) -> FloatArray:
    fluid, grey, white = np.percentile(voxels[mask], [3, 40, 88])
    curve = _on_curve(voxels, (0, fluid, grey, white, 1.5 * white), np.array([0, 1.6, 0.9, 0.6, 0.5]) * white)
    return np.where(voxels < 0.1 * white, voxels, curve)


def _on_curve(voxels: FloatArray, known: Sequence[float], values: FloatArray) -> FloatArray:
    return np.interp(voxels, known, values).astype(np.float32)


CHANGES: dict[str, Change] = {
    "front-back": front_back,
    "head-foot": head_foot,
    "turned": turned,
    "even": even,
    "random": random,
    "FLAIR-like": flair_like,
    "T2-like": t2_like,
}


def main() -> None:
    asked = on_one_thread(__doc__, "bids_dir", heads=14, first=0, others=Path)
    scans = in_turn(BidsIndex.open(asked.bids_dir, "site"), asked.first + asked.heads)[asked.first :]
    rows = [row for scan in track(scans, "heads") for row in tried_head(scan)]
    rows += [tried("ball", name, volume) for name, volume in track(list(balls()), "balls")]
    rows += [tried(kind_of(path), path.name, coarse(path)) for path in track(images(asked.others), "others")]
    record = {"kinds": summary(rows), "rows": rows}
    save(asked, report(record, asked.command), record, "held-out" if asked.first else "")


def in_turn(index: BidsIndex, count: int) -> list[Path]:
    """Return scans, one of each site in turn."""
    sites: dict[str, list[Path]] = {}
    for scan in sorted(index.scans, key=lambda scan: shuffle_key(scan.subject)):
        sites.setdefault(scan.domain or "", []).append(scan.path)
    longest = max(map(len, sites.values()))
    return [scans[place] for place in range(longest) for scans in sites.values() if place < len(scans)][
        :count
    ]


def images(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.nii.gz")) if "label-" not in path.name]


def kind_of(path: Path) -> str:
    suffix = path.name.removesuffix(".nii.gz").split("_")[-1]
    return SOUND if suffix == "T1w" else suffix


def coarse(path: Path) -> Volume:
    """Return a scan in RAS order, resampled to 2 mm where it is finer."""
    volume = to_ras(read_scan(path).volume)
    return cubic(Head(volume, volume.voxels > 0), ZOOM).volume if min(volume.zooms) < 0.8 * ZOOM else volume


def tried_head(path: Path) -> Iterator[Row]:
    """Yield what preparation says of a head, and of each change of it."""
    volume = coarse(path)
    mask = prepare_with_quality(volume)[0].brain_mask
    yield tried(SOUND, path.name, volume)
    for kind, change in CHANGES.items():
        rng = np.random.default_rng([*path.name.encode(), *kind.encode()])
        yield tried(kind, path.name, volume.with_voxels(change(volume.voxels, mask, rng)))


def balls() -> Iterator[tuple[str, Volume]]:
    """Yield ellipsoids in noise, each without and with shading."""
    rng, shape = np.random.default_rng(0), (96, 112, 96)
    affine = np.diag([ZOOM, ZOOM, ZOOM, 1.0])
    affine[:3, 3] = [-ZOOM * size / 2 for size in shape]
    axes = np.meshgrid(*(ZOOM * (np.arange(size) - size / 2) for size in shape), indexing="ij")
    for *radii, noise in BALLS:
        inside = sum((axis / radius) ** 2 for axis, radius in zip(axes, radii, strict=True)) < 1
        for shading in (0.0, 0.3):
            clean = inside * (1 + shading * axes[0] / 90)
            voxels = np.abs(clean + rng.normal(0, noise, shape)) if noise else clean
            yield (
                f"{radii} mm, noise {noise}, shading {shading}",
                Volume((100 * voxels).astype(np.float32), affine),
            )


def tried(kind: str, name: str, volume: Volume) -> Row:
    """Return what preparation says of an image: its figures, warnings, and the reason of a refusal."""
    row: Row = {"kind": kind, "name": name, "quality": None, "warnings": [], "reason": None}
    try:
        prepared, quality = prepare_with_quality(volume)
        row["quality"] = asdict(quality)
        findings = (*prepared.findings, *quality_findings(quality))
        row["warnings"] = [finding.code for finding in findings if finding.level == "warning"]
    except MrharmonyError as error:
        row["reason"] = str(error)
    return row


def summary(rows: Sequence[Row]) -> list[Row]:
    """Return the counts of each kind, and of all that is not sound."""
    kinds = {
        kind: [row for row in rows if row["kind"] == kind] for kind in dict.fromkeys(r["kind"] for r in rows)
    }
    kinds["all but sound"] = [row for row in rows if row["kind"] != SOUND]
    return [counts(kind, found) for kind, found in kinds.items()]


def counts(kind: str, rows: Sequence[Row]) -> Row:
    refused = sum(row["reason"] is not None for row in rows)
    passed = sum(row["reason"] is None and not row["warnings"] for row in rows)
    inside = [row["quality"]["inside"] for row in rows if row["quality"]]
    span = [min(inside), max(inside)] if inside else [None, None]
    written = len(rows) - refused
    return {
        "kind": kind,
        "n": len(rows),
        "refused": refused,
        "written": written,
        "passed": passed,
        "inside": span,
    }


def report(record: Row, command: str) -> Report:
    shown = Report("Heads that are none", f"Command: `{command}`")
    columns = "kind: {kind} | n: {n} | refused: {refused} | written: {written} | passed: {passed} | "
    columns += "least inside: {inside[0]:.2f} | greatest: {inside[1]:.2f}"
    shown.table(record["kinds"], columns, "kinds")
    return shown


if __name__ == "__main__":
    main()

"""Do the order of a scan's axes, and a tilted grid, change what becomes of it?

python -m benchmarks.robustness.axes SCAN [--oblique 48]

A real head is written in its 48 axis orders, straight as it is and under an affine that is turned by up to
30°, and goes the whole way of `mrharmony harmonize`: read, prepared, harmonized, written.
What is written is compared with what the plain order (RAS) gives, voxel by voxel after reordering.
`--oblique` makes only so many of the turned orders.
"""

from collections.abc import Iterator
from functools import partial
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.records import kept
from benchmarks._shared.reports import Report, save
from benchmarks.robustness.preparation import alignment_error
from benchmarks.robustness.scan_variants import Head, Variant, in_order, oblique
from mrharmony.core.atomic import write_arrays
from mrharmony.core.progress import track
from mrharmony.core.volume import Volume
from mrharmony.jobs.brains import ScanFile, prepared_scan
from mrharmony.jobs.harmonizing import harmonize_prepared, write_harmonized
from mrharmony.jobs.opening import open_job
from mrharmony.methods.registry import DEFAULT_METHOD
from mrharmony.scans.reading import read_scan
from mrharmony.space.resampling import to_ras

SEED, LARGEST_TURN = 8, 30.0  # degrees
TARGET = "NSK"
ORDERS = [
    np.column_stack([axes, signs]) for axes in permutations(range(3)) for signs in product([1, -1], repeat=3)
]  # the first is RAS
GRIDS = ("straight", "oblique")


def main() -> None:
    asked = on_one_thread(__doc__, "scan", oblique=len(ORDERS))
    head = Head.of(volume := read_scan(asked.scan).volume, volume.voxels > 0)
    grids = {
        "straight": Variant(head.volume),
        "oblique": oblique(head, np.random.default_rng(SEED), LARGEST_TURN),
    }
    counts = {"straight": len(ORDERS), "oblique": asked.oblique}
    draws = [(grid, place) for grid in GRIDS for place in spread(counts[grid])]
    rows = [
        kept(
            asked.work / f"{grid}-{place:02d}.json",
            partial(compared, asked.work / "scans", grids, grid, place),
        )
        for grid, place in track(draws, "orders")
    ]
    record = {"turn": grids["oblique"].details["degrees"], "rows": rows}
    save(asked, report(record, asked.command), record)


def spread(count: int) -> Iterator[int]:
    """Yield the places of so many orders, spread over all; the first is the plain one."""
    yield from (place * len(ORDERS) // count for place in range(count))


def compared(folder: Path, grids: dict[str, Variant], grid: str, place: int) -> dict[str, Any]:
    """Return how what is written of an order deviates from that of the plain order on the same grid."""
    plain = harmonized(folder, grids[grid].volume, grid, 0)
    found = harmonized(folder, grids[grid].volume, grid, place)
    difference = np.abs(found["voxels"] - plain["voxels"]) / plain["scale"]
    degrees, mm = alignment_error(found["rigid"], np.eye(4), plain["rigid"])
    straight = harmonized(folder, grids["straight"].volume, "straight", 0)
    turned_by, moved_by = alignment_error(found["rigid"], grids[grid].moved, straight["rigid"])
    both = found["mask"].sum() + straight["mask"].sum()
    return {
        "grid": grid,
        "order": "".join(nib.orientations.aff2axcodes(found["affine"])),
        "mask": int((found["mask"] != plain["mask"]).sum()),
        "degrees": degrees,
        "mm": mm,
        "largest": float(difference.max()),
        "mean": float(difference[plain["mask"]].mean()),
        "dice": float(2 * (found["mask"] & straight["mask"]).sum() / both),
        "straight_degrees": turned_by,
        "straight_mm": moved_by,
        "verdict": str(found["verdict"]),
    }


def harmonized(folder: Path, volume: Volume, grid: str, place: int) -> dict[str, Any]:
    """Take an order of a volume the whole way, once; return what is written of it, in RAS order."""
    file = folder / f"{grid}-{place:02d}.npz"
    if not file.is_file():
        write_arrays(file, whole_way(folder, in_order(volume, ORDERS[place])))
    with np.load(file, allow_pickle=False) as found:
        return dict(found)


def whole_way(folder: Path, volume: Volume) -> dict[str, Any]:
    """Write a scan, and read, prepare, harmonize and write it as the command does."""
    path, output = folder / "scan.nii.gz", folder / "output.nii.gz"
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume.voxels, volume.affine), path)
    scan = read_scan(path)
    job = open_job(None, DEFAULT_METHOD, None, TARGET)
    prepared = prepared_scan(ScanFile(path), scan)
    result = harmonize_prepared(job, prepared, scan.findings)
    write_harmonized(job, scan, prepared, result, output)
    written = read_scan(output).volume
    assert written.affine.tobytes() == scan.volume.affine.tobytes(), "another grid than the scan's"
    return {
        "voxels": to_ras(written).voxels,
        "mask": to_ras(scan.volume.with_voxels(prepared.brain_mask)).voxels > 0,
        "affine": written.affine,
        "rigid": prepared.rigid_to_template,
        "scale": result.scale,
        "verdict": result.evidence.verdict,
    }


def report(record: dict[str, Any], command: str) -> Report:
    shown = Report(
        "Axis orders",
        f"Command: `{command}`",
        f"One real head through the whole way of `mrharmony harmonize`; oblique: turned by {record['turn']}°",
        "Largest deviations from the plain order (RAS) on the same grid; 1 is about white matter",
        "From straight: of the oblique grid's mask and alignment from the straight plain order's",
    )
    columns = (
        "grid: {grid} | orders: {orders} | other mask voxels: {mask} | "
        "degrees: {degrees:.4f} | mm: {mm:.4f} | output difference: {largest:.6f} | mean: {mean:.6f} | "
        "least Dice from straight: {dice:.4f} | "
        "degrees from straight: {straight_degrees:.2f} | mm: {straight_mm:.2f} | verdicts: {verdicts}"
    )
    shown.table([worst(grid, record["rows"]) for grid in GRIDS], columns)
    return shown


def worst(grid: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the largest deviations of a grid's orders."""
    own = [row for row in rows if row["grid"] == grid]
    most = {name: max(row[name] for row in own) for name in own[0] if isinstance(own[0][name], int | float)}
    dice, verdicts = min(row["dice"] for row in own), ", ".join(sorted({row["verdict"] for row in own}))
    return {**most, "dice": dice, "grid": grid, "orders": len(own), "verdicts": verdicts}


if __name__ == "__main__":
    main()

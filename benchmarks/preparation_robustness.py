"""Prepare variants of real heads and compare with the heads themselves: masks, alignments, gates, seconds.

python benchmarks/preparation_robustness.py BIDS_DIR OUT [--voxel-sizes] [--first N]

Each variant's figures go to OUT/variants as they come, so the run can be stopped and called again; then the
table of all that are done is written to OUT/robustness.md and .json. The gates were set with a look at the
first variants; those made afterwards are told apart. With --voxel-sizes other variants are made, of the
finest and the coarsest voxels, and the table is voxel-sizes.md and .json.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.affines import apply_affine
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from mrharmony.core.atomic import staged, write_bytes, write_json
from mrharmony.core.progress import track
from mrharmony.core.volume import BoolArray, Matrix, MrharmonyError, Volume
from mrharmony.prepare.alignment import volume_corrected
from mrharmony.prepare.pipeline import prepare_unjudged
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.scans.reading import read_scan
from robustness_table import PARTS, markdown, summary
from scan_variants import KINDS, VOXEL_SIZES, Head, Variant

SEED = 3
HEADS = (
    *("hh012", "hh015", "la01", "la03", "nsk01", "nsk05", "adi", "pumi", "hh039", "hh052"),
    *("hh072", "hh080", "hh095", "hh104", "la06", "la07", "nsk10", "nsk27", "hh130", "hh150"),
)
LOOKED_AT = 55  # the first variants, on which the gates were set
CENTRE = np.array([0.0, -17.0, 5.0])  # of the template's brain, mm


@dataclass(frozen=True)
class Draw:
    """One variant to be made: which head, what is done to it, the seed of how, and whether gates knew it."""

    number: int
    head: str
    kind: str
    part: str

    def variant(self, head: Head) -> Variant:
        """Make the variant."""
        return (KINDS | VOXEL_SIZES)[self.kind][0](head, np.random.default_rng([SEED, self.number]))


def main() -> None:
    """Prepare what is not prepared yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--first", type=int, help="only so many more variants; 0 writes the table of those done"
    )
    parser.add_argument(
        "--voxel-sizes", action="store_true", help="variants of the finest and coarsest voxels"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    extra = arguments.voxel_sizes
    name, option, folder = (
        ("voxel-sizes", " --voxel-sizes", "voxels") if extra else ("robustness", "", "variants")
    )
    drawn = draws(VOXEL_SIZES, 0) if extra else draws(KINDS, LOOKED_AT)
    every = [(draw, arguments.out / folder / f"{draw.number:03d}.json") for draw in drawn]
    missing = [(draw, file) for draw, file in every if not file.is_file()]
    done = len(every) - len(missing)
    for draw, file in track(missing[: arguments.first], "variants", len(every), done):
        write_json(file, measure(arguments.bids_dir, arguments.out, draw))
    records = [json.loads(file.read_text("utf-8")) for _, file in every if file.is_file()]
    table = summary(records)
    about = (
        f"Command: `python benchmarks/preparation_robustness.py BIDS_DIR OUT{option}`",
        f"{table['variants']} of {len(every)} variants of {len(HEADS)} heads of five scanners, seed {SEED}",
        f"Memory of the process: at most {max(record.get('peak_gib', 0) for record in records)} GiB",
    )
    write_json(arguments.out / f"{name}.json", table)
    write_bytes(arguments.out / f"{name}.md", markdown(table, about).encode())


def draws(counts: Mapping[str, tuple[object, int]], looked_at: int) -> list[Draw]:
    """Return variants in a random order, the same in every run; heads take turns within a kind.

    Parameters
    ----------
    counts
        How many variants of each kind there are, second in its value.
    looked_at
        On how many of the first the gates were set.
    """
    kinds = [kind for kind, (_, count) in counts.items() for _ in range(count)]
    heads = [HEADS[number % len(HEADS)] for number in range(len(kinds))]
    order = np.random.default_rng(SEED).permutation(len(kinds))
    return [
        Draw(int(number), heads[number], kinds[number], PARTS[place >= looked_at])
        for place, number in enumerate(order)
    ]


def measure(bids_dir: Path, out: Path, draw: Draw) -> dict[str, Any]:
    """Prepare a variant and return what came of it."""
    whole = reference(bids_dir, out, draw.head)
    variant = draw.variant(Head.of(whole.native, whole.brain_mask))
    record = {**asdict(draw), "details": variant.details}
    start, cpu = time.monotonic(), time.process_time()
    try:
        prepared, quality = prepare_unjudged(variant.volume)
    except MrharmonyError as refusal:
        return {**record, **_cost(start, cpu), "reason": str(refusal)}
    cost = _cost(start, cpu)
    degrees, millimetres = rigid_error(prepared.rigid_to_template, variant.moved, whole.rigid_to_template)
    return {
        **record,
        **cost,
        "dice": mask_dice(prepared, variant, whole),
        "degrees": degrees,
        "mm": millimetres,
        "findings": [finding.code for finding in prepared.findings],
        "quality": asdict(quality),
    }


def _cost(start: float, cpu: float) -> dict[str, float]:
    return {
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


@dataclass(frozen=True)
class Reference:
    """A head as it is: the scan, its own mask in the same voxel order, its alignment and its size."""

    native: Volume
    brain_mask: BoolArray
    rigid_to_template: Matrix
    size: float

    @property
    def volume_corrected(self) -> Matrix:
        """Native world mm to template world mm, the size taken away."""
        return volume_corrected(self.rigid_to_template, self.size)


def reference(bids_dir: Path, out: Path, head: str) -> Reference:
    """Prepare a head as it is, or take up what an earlier run found."""
    volume = read_scan(bids_dir / f"sub-{head}" / "anat" / f"sub-{head}_T1w.nii.gz").volume
    kept = out / "references" / f"{head}.npz"
    if not kept.is_file():
        prepared = prepare_unjudged(volume)[0]
        kept.parent.mkdir(parents=True, exist_ok=True)
        with staged(kept) as file:
            file.fill(
                lambda stream: np.savez_compressed(
                    stream,
                    mask=prepared.brain_mask,
                    rigid_to_template=prepared.rigid_to_template,
                    size=prepared.size,
                )
            )
            file.commit()
    with np.load(kept, allow_pickle=False) as found:
        return Reference(volume, found["mask"], found["posture"], float(found["size"]))


def mask_dice(prepared: PreparedScan, variant: Variant, whole: Reference) -> float:
    """Compare masks on the head's own grid, where the variant's field of view reaches."""
    there = np.linalg.inv(variant.volume.affine) @ variant.moved @ whole.native.affine
    mask = prepared.brain_mask.astype(np.float32)
    found = affine_transform(mask, there[:3, :3], there[:3, 3], whole.native.shape, order=1) > 0.5
    wanted = whole.brain_mask & _inside(whole.native, there, variant.volume.shape)
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))


def _inside(volume: Volume, there: Matrix, shape: tuple[int, ...]) -> BoolArray:
    """Return the voxels of a volume that lie in another's field of view."""
    places = apply_affine(there, np.moveaxis(np.indices(volume.shape), 0, -1))
    return np.asarray(((places > -0.5) & (places < np.array(shape) - 0.5)).all(axis=-1))


def rigid_error(rigid_to_template: Matrix, moved: Matrix, wanted: Matrix) -> tuple[float, float]:
    """Return how far a variant's alignment is from that of the head: degrees, and mm at the brain's centre."""
    error = rigid_to_template @ moved @ np.linalg.inv(wanted)
    turn = np.degrees(Rotation.from_matrix(error[:3, :3]).magnitude())
    return float(turn), float(np.linalg.norm(apply_affine(error, CENTRE) - CENTRE))


if __name__ == "__main__":
    main()

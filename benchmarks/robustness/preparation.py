"""Prepare variants of real heads and compare with the heads themselves: masks, alignments, gates, seconds.

python -m benchmarks.robustness.preparation BIDS_DIR [--voxel-sizes] [--first N]

The gates were set with a look at the first variants; those made afterwards are counted apart. With
`--voxel-sizes` other variants are made, of the finest and the coarsest voxels. `--first` makes only so many
variants, and the table of those.
"""

import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.records import kept
from benchmarks._shared.reports import save
from benchmarks.robustness.preparation_gates import PARTS, report, summary
from benchmarks.robustness.scan_variants import KINDS, VOXEL_SIZES, Head, Variant
from mrharmony.core.atomic import write_arrays
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import BoolArray, Matrix, Volume
from mrharmony.preparation.pipeline import prepare_with_quality
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.scans.reading import read_scan
from mrharmony.space.grid import CENTRE

SEED = 3
HEADS = (
    *("hh012", "hh015", "la01", "la03", "nsk01", "nsk05", "adi", "pumi", "hh039", "hh052"),
    *("hh072", "hh080", "hh095", "hh104", "la06", "la07", "nsk10", "nsk27", "hh130", "hh150"),
)
LOOKED_AT = 55  # the first variants, on which the gates were set


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
    asked = on_one_thread(__doc__, "bids_dir", voxel_sizes=False, first=220)
    name = "voxel-sizes" if asked.voxel_sizes else ""
    every = draws(VOXEL_SIZES, 0) if asked.voxel_sizes else draws(KINDS, LOOKED_AT)
    records = [
        kept(
            asked.work / f"variants-{name}" / f"{draw.number:03d}.json",
            partial(measure, asked.bids_dir, asked.brains, draw),
        )
        for draw in track(every[: asked.first], "variants")
    ]
    record = summary(records) | {"all": len(every), "gib": max(one["peak_gib"] for one in records)}
    about = f"{len(records)} of {len(every)} variants of {len(HEADS)} heads of five scanners, seed {SEED}"
    save(asked, report(record, asked.command, about), record, name)


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


def measure(bids_dir: Path, cache: Path, draw: Draw) -> dict[str, Any]:
    """Prepare a variant and return what came of it."""
    whole = reference(bids_dir, cache, draw.head)
    variant = draw.variant(Head.of(whole.native, whole.brain_mask))
    begin = time.process_time()
    try:
        found = compared(variant, whole)
    except MrharmonyError as refusal:
        found = {"reason": str(refusal), "cpu_seconds": round(time.process_time() - begin, 1)}
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    return {**asdict(draw), "details": variant.details, "peak_gib": peak, **found}


@dataclass(frozen=True)
class Reference:
    """A head as it is: the scan, its own mask in the same voxel order, and its alignment."""

    native: Volume
    brain_mask: BoolArray
    rigid_to_template: Matrix


def compared(variant: Variant, whole: Reference) -> dict[str, Any]:
    """Prepare a variant; return how far mask and alignment are from the head's, and what the gates see."""
    begin = time.process_time()
    prepared, quality = prepare_with_quality(variant.volume)
    seconds = round(time.process_time() - begin, 1)
    degrees, millimetres = alignment_error(prepared.rigid_to_template, variant.moved, whole.rigid_to_template)
    return {
        "cpu_seconds": seconds,
        "dice": mask_dice(prepared, variant, whole),
        "degrees": degrees,
        "mm": millimetres,
        "findings": [finding.code for finding in prepared.findings],
        "quality": asdict(quality),
    }


def reference(bids_dir: Path, cache: Path, head: str) -> Reference:
    """Prepare a head as it is, or take up what an earlier run found."""
    volume = read_scan(bids_dir / f"sub-{head}" / "anat" / f"sub-{head}_T1w.nii.gz").volume
    file = cache / "references" / f"{head}.npz"
    if not file.is_file():
        made = prepare_with_quality(volume)[0]
        write_arrays(file, {"mask": made.brain_mask, "posture": made.rigid_to_template})
    with np.load(file, allow_pickle=False) as found:
        return Reference(volume, found["mask"], found["posture"])


def mask_dice(prepared: PreparedScan, variant: Variant, whole: Reference) -> float:
    """Compare masks on the head's own grid, where the variant's field of view reaches."""
    there = np.linalg.inv(variant.volume.affine) @ variant.moved @ whole.native.affine
    mask = prepared.brain_mask.astype(np.float32)
    found = affine_transform(mask, there[:3, :3], there[:3, 3], whole.native.shape, order=1) > 0.5
    places = apply_affine(there, np.moveaxis(np.indices(whole.native.shape), 0, -1))
    reached = ((places > -0.5) & (places < np.array(variant.volume.shape) - 0.5)).all(axis=-1)
    wanted = whole.brain_mask & reached
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))


def alignment_error(rigid_to_template: Matrix, moved: Matrix, wanted: Matrix) -> tuple[float, float]:
    """Return how far a variant's alignment is from the head's: degrees, and mm at the brain's centre."""
    error = rigid_to_template @ moved @ np.linalg.inv(wanted)
    turn = np.degrees(Rotation.from_matrix(error[:3, :3]).magnitude())
    return float(turn), float(np.linalg.norm(apply_affine(error, CENTRE) - np.array(CENTRE)))


if __name__ == "__main__":
    main()

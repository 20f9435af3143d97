"""Which brain masks get a warning that lack a part of the brain, lie beside it, or are too small?

python -m benchmarks.calibration.mask_faults BIDS_DIR PREPARED [--name NAME]

PREPARED is what `mrharmony prepare BIDS_DIR PREPARED` wrote. Each head's mask is cut, shifted or eroded, and
what lies around it is judged as `prepare` and `harmonize` do. Noise is added to the head; its standard
deviation is a share of the brain's median. `--name` is for the table of a second data set.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from scipy.ndimage import distance_transform_edt

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.records import kept
from benchmarks._shared.reports import Report, save
from mrharmony.core.progress import track
from mrharmony.core.volume import BoolArray, Volume
from mrharmony.jobs.brains import ScanFile, prepared_scan
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.quality import MaskQuality, figures_around, quality_findings
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.reading import read_scan

SEED = 0
SOUND, CODES = "as found", ("mask-too-small", "mask-lacks-part")
NOISES = (0.05, 0.1, 0.2)
MOVED, ERODED = 4.0, (2.0, 4.0)  # mm
SIDES = {"right": (1, 0, 0), "left": (-1, 0, 0), "front": (0, 1, 0), "back": (0, -1, 0), "up": (0, 0, 1)}
Figures = tuple[float, float]


def main() -> None:
    asked = on_one_thread(__doc__, "bids_dir", "prepared", name="")
    scans = [scan.path for scan in BidsIndex.open(asked.bids_dir, None).scans]
    records = [
        kept(asked.work / f"{scan.name}.json", partial(measured, scan, asked.prepared))
        for scan in track(scans, "heads")
    ]
    shown = Report(
        "Masks that are wrong",
        f"Command: `{asked.command}`",
        "Told: by one of the two figures of what lies 1 to 4 mm around the mask",
    )
    rows = [row(kind, [record[kind] for record in records]) for kind in records[0]]
    figures = "darkness, least: {dark[0]:.2f} | most: {dark[1]:.2f} | closed, least: {closed[0]:.3f} | most: "
    shown.table(rows, f"mask: {{kind}} | heads: {{n}} | told: {{told}} | {figures}{{closed[1]:.3f}}")
    save(asked, shown, {"heads": records}, asked.name)


def measured(scan: Path, prepared: Path) -> dict[str, Figures]:
    """Return both figures of each kind of mask of a head."""
    head = prepared_scan(ScanFile(scan, prepared=prepared), read_scan(scan))
    corrected = head.native.with_voxels(head.intensities())
    noisy = {f"{SOUND}, noise {sd:g}": figures_around(with_noise(head, sd), head.brain_mask) for sd in NOISES}
    return noisy | {kind: figures_around(corrected, mask) for kind, mask in masks(head)}


def with_noise(head: PreparedScan, sd: float) -> Volume:
    """Return a bias-corrected head with noise of so many medians of the brain; magnitudes, as in scans."""
    voxels = head.intensities()
    noise = np.random.default_rng(SEED).normal(0, sd * np.median(voxels[head.brain_mask]), voxels.shape)
    return head.native.with_voxels(np.abs(voxels + noise).astype(np.float32))


def masks(head: PreparedScan) -> Iterator[tuple[str, BoolArray]]:
    """Yield the mask of a head as it was found, and with faults; places in template mm."""
    mask, affine = head.brain_mask, head.rigid_to_template @ head.native.affine
    x, y, z = np.moveaxis(apply_affine(affine, np.moveaxis(np.indices(mask.shape), 0, -1)), -1, 0)
    yield SOUND, mask
    yield "without cerebellum", mask & ~((z < -22) & (y < -35))
    yield "without left temporal pole", mask & ~((x < -20) & (z < 0) & (y > -25))
    yield "without left frontal lobe", mask & ~((x < 0) & (y > 25))
    yield "without rear of occipital lobes", mask & ~(y < -75)
    yield "without vertex", mask & ~(z > 50)
    for side, direction in SIDES.items():
        steps = np.rint(np.linalg.solve(affine[:3, :3], MOVED * np.array(direction))).astype(int)
        yield f"{MOVED:g} mm too far {side}", np.roll(mask, steps, (0, 1, 2))
    depth = distance_transform_edt(mask, sampling=head.native.zooms)
    for thickness in ERODED:
        yield f"{thickness:g} mm too small", depth > thickness


def row(kind: str, figures: list[Figures]) -> dict[str, Any]:
    """Return the row of a kind of mask."""
    dark, closed = np.array(figures).T
    told = sum(is_told(*one) for one in figures)
    return {"kind": kind, "n": len(figures), "told": told} | {
        "dark": (dark.min(), dark.max()),
        "closed": (closed.min(), closed.max()),
    }


def is_told(darkness: float, closed: float) -> bool:
    """Return whether a mask with these figures, all others being usual, gets a warning."""
    usual = MaskQuality(1, 1, 1, darkness, closed, 1, 1, 1.3, 0.8, None, 0)
    return any(finding.code in CODES for finding in quality_findings(usual))


if __name__ == "__main__":
    main()

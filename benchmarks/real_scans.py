"""Harmonize real heads end to end: geometry to the bit, seconds, memory, and a picture beside the input.

python benchmarks/real_scans.py BIDS_DIR OUT_DIR --pair sub-la01:NSK --pair sub-hh012:LA ...

Writes OUT_DIR/real_scans.json and a contact sheet for each scan (pictures of people: never commit them).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from mrharmony.domains.statistics import LANDMARKS, load_statistics
from mrharmony.networks.diffusion.model import STATISTICS
from mrharmony.report.contact_sheet import Panel, contact_sheet
from mrharmony.weights import shipped_model

PLANES = ("sagittal", "coronal", "axial")


def main() -> None:
    """Run every pair and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument(
        "--pair", action="append", required=True, help="sub-LABEL:TARGET or sub-LABEL:TARGET:SOURCE"
    )
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    rows = [run_pair(arguments, *pair.split(":")) for pair in arguments.pair]
    (arguments.out_dir / "real_scans.json").write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    print(json.dumps(rows, indent=2))


def run_pair(
    arguments: argparse.Namespace, subject: str, target: str, source: str | None = None
) -> dict[str, object]:
    """Harmonize one scan in a process of its own; return what was measured."""
    scan = next((arguments.bids_dir / subject).rglob("*_T1w.nii*"))
    output = arguments.out_dir / f"{subject}_to-{target}_desc-harmonized_T1w.nii.gz"
    command = [
        sys.executable,
        "-m",
        "mrharmony",
        "harmonize",
        str(scan),
        "--to",
        target,
        "--output",
        str(output),
    ]
    command += ["--from", source] if source else []
    command += ["--model", str(arguments.model)] if arguments.model else []
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    before, after = nib.load(scan), nib.load(output)
    voxels = after.get_fdata(dtype=np.float32)
    note = json.loads(output.with_name(output.name.replace(".nii.gz", ".json")).read_text("utf-8"))
    draw(before, after, f"{subject} to {target}", arguments.out_dir / f"{subject}_to-{target}.png")
    return {
        "scan": subject,
        "source": source,
        "target": target,
        "shape": list(before.shape),
        "axes": "".join(nib.aff2axcodes(before.affine)),
        "same_grid": before.shape == after.shape
        and np.array_equal(before.affine, after.affine)
        and before.header.get_zooms() == after.header.get_zooms(),
        "finite": bool(np.isfinite(voxels).all()),
        "seconds": round(seconds, 1),
        "peak_gib": round(usage.ru_maxrss / 2**20, 2),
        "distance_to_target": distances(before, after, target, arguments.model or shipped_model()),
        "drift": note["Drift"],
        "verdict": note["Verdict"],
    }


def distances(before: nib.Nifti1Image, after: nib.Nifti1Image, target: str, model: Path) -> list[float]:
    """Return how far the brain's quantile function is from the target's, before and after.

    Mean absolute difference over the landmarks (Wasserstein distance), each image over its own 90th
    percentile; the input without bias correction.
    """
    wanted = load_statistics(model / STATISTICS)[target].quantiles
    brain = after.get_fdata(dtype=np.float32) != 0
    found = []
    for image in (before, after):
        intensities = image.get_fdata(dtype=np.float32)[brain]
        own = np.quantile(intensities, LANDMARKS) / np.percentile(intensities, 90)
        found.append(round(float(np.abs(own - wanted).mean()), 4))
    return found


def draw(before: nib.Nifti1Image, after: nib.Nifti1Image, title: str, path: Path) -> None:
    """Write three planes of the input's brain and of the output, each scaled by its own 95th percentile."""
    images = [nib.as_closest_canonical(image).get_fdata(dtype=np.float32) for image in (before, after)]
    brain = images[1] != 0
    scaled = [image / np.percentile(image[brain], 95) for image in images]
    centre = [int(np.median(place)) for place in np.nonzero(brain)]
    rows = []
    for axis, plane in enumerate(PLANES):
        source, output = (image.take(centre[axis], axis) for image in scaled)
        inside = brain.take(centre[axis], axis)
        panels = [
            Panel("input", source),
            Panel("input, brain", source * inside),
            Panel("harmonized", output),
            Panel("difference", (output - source) * inside, is_difference=True),
        ]
        rows.append((plane, panels))
    contact_sheet(rows, title, path)


if __name__ == "__main__":
    main()

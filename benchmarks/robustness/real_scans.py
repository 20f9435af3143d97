"""Harmonize real heads end to end: geometry to the bit, seconds, memory, drift and verdict.

python -m benchmarks.robustness.real_scans BIDS_DIR --pair sub-la01:NSK --pair sub-hh012:LA [--model MODEL]

A pair is `sub-LABEL:TARGET` or `sub-LABEL:TARGET:SOURCE`. The outputs stay in the work folder; `mrharmony
report` shows them (pictures of people: never commit them).
"""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from benchmarks._shared.command import start
from benchmarks._shared.records import run_mrharmony
from benchmarks._shared.reports import Report, save
from mrharmony.core.volume import BoolArray
from mrharmony.domains.statistics import LANDMARKS, load_statistics
from mrharmony.networks.card import STATISTICS
from mrharmony.weights import shipped_model

Row = dict[str, Any]


def main() -> None:
    asked = start(__doc__, "bids_dir", pair=[str], model=shipped_model())
    rows = [harmonized(asked.bids_dir, asked.work, asked.model, *pair.split(":")) for pair in asked.pair]
    record = {"rows": rows}
    save(asked, report(record, asked.command), record)


def harmonized(
    bids_dir: Path, out: Path, model: Path, subject: str, target: str, source: str | None = None
) -> Row:
    """Harmonize one scan in a process of its own; return what was measured."""
    scan = next((bids_dir / subject).rglob("*_T1w.nii*"))
    output = out / f"{subject}_to-{target}_desc-harmonized_T1w.nii.gz"
    words = ("harmonize", scan, "--to", target, "--output", output, "--model", model)
    cost = run_mrharmony(*words, *(("--from", source) if source else ()))
    before, after = nib.load(scan), nib.load(output)
    note = json.loads(output.with_name(output.name.replace(".nii.gz", ".json")).read_text("utf-8"))
    wanted = load_statistics(model / STATISTICS)[target].quantiles
    brain = after.get_fdata(dtype=np.float32) != 0
    return {
        "scan": subject,
        "source": source,
        "target": target,
        "shape": "×".join(map(str, before.shape)),
        "axes": "".join(nib.aff2axcodes(before.affine)),
        "same_grid": before.shape == after.shape
        and np.array_equal(before.affine, after.affine)
        and before.header.get_zooms() == after.header.get_zooms(),
        "finite": bool(np.isfinite(after.get_fdata(dtype=np.float32)).all()),
        "seconds": cost.seconds,
        "peak_gib": cost.gib,
        "distance_to_target": [distance(image, brain, wanted) for image in (before, after)],
        "drift": note["Drift"],
        "verdict": note["Verdict"],
    }


def distance(image: nib.Nifti1Image, brain: BoolArray, wanted: NDArray[np.floating]) -> float:
    """Return how far the brain's quantile function is from the target's.

    Mean absolute difference over the landmarks (Wasserstein distance), the image over its own 90th
    percentile; the input without bias correction.
    """
    intensities = image.get_fdata(dtype=np.float32)[brain]
    own = np.quantile(intensities, LANDMARKS) / np.percentile(intensities, 90)
    return float(np.abs(own - wanted).mean())


def report(record: Row, command: str) -> Report:
    shown = Report(
        "Real heads, from the raw scan to the harmonized file",
        f"Command: `{command}`",
        "Distance: of the brain's quantiles from the target's, before and after",
    )
    drifts = " | ".join(
        f"{part} drift: {{drift[{part.lower()}_drift]:+.1%}}" for part in ("CSF", "grey", "white")
    )
    shown.table(
        record["rows"],
        "scan: {scan} | voxels: {shape} | axes: {axes} | from: {source:} | to: {target} | "
        "same grid: {same_grid} | finite: {finite} | s: {seconds:.1f} | GiB: {peak_gib:.2f} | "
        "distance before: {distance_to_target[0]:.4f} | after: {distance_to_target[1]:.4f} | "
        f"edge correlation: {{drift[edge_correlation]:.3f}} | {drifts} | verdict: {{verdict}}",
    )
    return shown


if __name__ == "__main__":
    main()

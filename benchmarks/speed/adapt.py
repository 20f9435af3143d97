"""Seconds of `mrharmony adapt` from raw scans to a finished model, step by step, and what known domains lose.

python -m benchmarks.speed.adapt BIDS_DIR --domain HH [--scans 10]

Copies a site's first scans to a data set of their own and adapts the shipped model, which must not know the
site, in processes of their own: for the default method, and for img2img, whose steps end where their files
were last written.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks._shared.command import start
from benchmarks._shared.data_sets import write_data_set
from benchmarks._shared.reports import Report, save
from mrharmony.core.workers import usable_cores
from mrharmony.domains.contrast import CONTRAST_MODELS, load_contrast_models
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.reading import read_scan
from mrharmony.weights import shipped_model

STEPS = {  # what a step writes, in the folder of unfinished work
    "preparation": "brains/*.npz",
    "class images": "*/class-images.safetensors",
    "training": "*/denoiser.safetensors",
}


def main() -> None:
    asked = start(__doc__, "bids_dir", domain=str, scans=10)
    every = [scan for scan in BidsIndex.open(asked.bids_dir).scans if scan.domain == asked.domain]
    chosen = {scan.subject: scan.path for scan in every[: asked.scans]}
    with TemporaryDirectory() as folder:
        write_data_set(Path(folder) / "site", chosen)
        record = adapted(Path(folder)) | {"domain": asked.domain, "scans": len(chosen)}
    record["first"] = str(read_scan(every[0].path).volume)
    save(asked, report(record, asked.command), record)


def adapted(folder: Path) -> dict[str, Any]:
    """Adapt the shipped model for both methods; returns the seconds of each step, and the drift."""
    quick, _, whole = timed(folder, "diffusion")
    begin, drift, end = timed(folder, "img2img")
    seconds, last = {"default method, all": whole - quick}, begin
    for step, pattern in STEPS.items():
        written = max(file.stat().st_mtime for file in (folder / "img2img.training").glob(pattern))
        seconds[f"img2img, {step}"], last = written - last, written
    seconds |= {"img2img, drift, contrast models, model": end - last, "img2img, all": end - begin}
    before, after = (
        load_contrast_models(model / CONTRAST_MODELS) for model in (shipped_model(), folder / "diffusion")
    )
    same = [
        np.array_equal(contrast_model.mixture, after[name].mixture)
        and np.array_equal(contrast_model.curves.offsets, after[name].curves.offsets)
        for name, contrast_model in before.items()
    ]
    about = {"cores": usable_cores(), "seconds": seconds, "drift": drift}
    return about | {"known": len(same), "unchanged": sum(same)}


def timed(folder: Path, method: str) -> tuple[float, dict[str, float], float]:
    """Adapt the shipped model for a method; returns when it began, the drift if any, and when it ended."""
    model, begin = folder / method, time.time()
    command = [sys.executable, "-m", "mrharmony", "adapt", str(folder / "site"), "--output", str(model)]
    words = [*command, "--method", method, "--json"]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return begin, json.loads(done.stdout).get("drift", {}), time.time()


def report(record: dict[str, Any], command: str) -> Report:
    drift = list(record["drift"].values())
    shown = Report(
        "Time of an adaptation, and drift",
        f"Command: `{command}`",
        f"{record['scans']} raw scans of {record['domain']}, the first {record['first']}; "
        f"{record['cores']} cores",
        f"Contrast models of known domains the same to the bit: {record['unchanged']} of {record['known']}",
        f"Drift of the compact model's contrasts of {len(drift)} known domains, canonical units: "
        f"mean {np.mean(drift):.4f}, greatest {max(drift):.4f}",
    )
    shown.table([record["seconds"]], " | ".join(f"{name}: {{{name}:.0f}} s" for name in record["seconds"]))
    return shown


if __name__ == "__main__":
    main()

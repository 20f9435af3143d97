"""Minutes of `mrharmony adapt` from raw scans to a finished model, step by step, and what known domains lose.

python benchmarks/adaptation_time.py BIDS_DIR OUT --domain HH [--scans 10]

Copies a site's first scans to a data set of their own and adapts the shipped model to it in a process of its
own. Steps end where their files were last written. Writes OUT/time.json and .md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mrharmony.core.atomic import write_bytes, write_json
from mrharmony.core.workers import usable_cores
from mrharmony.domains.contrast import load_contrast_models
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.reading import read_scan
from mrharmony.weights import shipped_model

STEPS = {  # what a step writes, in the folder of unfinished work
    "preparation": "brains/*.npz",
    "class images": "*/class-images.safetensors",
    "training": "*/denoiser.safetensors",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--domain", required=True, help="site that the shipped model does not know")
    parser.add_argument("--scans", type=int, default=10)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        first = site(asked.bids_dir, asked.domain, asked.scans, Path(folder) / "site")
        row = adapted(Path(folder), asked.domain) | {"scans": asked.scans, "first": first}
    write_json(asked.out / "time.json", row)
    write_bytes(asked.out / "time.md", markdown(row).encode())


def site(bids_dir: Path, domain: str, count: int, out: Path) -> str:
    """Write a data set of a site's first scans; returns what the first one is."""
    chosen = [scan for scan in BidsIndex.open(bids_dir, "site").scans if scan.domain == domain][:count]
    for scan in chosen:
        copy = out / scan.path.relative_to(bids_dir)
        copy.parent.mkdir(parents=True)
        copy.write_bytes(scan.path.read_bytes())
    rows = "".join(f"sub-{scan.subject}\t{domain}\n" for scan in chosen)
    (out / "participants.tsv").write_text(f"participant_id\tsite\n{rows}", "utf-8")
    (out / "dataset_description.json").write_text('{"Name": "site", "BIDSVersion": "1.10.0"}', "utf-8")
    return str(read_scan(chosen[0].path).volume)


def adapted(folder: Path, domain: str) -> dict[str, Any]:
    """Adapt the shipped model; returns the seconds of each step, and the drift."""
    model, begin = folder / "model", time.time()
    command = [sys.executable, "-m", "mrharmony", "adapt", str(folder / "site"), "--output", str(model)]
    done = subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE, text=True)
    end, seconds, last = time.time(), {}, begin
    for step, pattern in STEPS.items():
        written = max(file.stat().st_mtime for file in (folder / "model.training").glob(pattern))
        seconds[step], last = written - last, written
    seconds |= {"drift, contrast models, model": end - last, "all": end - begin}
    report = json.loads(done.stdout)
    before, after = load_contrast_models(shipped_model()), load_contrast_models(model)
    same = [
        np.array_equal(contrast_model.mixture, after[name].mixture)
        and np.array_equal(contrast_model.curves.offsets, after[name].curves.offsets)
        for name, contrast_model in before.items()
    ]
    return {
        "domain": domain,
        "cores": usable_cores(),
        "seconds": seconds,
        "nearest": report["nearest"],
        "drift": report["drift"],
        "accents": len(same),
        "accents_unchanged": sum(same),
    }


def markdown(row: dict[str, Any]) -> str:
    """Return the report."""
    drift = list(row["drift"].values())
    lines = [
        "# Time of an adaptation, and drift",
        "",
        f"- Command: `python benchmarks/adaptation_time.py BIDS_DIR OUT --domain {row['domain']}`",
        f"- {row['scans']} raw scans of {row['domain']}, the first {row['first']}; {row['cores']} cores",
        f"- Contrast models of known domains the same to the bit: {row['accents_unchanged']} of {row['accents']}",
        f"- Drift of the diffusion model's looks of {len(drift)} known domains, canonical units: "
        f"mean {np.mean(drift):.4f}, greatest {max(drift):.4f}",
        "",
        "| " + " | ".join(row["seconds"]) + " |",
        "|" + "---:|" * len(row["seconds"]),
        "| " + " | ".join(f"{seconds:.0f} s" for seconds in row["seconds"].values()) + " |",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

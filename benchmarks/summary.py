"""Print the main figures of finished benchmarks as Markdown, for docs/results.md.

python benchmarks/summary.py benchmarks/results/clean ...
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HEAD = (
    "| method | PSNR dB | gain dB, 95 % interval | room | SSIM | site, linear | site, CNN | drift % "
    "| slope, 95 % interval | group | ventricle error | s a scan |",
    "|---|---:|---|---:|---:|---:|---:|---:|---|---:|---:|---:|",
)


def main() -> None:
    """Print a table for each folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    for folder in parser.parse_args().folders:
        record = json.loads((folder / "benchmark.json").read_text("utf-8"))
        print(f"## {folder.name}\n\n{record['about']['Command']}\n")
        print("\n".join((*HEAD, *(line(row, record) for row in record["rows"]))), end="\n\n")


def line(row: dict[str, Any], record: dict[str, Any]) -> str:
    """Return a method's line."""
    slope = record["cohort"][row["method"]].get("biology", {}).get("slope_interval")
    cells = [
        row["method"],
        figure(row, "psnr", ".2f"),
        f"{row['gain']:+.2f} ({row['gain_low']:+.2f} to {row['gain_high']:+.2f})" if "gain" in row else "–",
        figure(row, "room", ".0%"),
        figure(row, "ssim", ".4f"),
        figure(row, "probe_linear", ".2f"),
        figure(row, "probe_cnn", ".2f"),
        figure(row, "drift", ".2f"),
        f"{slope['value']:.2f} ({slope['low']:.2f} to {slope['high']:.2f})" if slope else "–",
        figure(row, "group", ".2f"),
        figure(row, "ventricle_error", ".3f"),
        figure(row, "seconds", ".2f"),
    ]
    return "| " + " | ".join(cells) + " |"


def figure(row: dict[str, Any], key: str, form: str) -> str:
    """Return a figure, or a dash where there is none."""
    return "–" if row.get(key) is None else format(row[key], form)


if __name__ == "__main__":
    main()

"""The main figures of finished benchmarks, for docs/results.md; or of a demonstration.

python -m benchmarks.summary RECORD...

RECORD is `benchmark.json` in the output folder of `mrharmony benchmark`, or the output of
`mrharmony demo OUT --seed 0 --json`.
"""

import json
from typing import Any

from benchmarks._shared.command import start
from benchmarks._shared.reports import Report

COLUMNS = (
    "method: {method} | PSNR dB: {psnr:.2f} | gain dB, 95 % interval: {interval:+.2f} | room: {room:.0%} | "
    "SSIM: {ssim:.4f} | site, linear: {probe_linear:.2f} | site, CNN: {probe_cnn:.2f} | "
    "CNN, own scans: {probe_cnn_trained:.2f} | drift %: {drift:.2f} | "
    "slope, 95 % interval: {slope_interval:.2f} | group: {group:.2f} | "
    "ventricle error: {ventricle_error:.3f} | s a scan: {seconds:.2f}"
)
ABSENT = (
    *("psnr", "room", "ssim", "probe_linear", "probe_cnn", "probe_cnn_trained"),
    *("drift", "group", "ventricle_error", "seconds"),
)


def main() -> None:
    asked = start(__doc__, "records...")
    for path in asked.records:
        record = json.loads(path.read_text("utf-8"))
        name, shown = (path.parent.name, benchmark) if "cohort" in record else ("demo", demonstration)
        report = shown(record, name)
        report.write(asked.stem.with_name(f"{asked.stem.name}-{name}"))
        print(report)


def benchmark(record: dict[str, Any], name: str) -> Report:
    """Return the table of a benchmark."""
    report = Report(f"Summary: {name}", f"Command: {record['about']['Command']}")
    report.table((figures(row, record) for row in record["rows"]), COLUMNS)
    return report


def figures(row: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Return a method's figures, None where there is none."""
    slope = record["cohort"][row["method"]].get("biology", {}).get("slope_interval")
    gain = [row["gain"], row["gain_low"], row["gain_high"]] if "gain" in row else None
    intervals = {"interval": gain, "slope_interval": [*slope.values()] if slope else None}
    return {**dict.fromkeys(ABSENT), **row, **intervals}


def demonstration(record: dict[str, Any], name: str) -> Report:
    """Return the tables of a demonstration."""
    facts = "Command: `mrharmony demo OUT --seed 0 --json`", f"Identity SSIM: {record['identity_ssim']:.4f}"
    report = Report("Demonstration", *facts)
    scores = "method: {method} | PSNR dB: {psnr:.2f} | SSIM: {ssim:.4f} | MSE: {mse:.5f}"
    means = ({"method": method, **found} for method, found in record["means"].items())
    report.table(means, scores)
    report.table(record["rows"], f"source: {{source}} | target: {{target}} | {scores}", "directions")
    return report


if __name__ == "__main__":
    main()

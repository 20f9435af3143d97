"""The noise floor: what two scans of one virtual head on one scanner differ by.

python -m benchmarks.robustness.scan_rescan [--heads 4] [--seed 0]

Each head is scanned twice by each scanner: other noise, gain, flip angle and receive field, as the scanner's
own file says.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks._shared.command import start
from benchmarks._shared.heads import GRID
from benchmarks._shared.reports import Report, save
from mrharmony.evaluate.anatomy import repeat_floor
from mrharmony.jobs.brains import ScanFile, load_brain, prepare_positions
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.simulate.cohort import write_cohort
from mrharmony.simulate.cohort_files import true_brain
from mrharmony.simulate.recipe import load_recipe
from mrharmony.simulate.scanner import Scanner, load_scanners


def main() -> None:
    asked = start(__doc__, heads=4, seed=0)
    scanners = [load_scanners()[name] for name in load_recipe("clean").scanners]
    twice = [again for scanner in scanners for again in (scanner, rescanning(scanner))]
    scans = write_cohort(asked.work / "cohort", asked.heads, twice, asked.seed)
    brains = prepared(asked.work / "cohort", asked.brains, scans, len(twice))
    floors = {
        scanner.name: asdict(repeat_floor((head[place], head[place + 1]) for head in brains))
        for place, scanner in zip(range(0, len(twice), 2), scanners, strict=True)
    }
    record = {"heads": asked.heads, "seed": asked.seed, "scanners": floors}
    save(asked, report(record, asked.command), record)


def rescanning(scanner: Scanner) -> Scanner:
    """Return the same scanner by another name, which draws everything random anew."""
    return scanner.model_copy(update={"name": scanner.name + "-again"})


def prepared(cohort: Path, cache: Path, scans: tuple[Path, ...], each: int) -> list[list[CanonicalBrain]]:
    """Return the brains of each head, `each` of them in the order of the scans, voxel on voxel."""
    heads = [scans[begin : begin + each] for begin in range(0, len(scans), each)]
    masks = [true_brain(cohort, head[0].name.split("_")[0].removeprefix("sub-")) for head in heads]
    groups = [[ScanFile(scan, mask) for scan in head] for head, mask in zip(heads, masks, strict=True)]
    files, refused = prepare_positions(groups, GRID, cache)
    if refused:
        raise SystemExit(f"refused: {refused}")
    return [[load_brain(files[scan], GRID) for scan in head] for head in heads]


def report(record: dict[str, Any], command: str) -> Report:
    shown = Report(
        "Scan and rescan: the noise floor of the virtual scanners",
        f"Command: `{command}`",
        f"{record['heads']} heads (warps of the average anatomy), each scanned twice by each scanner",
        f"Seed {record['seed']}, 2 mm; all heads prepared as for a benchmark",
        "Volumes: mean size of the difference; all means over heads",
    )
    rows = [
        {"scanner": name, **floor, "least": min(floor["dice"].values())}
        for name, floor in record["scanners"].items()
    ]
    tissues = {"CSF": "csf", "grey": "grey", "white": "white", "ventricles": "ventricle"}
    volumes = " | ".join(
        f"{name} %: {{volume_difference_percent[{key}]:.2f}}" for name, key in tissues.items()
    )
    shown.table(
        rows,
        f"scanner: {{scanner}} | PSNR dB: {{scores[psnr]:.2f}} | SSIM: {{scores[ssim]:.4f}} | {volumes} | "
        "Dice, least: {least:.3f} | edges: {edge_correspondence:.3f} | moved mm: {displacement_mm:.3f}",
    )
    return shown


if __name__ == "__main__":
    main()

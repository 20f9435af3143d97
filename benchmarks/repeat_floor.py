"""The noise floor: what two scans of one virtual head on one scanner differ by.

python benchmarks/repeat_floor.py OUT

Writes OUT/cohort (each head twice on each scanner: other noise, gain, flip angle and receive field, as the
scanner's own file says), OUT/repeat.json and OUT/repeat.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from mrharmony.benchmark.run import ZOOM
from mrharmony.evaluate.consistency import RepeatFloor, repeat_floor
from mrharmony.jobs.brains import ScanFile, load_brain, prepare_positions
from mrharmony.prepare.canonical import CanonicalBrain
from mrharmony.simulate.cohort import write_cohort
from mrharmony.simulate.cohort_files import true_brain
from mrharmony.simulate.recipe import load_recipe
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.space.grid import Grid

Pair = tuple[CanonicalBrain, CanonicalBrain]
GRID = Grid.working(ZOOM)
AGAIN = "-again"
HEAD = (
    "| scanner | PSNR dB | SSIM | CSF % | grey % | white % | ventricles % | Dice, least | edges | moved mm |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    scanners = [load_scanners()[name] for name in load_recipe("clean").scanners]
    twice = [again for scanner in scanners for again in (scanner, rescanning(scanner))]
    scans = write_cohort(asked.out / "cohort", asked.heads, twice, asked.seed)
    brains = prepared(asked.out, scans, len(twice))
    floors = {
        scanner.name: repeat_floor(pairs(brains, 2 * number, len(twice)))
        for number, scanner in enumerate(scanners)
    }
    record = {"heads": asked.heads, "seed": asked.seed, "zoom_mm": ZOOM}
    record |= {"scanners": {name: asdict(floor) for name, floor in floors.items()}}
    (asked.out / "repeat.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    (asked.out / "repeat.md").write_text(page(floors, asked.heads, asked.seed), "utf-8")


def rescanning(scanner: Scanner) -> Scanner:
    """Return the same scanner by another name, which draws everything random anew."""
    return scanner.model_copy(update={"name": scanner.name + AGAIN})


def prepared(out: Path, scans: tuple[Path, ...], each: int) -> list[CanonicalBrain]:
    """Return the brains of all scans, `each` a head, in their order; those of a head voxel on voxel."""
    heads = [scans[start : start + each] for start in range(0, len(scans), each)]
    masks = [true_brain(out / "cohort", head[0].name.split("_")[0].removeprefix("sub-")) for head in heads]
    groups = [[ScanFile(scan, mask) for scan in head] for head, mask in zip(heads, masks, strict=True)]
    files, refused = prepare_positions(groups, GRID, out / "brains")
    if refused:
        raise SystemExit(f"refused: {refused}")
    return [load_brain(files[scan], GRID) for scan in scans]


def pairs(
    brains: list[CanonicalBrain], first: int, each: int
) -> Iterator[tuple[CanonicalBrain, CanonicalBrain]]:
    """Yield scan and rescan of each head; the scan is number `first` of the head's."""
    for start in range(first, len(brains), each):
        yield brains[start], brains[start + 1]


def page(floors: dict[str, RepeatFloor], heads: int, seed: int) -> str:
    """Return the table as Markdown."""
    intro = (
        "# Scan and rescan: the noise floor of the virtual scanners",
        "",
        "- Command: `python benchmarks/repeat_floor.py OUT`",
        f"- {heads} heads (warps of the average anatomy), each scanned twice by each scanner",
        f"- Seed {seed}, {ZOOM:g} mm; all heads prepared as for a benchmark",
        "- Volumes: mean size of the difference; all means over heads",
        "",
    )
    return "\n".join((*intro, *HEAD, *(line(name, floor) for name, floor in floors.items()))) + "\n"


def line(name: str, floor: RepeatFloor) -> str:
    """Return a scanner's line of the table."""
    volumes = floor.volume_difference_percent
    cells = [
        name,
        f"{floor.scores.psnr:.2f}",
        f"{floor.scores.ssim:.4f}",
        *(f"{volumes[tissue]:.2f}" for tissue in ("csf", "grey", "white", "ventricle")),
        f"{min(floor.dice.values()):.3f}",
        f"{floor.edge_correspondence:.3f}",
        f"{floor.displacement_mm:.3f}",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()

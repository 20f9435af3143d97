"""Does N4 before a simple method raise or lower its PSNR? Virtual heads on two scanners, both known.

python benchmarks/bias_choice.py OUT [--train 4] [--test 6]

Writes OUT/bias_choice.md and .json. Every head is imaged by every scanner on the 2 mm grid of template space.
The truth is the same head on the target scanner: as it comes, and without that scan's receive field.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import numpy as np

from mrharmony.evaluate import paired_scores
from mrharmony.harmonize import ClassicalHarmonizer, fit_statistics
from mrharmony.harmonize.per_scan import brain_on_grid
from mrharmony.prepare import Grid, PreparedScan, intensity_scale
from mrharmony.prepare.bias_field import estimate_bias_field
from mrharmony.progress import track
from mrharmony.scans import write_json
from mrharmony.scans.atomic import write_bytes
from mrharmony.simulate import Anatomy, Scanner, draw_scan, load_scanners, render, virtual_head
from mrharmony.volume import Domain, FloatArray, Volume

SCANNERS = ("mprage-3t", "spgr-1.5t", "mprage-3t-array")
METHODS = ("none", "histogram", "regional", "regional-scan")
TRUTHS = ("as it comes", "without its field")
GRID = Grid.working(2.0)
SEED = 7


@dataclass(frozen=True)
class Scanned:
    """A head on one scanner: prepared without and with N4, and the truths that it is for other scanners."""

    prepared: dict[bool, PreparedScan]
    truths: dict[str, FloatArray]


def main() -> None:
    """Image the heads, fit and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=4)
    parser.add_argument("--test", type=int, default=6)
    arguments = parser.parse_args()
    count = arguments.train + arguments.test
    heads = [scanned_head(number) for number in track(range(count), "heads")]
    rows = judge(heads[: arguments.train], heads[arguments.train :])
    write_json(arguments.out / "bias_choice.json", {"seed": SEED, "rows": rows})
    write_bytes(arguments.out / "bias_choice.md", markdown(rows, arguments.train, arguments.test).encode())


def scanned_head(number: int) -> dict[str, Scanned]:
    """Make a head and image it with every scanner."""
    anatomy = virtual_head(np.random.default_rng([SEED, number]), GRID)
    scanners = load_scanners()
    return {
        name: scan(anatomy, scanners[name], np.random.default_rng([SEED, number, place]))
        for place, name in enumerate(SCANNERS)
    }


def scan(anatomy: Anatomy, scanner: Scanner, rng: np.random.Generator) -> Scanned:
    """Image a head once."""
    draw = draw_scan(scanner, rng)
    noise = int(rng.integers(2**32))
    even = replace(draw, bias=np.zeros_like(draw.bias))
    images = [render(anatomy, scanner, each, np.random.default_rng(noise)) for each in (draw, even)]
    mask = anatomy.brain_mask
    truths = {name: image / intensity_scale(image[mask]) for name, image in zip(TRUTHS, images, strict=True)}
    volume = Volume(images[0], anatomy.affine)
    return Scanned({n4: prepared(volume, mask, n4) for n4 in (False, True)}, truths)


def prepared(volume: Volume, mask: np.ndarray, n4: bool) -> PreparedScan:
    """Prepare a scan whose brain and posture are known."""
    field = estimate_bias_field(volume, mask) if n4 else np.ones(volume.shape, np.float32)
    scale = intensity_scale((volume.voxels / field)[mask])
    return PreparedScan(volume, mask, field, np.eye(4), scale, skull_stripped=True, findings=())


def judge(train: list[dict[str, Scanned]], test: list[dict[str, Scanned]]) -> list[dict[str, object]]:
    """Return the mean PSNR over directions and heads, without and with N4, for each method and truth."""
    found: dict[tuple[str, str], dict[bool, list[float]]] = {}
    for n4 in (False, True):
        statistics = fit_statistics(
            {name: [brain_on_grid(head[name].prepared[n4]) for head in train] for name in SCANNERS}
        )
        for method in METHODS:
            harmonizer = ClassicalHarmonizer(method, statistics, "brain")
            for source, target in permutations(SCANNERS, 2):
                for head in test:
                    output = harmonizer.intensities(
                        head[source].prepared[n4], Domain(source, source), Domain(target, target)
                    )
                    for truth, wanted in head[target].truths.items():
                        mask = head[source].prepared[n4].brain_mask
                        score = paired_scores(output, wanted, mask).psnr
                        found.setdefault((method, truth), {}).setdefault(n4, []).append(score)
    return [row(method, truth, scores) for (method, truth), scores in found.items()]


def row(method: str, truth: str, scores: dict[bool, list[float]]) -> dict[str, object]:
    """Return a line of the table, with the interval of the mean gain over heads and directions."""
    without, with_n4 = (np.array(scores[n4]) for n4 in (False, True))
    gain = with_n4 - without
    half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
    return {
        "method": method,
        "truth": truth,
        "without": float(without.mean()),
        "with_n4": float(with_n4.mean()),
        "gain": float(gain.mean()),
        "interval": [float(gain.mean() - half), float(gain.mean() + half)],
        "helped": f"{int((gain > 0).sum())} of {len(gain)}",
    }


def markdown(rows: list[dict[str, object]], train: int, test: int) -> str:
    """Return the report."""
    lines = [
        "# N4 before harmonization",
        "",
        "- Command: `python benchmarks/bias_choice.py OUT`",
        f"- {train} heads fit, {test} heads judge, {len(SCANNERS)} scanners ({', '.join(SCANNERS)}), all "
        f"directions, 2 mm, seed {SEED}",
        "- Truth: the same head on the target scanner, as it comes or without that scan's receive field",
        "- Interval: normal 95 % of the mean over scans",
        "",
        "| method | truth | PSNR without N4 | with N4 | gain dB, 95 % interval | scans helped |",
        "|---|---|---:|---:|---|---:|",
    ]
    for found in rows:
        low, high = found["interval"]  # type: ignore[misc]
        lines.append(
            f"| {found['method']} | {found['truth']} | {found['without']:.2f} | {found['with_n4']:.2f} | "
            f"{found['gain']:+.2f} ({low:+.2f} to {high:+.2f}) | {found['helped']} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()

"""Tables and figure of benchmarks/guidance.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

Record = dict[str, Any]
FIGURES = {"psnr": "PSNR dB", "tone": "W₂", "edges": "edges %", "volumes": "volumes %"}
PARTS = {"look": "look", "lock": "look through the lock", "method": "method"}
SHOWN = {"look": tuple(FIGURES), "lock": ("psnr", "tone", "edges"), "method": ("psnr", "tone", "edges")}
SAMPLERS = {
    "structure": "structure, from drawn noise",
    "ddib 0": "DDIB, plain",
    "ddib 2": "DDIB, refined twice",
}


def markdown(record: Record) -> str:
    """Return the report."""
    ceilings = {"virtual": record["round trip"], "real, of the same people": record["real round trip"]}
    lines = [
        "# Sampling: guidance weights, evaluations, DDIB, the autoencoder",
        "",
        *about(record),
        "",
        "## Other methods on the same slices",
        "",
        *heading("method", *FIGURES.values()),
        *(row([name, *cells(scores)]) for name, scores in record["rivals"].items()),
        "",
        "## The autoencoder's ceiling",
        "",
        "Whole brains, encoded and decoded, against themselves.",
        "",
        *heading("brains", "SSIM", *FIGURES.values()),
        *(row([name, f"{scores['ssim']:.4f}", *cells(scores)]) for name, scores in ceilings.items()),
        "",
        "## Guidance weights, one step",
        "",
        *table(["prompt weight", "input weight"], {tuple(n.split()): s for n, s in record["grid"].items()}),
        "",
        "## Quality against evaluations",
        "",
        *table(["sampler", "steps", "evaluations"], by_sampler(record["curve"])),
        "",
        f"One direction of one head, every {record['about']['few']}th slice, up to 1000 steps:",
        "",
        *table(["sampler", "steps", "evaluations"], by_sampler(record["few"])),
    ]
    return "\n".join(lines) + "\n"


def about(record: Record) -> list[str]:
    """Return how the figures were made and what they mean."""
    known, seconds = record["about"], record["seconds an evaluation"]
    sources = ", ".join(f"person {number} on {name}" for number, name in known["scans"])
    return [
        "- Command: `python benchmarks/guidance.py BIDS_DIR WORK --domain HH --output FOLDER "
        f"--scans {len(known['scans'])}`",
        f"- Virtual people (seed {known['seed']}) on training subjects' anatomies: {sources}; "
        f"each to the others of {', '.join(known['scanners'])}; every {known['every']}th coronal slice of "
        "2 mm; shipped model",
        "- PSNR and W₂ (distance of the slices' tones, canonical units) to the true scan of the same head",
        "- Anatomy drift from the scan, contrast taken away: edges, 1 - edge correspondence within slices; "
        "volumes, greatest drift of a tissue",
        f"- One evaluation of the denoiser on a head of {seconds['slices']} slices: "
        f"{seconds['evaluation']:.2f} s of processor, one thread; a look of one step, decoded: "
        f"{seconds['one step with decoding']:.2f} s",
    ]


def by_sampler(found: Record) -> dict[tuple[str, ...], Any]:
    """Return scores by sampler, steps and evaluations."""
    return {(SAMPLERS[sampled(n)[0]], n.split()[-1], str(sampled(n)[1])): s for n, s in found.items()}


def table(first: Sequence[str], found: dict[tuple[str, ...], Any]) -> list[str]:
    """Return a table with a line for each setting: the figures of look, lock and method."""
    names = [f"{what}: {FIGURES[key]}" for part, what in PARTS.items() for key in SHOWN[part]]
    lines = heading(*first, *names, "own domain, look: PSNR dB")
    for setting, scores in found.items():
        figures = [cell for part in PARTS for cell in cells(scores[part], SHOWN[part])]
        lines.append(row([*setting, *figures, f"{scores['identity']['psnr']:.2f}"]))
    return lines


def heading(first: str, *others: str) -> list[str]:
    return [row([first, *others]), row(["---", *["---:"] * len(others)])]


def cells(scores: dict[str, float], keys: Sequence[str] = tuple(FIGURES)) -> list[str]:
    forms = {"psnr": ".2f", "tone": ".3f", "edges": ".2f", "volumes": ".1f"}
    return [format(scores[key] * (100 if key == "edges" else 1), forms[key]) for key in keys]


def row(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def sampled(name: str) -> tuple[str, int]:
    """Return the sampler of a setting, and how often it evaluates the denoiser for a look."""
    kind, *numbers = name.split()
    steps = int(numbers[-1])
    if kind == "structure":
        return kind, steps
    return f"{kind} {numbers[0]}", steps * (2 + int(numbers[0]))  # the inversion, and the sampling


def draw(path: Path, record: Record) -> None:
    """Write the figure: the weights' trade-off above, quality against evaluations below."""
    figure = Figure(figsize=(14.5, 9.2), layout="constrained")
    above, below = figure.subplots(2, 3)
    draw_weights(above[0], record, "look", "psnr")
    draw_weights(above[1], record, "look", "tone")
    draw_weights(above[2], record, "lock", "psnr")
    draw_evaluations(below[0], record, ("look", "method"), "psnr")
    draw_evaluations(below[1], record, ("look",), "edges")
    draw_evaluations(below[2], record, ("identity",), "psnr")
    FigureCanvasAgg(figure).print_png(str(path))


NAMES = {
    "psnr": "PSNR to the true target scan, dB",
    "tone": "W₂ to the target's tone",
    "edges": "edges lost, %",
}


def draw_weights(axis: Axes, record: Record, part: str, score: str) -> None:
    """Draw likeness against anatomy drift: a line for each input weight, along the prompt weights."""
    grid = {tuple(map(float, name.split())): scores[part] for name, scores in record["grid"].items()}
    for input_weight in sorted({key[1] for key in grid}):
        line = [(key[0], scores) for key, scores in grid.items() if key[1] == input_weight]
        across, up = [100 * s["edges"] for _, s in line], [s[score] for _, s in line]
        axis.plot(across, up, "o-", markersize=4, linewidth=1, label=f"input weight {input_weight:g}")
        for (prompt_weight, _), x, y in zip(line, across, up, strict=True):
            axis.annotate(f"{prompt_weight:g}", (x, y), (3, 3), textcoords="offset points", fontsize=7)
    ticks = (0, 0.1, 1, 10) if part == "lock" else (15, 20, 30, 50, 100)
    axis.set_xscale("symlog", linthresh=0.1, linscale=0.4)
    axis.set_xticks(ticks)
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    usual = grid[1.0, 1.0]
    axis.plot(100 * usual["edges"], usual[score], "s", markersize=12, markerfacecolor="none", color="red")
    axis.set_xlabel(f"anatomy drift of {PARTS[part]}: {NAMES['edges']}")
    axis.set_ylabel(NAMES[score])
    axis.set_title(f"{PARTS[part]}; numbers: prompt weight; red: both 1", fontsize=10)
    axis.legend(fontsize=7)


def draw_evaluations(axis: Axes, record: Record, parts: Sequence[str], score: str) -> None:
    """Draw a score against the evaluations that a look takes, DDIB's inversion among them."""
    own = parts == ("identity",)
    for number, (sampler, label) in enumerate(SAMPLERS.items()):
        for part, line in zip(parts, ("-", "--"), strict=False):
            points = [
                (sampled(name)[1], scores[part][score] * (100 if score == "edges" else 1))
                for name, scores in record["curve"].items()
                if sampled(name)[0] == sampler
            ]
            title = f"{label}: {PARTS[part]}" if len(parts) > 1 else label
            axis.plot(*zip(*points, strict=True), f"o{line}", color=f"C{number}", markersize=4, label=title)
    if score == "psnr" and "look" in parts:
        for name, scores in record["rivals"].items():
            axis.axhline(scores["psnr"], color="grey", linewidth=0.6)
            axis.annotate(
                name, (0.99, scores["psnr"]), xycoords=("axes fraction", "data"), ha="right", fontsize=7
            )
    if own:
        axis.axhline(record["round trip"]["psnr"], color="grey", linewidth=0.6, label="autoencoder")
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_xlabel("evaluations of the denoiser for a look")
    axis.set_ylabel("PSNR to the scan itself, dB" if own else NAMES[score])
    axis.set_title("source = target, the look" if own else " and ".join(PARTS[p] for p in parts), fontsize=10)
    axis.legend(fontsize=7, framealpha=1)

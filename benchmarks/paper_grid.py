"""The paper's evaluation, with the whole grid of strength and guidance on judged scans too.

python benchmarks/paper_grid.py BIDS_DIR --from A --to B --work DIR --results benchmarks/results/paper/NAME \
    [--domain-column session] [--slices 2] [--images 4] [--grid-images 4] [--steps 1000] [--whole-images N]
    [--fitted METHOD=DIR] [--pictures]

Writes NAME.md, NAME.json and NAME-grid.png; with --pictures NAME-figure-1.png and NAME-figure-2.png too
(pictures of real people: never commit them). Killed and called again it goes on where it was.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mrharmony.benchmark.paper.figures import draw_grid
from mrharmony.benchmark.paper.grid import Cell, best_cell, measure_grid, score_images
from mrharmony.benchmark.paper.study import PaperRequest, Study, cell_record, evaluate_paper, open_study
from mrharmony.core.atomic import write_json, write_text
from mrharmony.networks.diffusion.translation import TranslationSettings
from mrharmony.weights import shipped_model


def main() -> None:
    """Run the study and the grid, and write what may be committed."""
    arguments = parsed()
    request = PaperRequest(
        arguments.bids_dir,
        arguments.source,
        arguments.target,
        arguments.work,
        shipped_model(),
        fitted={name: Path(folder) for name, folder in (one.split("=", 1) for one in arguments.fitted)},
        domain_column=arguments.domain_column,
        slices=arguments.slices,
        images=arguments.images,
        steps=arguments.steps,
        workers=arguments.workers,
    )
    record = evaluate_paper(request)
    study = open_study(request)
    whole = whole_preset(study, arguments.whole_images) if arguments.whole_images else {}
    on = "judged scans" if arguments.grid_images else "training scans"
    if arguments.grid_images:
        settings = request.search.model_copy(update={"num_images_per_prompt": arguments.grid_images})
        cells = measure_grid(study.folder, *study.judged, settings)
    else:
        cells = measure_grid(study.folder, *study.training, request.search)
    chosen = record["best"]["strength"], record["best"]["guidance"]
    names = [way.name for way in study.judged]
    results = arguments.results
    results.parent.mkdir(parents=True, exist_ok=True)
    grid = {"grid_on": on, "grid": [cell_record(cell) for cell in cells]}
    write_json(results.with_name(f"{results.name}.json"), record | whole | grid)
    text = markdown(record["table"], f"{on}, {names[0]} (between) and {names[1]} (within)", cells, chosen)
    write_text(results.with_name(f"{results.name}.md"), text)
    title = f"{names[0]} and {names[1]}, {on}; red: chosen on training scans"
    draw_grid(results.with_name(f"{results.name}-grid.png"), title, cells, chosen)
    if arguments.pictures:
        for figure in ("figure-1.png", "figure-2.png"):
            shutil.copy(arguments.work / figure, results.with_name(f"{results.name}-{figure}"))
    sys.stdout.write(text)


def whole_preset(study: Study, images: int) -> dict[str, object]:
    """Run the paper's 1000 steps on the slices between domains, whatever the study's number of steps was."""
    between = study.judged[0]
    settings = TranslationSettings.paper("all").model_copy(update={"num_images_per_prompt": images})
    made = study.folder.translate(between.slices, between.target, settings)
    return {
        "whole_preset": {
            "direction": between.name,
            "images_of_a_slice": images,
            "processor_seconds_an_image": made.processor_seconds,
            "processor_minutes_for_100_images_of_a_slice": made.processor_seconds * 100 / 60,
            "scores": asdict(score_images(made.images, between)),
        }
    }


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("--from", dest="source", required=True)
    parser.add_argument("--to", dest="target", required=True)
    parser.add_argument("--domain-column", default="site")
    parser.add_argument(
        "--work", type=Path, required=True, help="output of the study; holds brains and images"
    )
    parser.add_argument("--results", type=Path, required=True, help="folder and first word of the results")
    parser.add_argument("--slices", type=int, default=2)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--grid-images", type=int, default=4, help="0: the search's grid alone")
    parser.add_argument("--whole-images", type=int, default=0, help="of 1000 steps, where --steps are fewer")
    parser.add_argument("--fitted", action="append", default=[], metavar="METHOD=DIR")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--pictures", action="store_true")
    return parser.parse_args()


def markdown(table: str, where: str, cells: Sequence[Cell], chosen: tuple[float, float]) -> str:
    """Return the table of methods and that of the grid."""
    oracle = min(cells, key=lambda cell: (cell.between.to_truth or cell.between.to_input).mse)
    lines = [table, f"Strength and guidance on {where}:\n"]
    head = ("strength", "guidance", "SSIM between", "SSIM within", "MSE between", "MSE within")
    lines += [row([*head, "W₂ between", "MSE to the truth", "estimated error"]), row(["---:"] * 9)]
    lines += [row(_cells(cell)) for cell in cells]
    best, own = f"strength {chosen[0]:g}, guidance {chosen[1]:g}", best_cell(cells)
    lines.append(f"\nChosen on training scans: {best}. By the same estimate in this grid: ")
    lines[-1] += f"strength {own.strength:g}, guidance {own.guidance:g}."
    if oracle.between.to_truth:
        lines[-1] += f" Of the least MSE to the truth: {oracle.strength:g}, {oracle.guidance:g}."
    return "\n".join(lines) + "\n"


def _cells(cell: Cell) -> list[str]:
    between, within, truth = cell.between, cell.within, cell.between.to_truth
    scores = (between.to_input.ssim, within.to_input.ssim, between.to_input.mse, within.to_input.mse)
    return [
        f"{cell.strength:g}",
        f"{cell.guidance:g}",
        *(f"{score:.4f}" for score in (*scores, between.tone)),
        f"{truth.mse:.4f}" if truth else "–",
        f"{cell.error:.4f}",
    ]


def row(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()

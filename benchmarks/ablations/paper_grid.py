"""The paper's evaluation, with the whole grid of strength and guidance on evaluated scans too.

python -m benchmarks.ablations.paper_grid BIDS_DIR --source A --target B --name NAME
    [--domain-column session] [--slices 2] [--images 4] [--grid-images 4] [--steps 1000] [--whole-images N]
    [--fitted METHOD=DIR] [--pictures]

`--grid-images 0` takes the grid of the search on training scans alone; `--whole-images N` also runs the
paper's 1000 steps where `--steps` are fewer. Writes tables and the grid's figure under NAME; with
`--pictures` figures 1 and 2 too (pictures of real people: never commit them). Killed and called again it goes
on where it was.
"""

import shutil
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks._shared.command import start
from benchmarks._shared.reports import Report, save
from mrharmony.benchmark.paper.grid import draw_grid, measure_grid, score_images
from mrharmony.benchmark.paper.slices import PaperRequest, StudyPlan
from mrharmony.benchmark.paper.study import Study, cell_record, evaluate_paper, open_study
from mrharmony.networks.translation import TranslationSettings
from mrharmony.weights import shipped_model


def main() -> None:
    ends: dict[str, object] = {"source": str, "target": str, "name": str, "domain_column": "site"}
    numbers = {"slices": 2, "images": 4, "steps": 1000, "grid_images": 4, "whole_images": 0}
    asked = start(__doc__, "bids_dir", **ends, **numbers, fitted=[], pictures=False)
    asked.work /= asked.name
    asked.work.mkdir(parents=True, exist_ok=True)
    request = request_of(asked)
    record = evaluate_paper(request)
    study = open_study(request, StudyPlan.make(request))
    if asked.whole_images:
        record["whole_preset"] = whole_preset(study, asked.whole_images)
    if asked.grid_images:
        settings = request.search.model_copy(update={"num_images_per_prompt": asked.grid_images})
        cells = measure_grid(study.folder, *study.tested, settings)
    else:
        cells = measure_grid(study.folder, *study.training, request.search)
    record["grid"] = [cell_record(cell) for cell in cells]
    record["grid_on"] = "evaluated scans" if asked.grid_images else "training scans"
    record["directions"] = [way.name for way in study.tested]
    save(asked, report(record, asked.command), record, asked.name)
    stem, (between, within) = f"{asked.stem.name}-{asked.name}", record["directions"]
    title = f"{between} and {within}, {record['grid_on']}; red: chosen on training scans"
    chosen = record["best"]["strength"], record["best"]["guidance"]
    draw_grid(asked.output / f"{stem}-grid.png", title, cells, chosen)
    for figure in ("figure-1.png", "figure-2.png") if asked.pictures else ():
        shutil.copy(asked.work / figure, asked.output / f"{stem}-{figure}")


def request_of(asked: Namespace) -> PaperRequest:
    """Return the study as it is asked for."""
    fitted = (one.split("=", 1) for one in asked.fitted)
    return PaperRequest(
        *(asked.bids_dir, asked.source, asked.target, asked.work, shipped_model()),
        fitted={method: Path(folder) for method, folder in fitted},
        domain_column=asked.domain_column,
        slices=asked.slices,
        images=asked.images,
        steps=asked.steps,
    )


def whole_preset(study: Study, images: int) -> dict[str, object]:
    """Run the paper's 1000 steps on the slices between domains, whatever the study's number of steps was."""
    between = study.tested[0]
    settings = TranslationSettings.paper("all").model_copy(update={"num_images_per_prompt": images})
    made = study.folder.translate(between.slices, between.target, settings)
    return {
        "direction": between.name,
        "images_of_a_slice": images,
        "processor_seconds_an_image": made.processor_seconds,
        "processor_minutes_for_100_images_of_a_slice": made.processor_seconds * 100 / 60,
        "scores": asdict(score_images(made.images, between)),
    }


def report(record: dict[str, Any], command: str) -> Report:
    between, within = record["directions"]
    shown = Report(f"The paper's evaluation: {between}, {within}", f"Command: `{command}`")
    shown.markdown_table(record["table"], "methods")
    shown.text(
        f"Strength and guidance on {record['grid_on']}, {between} (between) and {within} (within):",
    )
    cells = [{**cell, "truth": cell["between"]["to_truth"]} for cell in record["grid"]]
    has_truth = cells[0]["truth"] is not None
    truth = "{truth[mse]:.4f}" if has_truth else "–"
    shown.table(
        cells,
        "strength: {strength:g} | guidance: {guidance:g} | SSIM between: {between[to_input][ssim]:.4f} | "
        "SSIM within: {within[to_input][ssim]:.4f} | MSE between: {between[to_input][mse]:.4f} | "
        "MSE within: {within[to_input][mse]:.4f} | W₂ between: {between[tone]:.4f} | "
        f"MSE to the truth: {truth} | estimated error: {{error:.4f}}",
        "grid",
    )
    best, own = record["best"], min(cells, key=lambda cell: cell["error"])
    last = f"Chosen on training scans: {setting(best)}. By the same estimate in this grid: {setting(own)}."
    if has_truth:
        nearest = min(cells, key=lambda cell: cell["truth"]["mse"])
        last += f" Of the least MSE to the truth: {setting(nearest)}."
    shown.text(last)
    return shown


def setting(cell: dict[str, Any]) -> str:
    return f"strength {cell['strength']:g}, guidance {cell['guidance']:g}"


if __name__ == "__main__":
    main()

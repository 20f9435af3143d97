"""The paper's evaluation of any two domains: Table 2, Figures 1 and 2, and the search for better settings."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mrharmony.benchmark.paper.grid import (
    Cell,
    DirectionScores,
    best_cell,
    draw_grid,
    measure_grid,
    score_images,
)
from mrharmony.benchmark.paper.methods import PaperMethod, PictureFolder, fitted_methods, translations
from mrharmony.benchmark.paper.slices import (
    SEARCH_SLICES,
    Direction,
    PaperRequest,
    PaperScan,
    PaperSlices,
    StudyPlan,
    StudyScans,
    study_scans,
)
from mrharmony.core.atomic import read_json, write_json, write_text
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.markdown import escaped
from mrharmony.core.progress import track
from mrharmony.core.version import __version__
from mrharmony.core.wording import count_of
from mrharmony.evaluate.paper import PaperRow, SliceScores, as_picture, image_scores, paper_table
from mrharmony.jobs.derivatives import require_place_beside_scans
from mrharmony.methods.image_to_image import load_image_to_image
from mrharmony.methods.protocol import MethodSettings
from mrharmony.networks.card import CARD, ModelCard, model_hash, read_card
from mrharmony.networks.translation import TranslationSettings
from mrharmony.report.contact_sheet import Panel, contact_sheet

Record = dict[str, Any]
WRITTEN = ("paper.md", "paper.json", "figure-1.png", "figure-2.png", "search.png")
BEGUN = "evaluation.json"  # in the folder of unfinished work: whose the results beside it are
STUDY = "study.json"  # in a folder of `mrharmony paper`: what it is about


@dataclass(frozen=True)
class Study:
    """The images, the scans, and the directions of the table and of the search."""

    folder: PictureFolder
    scans: StudyScans
    tested: tuple[Direction, Direction]  # between, within
    training: tuple[Direction, Direction]  # the same with training scans
    volume_corrected: bool  # whether the slices are of brains of the template's size


def evaluate_paper(request: PaperRequest) -> Record:
    """Repeat the paper's evaluation of a model: as `evaluate_study`, in a folder of its own.

    Raises `MrharmonyError` where the folder holds an experiment of `mrharmony paper`, or files that mrharmony
    did not write, or lies among the scans.
    """
    require_own_folder(request)
    if os.path.lexists(request.output / STUDY):
        raise MrharmonyError(
            f"{request.output}: holds an experiment of `mrharmony paper`, whose table would be replaced. "
            "Name another output."
        )
    return evaluate_study(request)


def evaluate_study(request: PaperRequest) -> Record:
    """Write `paper.md`, `paper.json` and three figures; return the record.

    Raises `MrharmonyError` where the model or a fitted method has learned from a judged subject, or no scan
    can be used.
    """
    card, plan = read_card(request.model), StudyPlan.make(request)
    for directory in (request.model, *request.fitted.values()):
        plan.require_unseen(directory)
    plain, missing = fitted_methods(request)
    study = open_study(request, plan)
    write_json(request.work / BEGUN, {"program": "mrharmony", "version": __version__})
    cells = measure_grid(study.folder, *study.training, request.search)
    best = best_cell(cells)
    settings = best_settings(request, best)
    methods = (*plain, *translations(study.folder, request.paper, settings))
    rows, refusing = table_rows(study.tested, methods)
    table = paper_table(row.printed() for row in rows)
    table += _sampling(request.paper, settings) + _judged(study) + _left_out(study, missing | refusing)
    table += _remark(card, plan) + _remark_on_fitted(request)
    record: Record = {
        "about": _about(request, study),
        "best": {"strength": best.strength, "guidance": best.guidance, "steps": settings.num_inference_steps},
        "rows": [asdict(row) for row in rows],
        "search": [cell_record(cell) for cell in cells],
        "cost": _cost(study, request.paper, settings),
        "table": table,
        "left_out": missing | refusing,
        "refused": study.scans.refused,
    }
    once = [one.model_copy(update={"num_images_per_prompt": 1}) for one in (request.paper, settings)]
    _draw(request, study, methods, (*plain, *translations(study.folder, *once)))
    draw_grid(
        request.output / "search.png",
        " and ".join(way.name for way in study.training) + ", training scans",
        cells,
        (best.strength, best.guidance),
    )
    write_text(request.output / "paper.md", table)
    write_json(request.output / "paper.json", record)
    return record


def require_own_folder(request: PaperRequest) -> None:
    """Raise `MrharmonyError` where an output lies among the scans, or has a file of somebody else.

    That is one that an evaluation would write in a folder that none has begun.
    """
    require_place_beside_scans(request.bids_dir, request.output)
    taken = next((name for name in WRITTEN if os.path.lexists(request.output / name)), None)
    if taken and (read_json(request.work / BEGUN) or {}).get("program") != "mrharmony":
        raise MrharmonyError(
            f"{request.output / taken}: mrharmony did not write it, and would replace it. Name another."
        )


def _sampling(asked: TranslationSettings, best: TranslationSettings) -> str:
    """Return how both rows of image-to-image were sampled, beside what the paper says of its own."""
    paper = TranslationSettings.paper()
    own, its = ((one.num_inference_steps, one.num_images_per_prompt) for one in (asked, paper))
    return (
        f"\nThe paper's settings: {own[0]} steps and {own[1]} images a slice; the paper has {its[0]} and "
        f"{its[1]}. Best settings: strength {best.strength:g}, guidance {best.guidance_scale:g}, "
        f"{best.num_inference_steps} steps.\n"
    )


def _remark(card: ModelCard, plan: StudyPlan) -> str:
    """Return what stands below the table where the model may have seen who it is judged on, else nothing."""
    own = (card.find(name) for name in (plan.source, plan.target))
    names = {domain.name for domain in own if domain}
    if card.training_scans or not any(d.scans for d in card.domains if d.name in names):
        return ""
    return (
        "\nThe model does not say whom it was trained on, and it knows scans of these domains: if it has "
        "seen the judged subjects, the rows of image-to-image and of the round trip are too good.\n"
    )


def _judged(study: Study) -> str:
    """Return which model made the images, and of whom."""
    lines = [f"Model {study.folder.model_sha256[:12]}, judged on:\n"]
    for way in study.tested:
        counts = Counter(way.slices.scans[owner].name for owner in way.slices.owners)
        judged = ", ".join(f"{name} ({count_of(count, 'slice')})" for name, count in counts.items())
        lines.append(f"- {escaped(way.name)}: {escaped(judged)}")
    return "\n" + "\n".join(lines) + "\n"


def _left_out(study: Study, methods: Mapping[str, str]) -> str:
    """Return which scans and methods are not in the table, and why; nothing where all are."""
    lost = {**study.scans.refused, **methods}
    lines = "".join(f"- {escaped(name)}: {escaped(reason)}\n" for name, reason in lost.items())
    return f"\nLeft out:\n\n{lines}" if lost else ""


def _remark_on_fitted(request: PaperRequest) -> str:
    """Return which fitted methods do not say whom they have learned from; nothing where all do."""
    silent = [
        name
        for name, directory in request.fitted.items()
        if not ((directory / CARD).is_file() and read_card(directory).training_scans)
    ]
    if not silent:
        return ""
    return (
        f"\n{', '.join(silent)}: not said whom it was fitted on. If it has seen the judged subjects, its "
        "rows are too good.\n"
    )


def open_study(request: PaperRequest, plan: StudyPlan) -> Study:
    """Open the model, prepare the scans and draw the slices."""
    card = read_card(request.model)
    card.domain(request.target)
    settings = MethodSettings(device=request.device, lock=False, translation=request.paper)
    opened = load_image_to_image(request.model, settings)
    scans = study_scans(request, plan, opened.grid, opened.volume_corrected)
    folder = PictureFolder(request.work / "images", opened.model, card, model_hash(request.model))

    def direction(source: str, given: Sequence[PaperScan], slices: int) -> Direction:
        drawn = PaperSlices.draw(given, opened.model.axis, slices, request.seed)
        return Direction(source, scans.target, drawn, drawn.tones(scans.tones))

    tested = [(scans.source, scans.between), (scans.target, scans.within)]
    training = [(scans.source, scans.search_between), (scans.target, scans.search_within)]
    between, within = (direction(*given, request.slices) for given in tested)
    search_between, search_within = (direction(*given, SEARCH_SLICES) for given in training)
    searched = (search_between, search_within)
    return Study(folder, scans, (between, within), searched, opened.volume_corrected)


def best_settings(request: PaperRequest, best: Cell) -> TranslationSettings:
    """Return the settings that were found, with as many images as the paper's row has."""
    found = {"strength": best.strength, "guidance_scale": best.guidance}
    return request.search.model_copy(update={**found, "num_images_per_prompt": request.images})


def cell_record(cell: Cell) -> Record:
    """Return a cell for JSON."""
    return {**asdict(cell), "error": cell.error}


@dataclass(frozen=True)
class StudyRow:
    """One line of the table, with the scores of each slice over its images against the input."""

    direction: str
    method: str
    scores: DirectionScores
    slices: dict[str, SliceScores]

    def printed(self) -> PaperRow:
        """Return the line for the table."""
        scores = self.scores
        return PaperRow(self.direction, self.method, scores.to_input, scores.to_truth, scores.tone)


def table_rows(
    directions: Sequence[Direction], methods: Sequence[PaperMethod]
) -> tuple[list[StudyRow], dict[str, str]]:
    """Return all lines, and why a method cannot serve a direction."""
    rows, refusing = [], {}
    for way in directions:
        for method in track(methods, way.name):
            try:
                rows.append(_table_row(way, method))
            except MrharmonyError as error:
                refusing[f"{method.name}, {way.name}"] = str(error)
    return rows, refusing


def _table_row(direction: Direction, method: PaperMethod) -> StudyRow:
    images = method.make(direction)
    made, given = as_picture(images), as_picture(direction.slices.inputs)
    names = direction.slices.names
    slices = {name: image_scores(made[:, [n]], given[[n]]) for n, name in enumerate(names)}
    return StudyRow(direction.name, method.name, score_images(images, direction), slices)


def _about(request: PaperRequest, study: Study) -> Record:
    """Return what a reader needs to repeat the study."""
    seen = [card.name for card in study.folder.card.domains if card.scans]
    return {
        "version": __version__,
        "model_sha256": study.folder.model_sha256,
        "domains_with_real_scans_in_its_training": seen,
        "subjects_of_its_training": sorted({scan.subject for scan in study.folder.card.training_scans}),
        "volume_corrected": study.volume_corrected,
        "slices": {way.name: list(way.slices.names) for way in study.tested},
        "searched_on": {way.name: list(way.slices.names) for way in study.training},
        "paper": request.paper.model_dump(exclude={"select", "input_weight"}),
    }


def _cost(study: Study, *settings: TranslationSettings) -> dict[str, Record]:
    """Return the time of an image of a slice, by strength, guidance and steps."""
    between = study.tested[0]
    costs = {}
    for one in settings:
        made = study.folder.translate(between.slices, between.target, one)
        name = f"strength {one.strength:g}, guidance {one.guidance_scale:g}, {one.num_inference_steps} steps"
        costs[name] = {"seconds": made.seconds, "processor_seconds": made.processor_seconds}
    return costs


def _draw(
    request: PaperRequest, study: Study, methods: Sequence[PaperMethod], once: Sequence[PaperMethod]
) -> None:
    """Write Figures 1 and 2; the way back, which is not in the table, is made with one image (`once`)."""
    between, within = study.tested
    rows = [(between, methods)]
    if study.folder.card.find(between.source):
        rows.append((way_back(between, within), once))
    draw_directions(request.output / "figure-1.png", "Figure 1: between domains", rows)
    draw_directions(request.output / "figure-2.png", "Figure 2: within a domain", [(within, methods)])


def way_back(between: Direction, within: Direction) -> Direction:
    """Return the target's first slice on its way to the source, with the truth where the head travelled."""
    (scan,) = within.slices.first().scans
    truth = next((other.brain for other in between.slices.scans if other.truth is scan.brain), None)
    slices = replace(within.slices.first(), scans=(scan._replace(truth=truth),))
    return within._replace(target=between.source, slices=slices)


def draw_directions(path: Path, title: str, rows: Sequence[tuple[Direction, Sequence[PaperMethod]]]) -> None:
    """Write a PNG: the first slice of each direction, its input beside every method's first image.

    The last column is the target scanner's own slice, where all directions have one.
    """
    truths = [direction.slices.truths for direction, _ in rows]
    sheet = []
    for (direction, methods), truth in zip(rows, truths, strict=True):
        panels = [Panel("input", direction.slices.inputs[0])]
        panels += [_panel(method, direction) for method in methods]
        if truth is not None and all(other is not None for other in truths):
            panels.append(Panel("truth", truth[0]))
        sheet.append((direction.name, panels))
    contact_sheet(sheet, title, path)


def _panel(method: PaperMethod, direction: Direction) -> Panel:
    """Return a method's first image, or black where it refuses."""
    name = method.name.replace("image-to-image, ", "").replace("autoencoder ", "")
    try:
        return Panel(name, method.make(direction)[0, 0])
    except MrharmonyError:
        return Panel(f"{name}: refused", np.zeros_like(direction.slices.inputs[0]))

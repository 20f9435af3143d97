"""Strength × guidance: image-to-image between and within domains, which setting is best, and its heat map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrharmony.benchmark.paper.methods import PictureFolder
from mrharmony.benchmark.paper.slices import Direction
from mrharmony.core.atomic import write_file
from mrharmony.core.volume import FloatArray
from mrharmony.evaluate.paper import SliceScores, as_picture, image_scores, tone_distance
from mrharmony.networks.translation import TranslationSettings

STRENGTHS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
GUIDANCES = (1.0, 2.0, 7.5, 20.0, 100.0)


@dataclass(frozen=True)
class DirectionScores:
    """Scores of all images of slices in one direction."""

    to_input: SliceScores  # against the slices that were translated
    to_truth: SliceScores | None  # against the target scanner's own slices, where there are any
    tone: float  # distance from the target's tone


@dataclass(frozen=True)
class Cell:
    """The scores of one strength and guidance."""

    strength: float
    guidance: float
    between: DirectionScores  # from another domain to the target
    within: DirectionScores  # from the target to itself
    seconds: float  # of processor time, for an image of a slice

    @property
    def error(self) -> float:
        """What the search makes least, from training scans alone, where there is no truth.

        The MSE within the target, where the input is the truth, measures what translation does to anatomy;
        W₂² between domains is the least MSE that the remaining difference of tone can cost in the brain. The
        first is of the whole picture, so tone weighs as much more as the picture is larger than the brain.
        """
        return self.within.to_input.mse + self.between.tone**2


def score_images(images: FloatArray, direction: Direction) -> DirectionScores:
    """Return the scores of images of a direction's slices, canonical intensities, shape (images, n, h, w)."""
    made, slices = as_picture(images), direction.slices
    truths = slices.truths
    return DirectionScores(
        image_scores(made, as_picture(slices.inputs)),
        None if truths is None else image_scores(made, as_picture(truths)),
        tone_distance(made, slices.masks, direction.tones),
    )


def measure_grid(
    folder: PictureFolder,
    between: Direction,
    within: Direction,
    settings: TranslationSettings,
    strengths: Sequence[float] = STRENGTHS,
    guidances: Sequence[float] = GUIDANCES,
) -> tuple[Cell, ...]:
    """Return every strength and guidance, all else as in `settings`."""

    def cell(strength: float, guidance: float) -> Cell:
        own = settings.model_copy(update={"strength": strength, "guidance_scale": guidance})
        made = [folder.translate(way.slices, way.target, own) for way in (between, within)]
        scores = [score_images(p.images, way) for p, way in zip(made, (between, within), strict=True)]
        seconds = float(np.mean([pictures.processor_seconds for pictures in made]))
        return Cell(strength, guidance, scores[0], scores[1], seconds)

    return tuple(cell(strength, guidance) for strength in strengths for guidance in guidances)


def best_cell(cells: Iterable[Cell]) -> Cell:
    """Return the cell of the least estimated error; of equal ones the weaker."""
    return min(cells, key=lambda cell: (cell.error, cell.strength, cell.guidance))


Score = Callable[[Cell], float | None]
PANELS: tuple[tuple[str, Score], ...] = (
    ("between: SSIM to the input", lambda cell: cell.between.to_input.ssim),
    ("between: MSE to the input", lambda cell: cell.between.to_input.mse),
    ("between: W₂ to the target's tone", lambda cell: cell.between.tone),
    ("within: SSIM to the input", lambda cell: cell.within.to_input.ssim),
    ("within: MSE to the input", lambda cell: cell.within.to_input.mse),
    ("between: MSE to the truth", lambda cell: cell.between.to_truth.mse if cell.between.to_truth else None),
)


def draw_grid(path: Path, title: str, cells: Sequence[Cell], chosen: tuple[float, float]) -> None:
    """Write a PNG with a heat map for each score, strength to the right and guidance up.

    `cells` hold all strengths with all guidances; `chosen`, chosen on training scans, is framed.
    """
    panels = [panel for panel in PANELS if all(panel[1](cell) is not None for cell in cells)]
    figure = Figure(figsize=(4.2 * 3, 3.3 * -(-len(panels) // 3) + 0.4), layout="constrained")
    axes = figure.subplots(-(-len(panels) // 3), 3).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for (heading, score), axis in zip(panels, axes, strict=False):
        _draw_panel(axis, cells, score, chosen)
        axis.set_title(heading, fontsize=10)
    figure.suptitle(title, fontsize=11)
    write_file(path, FigureCanvasAgg(figure).print_png)


def _draw_panel(axis: Axes, cells: Sequence[Cell], score: Score, chosen: tuple[float, float]) -> None:
    strengths = sorted({cell.strength for cell in cells})
    guidances = sorted({cell.guidance for cell in cells})
    values = np.full((len(guidances), len(strengths)), np.nan)
    for cell in cells:
        values[guidances.index(cell.guidance), strengths.index(cell.strength)] = score(cell)
    axis.imshow(values, origin="lower", aspect="auto", cmap="viridis")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        dark = "white" if value < middle else "black"
        axis.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=7, color=dark)
    place = strengths.index(chosen[0]), guidances.index(chosen[1])
    axis.plot(*place, "s", markersize=26, markerfacecolor="none", markeredgecolor="red", markeredgewidth=2)
    axis.set_xticks(range(len(strengths)), [f"{value:g}" for value in strengths])
    axis.set_yticks(range(len(guidances)), [f"{value:g}" for value in guidances])
    axis.set_xlabel("strength")
    axis.set_ylabel("guidance")

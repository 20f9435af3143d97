"""Strength × guidance: what image-to-image does between and within domains, and which setting is best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrharmony.benchmark.paper.pictures import PictureFolder
from mrharmony.benchmark.paper.slices import PaperSlices
from mrharmony.evaluate import SliceScores, as_picture, image_scores, tone_distance
from mrharmony.latent import TranslationSettings
from mrharmony.volume import FloatArray

STRENGTHS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
GUIDANCES = (1.0, 2.0, 7.5, 20.0, 100.0)


class Direction(NamedTuple):
    """Slices on their way to a domain.

    Parameters
    ----------
    source, target
        Names of the domains.
    slices
        Of scans of the source.
    tones
        The target's tone at each slice's place, from its training scans, shape (n, 33).
    """

    source: str
    target: str
    slices: PaperSlices
    tones: NDArray[np.float64]

    @property
    def name(self) -> str:
        """Such as `ADNI2 to ADNI3`."""
        return f"{self.source} to {self.target}"


@dataclass(frozen=True)
class DirectionScores:
    """What images of slices score in one direction.

    Parameters
    ----------
    to_input
        Against the slices that were translated, all images together.
    to_truth
        Against the target scanner's own slices; None where there are none.
    tone
        Distance from the target's tone.
    """

    to_input: SliceScores
    to_truth: SliceScores | None
    tone: float


@dataclass(frozen=True)
class Cell:
    """One strength and guidance.

    Parameters
    ----------
    strength, guidance
        The settings.
    between, within
        Scores from another domain to the target, and from the target to itself.
    seconds
        Processor time of an image of a slice.
    """

    strength: float
    guidance: float
    between: DirectionScores
    within: DirectionScores
    seconds: float

    @property
    def error(self) -> float:
        """Estimate of the MSE against the truth where there is none, from training scans alone.

        The MSE within the target, where the input is the truth, tells what translation does to anatomy; W₂²
        between domains is the least MSE that the tone which is left wrong can cost.
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


def measure_cell(
    folder: PictureFolder, between: Direction, within: Direction, settings: TranslationSettings
) -> Cell:
    """Translate both directions with the same settings and score them."""
    made = [folder.translate(way.slices, way.target, settings) for way in (between, within)]
    scores = [score_images(p.images, way) for p, way in zip(made, (between, within), strict=True)]
    seconds = float(np.mean([pictures.processor_seconds for pictures in made]))
    return Cell(settings.strength, settings.guidance_scale, scores[0], scores[1], seconds)


def measure_grid(
    folder: PictureFolder,
    between: Direction,
    within: Direction,
    settings: TranslationSettings,
    strengths: Sequence[float] = STRENGTHS,
    guidances: Sequence[float] = GUIDANCES,
) -> tuple[Cell, ...]:
    """Return every strength and guidance, all else as in `settings`."""
    return tuple(
        measure_cell(
            folder,
            between,
            within,
            settings.model_copy(update={"strength": strength, "guidance_scale": guidance}),
        )
        for strength in strengths
        for guidance in guidances
    )


def best_cell(cells: Iterable[Cell]) -> Cell:
    """Return the cell of the least estimated error; of equal ones the weaker."""
    return min(cells, key=lambda cell: (cell.error, cell.strength, cell.guidance))

"""Image-to-image of slices, kept part by part: a study that is killed goes on where it was.

Strength × guidance: what image-to-image does between and within domains, and which setting is best.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.benchmark.paper.slices import PaperSlices
from mrharmony.core.atomic import write_arrays
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray
from mrharmony.evaluate.paper import SliceScores, as_picture, image_scores, tone_distance
from mrharmony.networks.diffusion.model import ModelCard
from mrharmony.networks.diffusion.sampling import PictureModel
from mrharmony.networks.diffusion.translation import TranslationSettings, translate_slices

IMAGES_AT_ONCE = 4  # of each slice, between two files


class Pictures(NamedTuple):
    """Images of slices.

    Parameters
    ----------
    images
        Canonical intensities, shape (images, n, h, w).
    seconds
        Wall time that one image of one slice took.
    processor_seconds
        Processor time of the same.
    """

    images: FloatArray
    seconds: float
    processor_seconds: float


@dataclass(frozen=True)
class PictureFolder:
    """A folder of finished images.

    Parameters
    ----------
    root
        The folder, made where missing.
    model
        What makes the images.
    card
        Of the model; it knows the prompts.
    model_sha256
        Of its files.
    """

    root: Path
    model: PictureModel
    card: ModelCard
    model_sha256: str

    def translate(self, slices: PaperSlices, target: str, settings: TranslationSettings) -> Pictures:
        """Return all images of slices under a domain's prompt; what an earlier call has made is read.

        Image n starts from the noise of seed + n, so that parts made apart are those made together.

        Raises
        ------
        MrharmonyError
            If the model does not know the target, or an image is not finite.
        """
        prompt = self.card.domain(target).prompt
        wanted = settings.num_images_per_prompt
        what = f"strength {settings.strength:g}, guidance {settings.guidance_scale:g}"
        parts = [
            self._part(slices, prompt, settings, first, min(IMAGES_AT_ONCE, wanted - first))
            for first in track(range(0, wanted, IMAGES_AT_ONCE), what)
        ]
        count = wanted * len(slices.places)
        return Pictures(
            np.concatenate([part.images for part in parts]),
            sum(part.seconds for part in parts) / count,
            sum(part.processor_seconds for part in parts) / count,
        )

    def _part(
        self, slices: PaperSlices, prompt: str, settings: TranslationSettings, first: int, count: int
    ) -> Pictures:
        """Return images first, first + 1, …; the seconds are those of the whole part."""
        own = settings.model_copy(
            update={"seed": settings.seed + first, "num_images_per_prompt": count, "select": "all"}
        )
        file = self.root / f"{self._key(slices, prompt, own)}.npz"
        if not file.is_file():
            write_arrays(file, self._translate(slices, prompt, own)._asdict())
        with np.load(file, allow_pickle=False) as archive:
            seconds, processor = float(archive["seconds"]), float(archive["processor_seconds"])
            return Pictures(archive["images"].astype(np.float32), seconds, processor)

    def _translate(self, slices: PaperSlices, prompt: str, settings: TranslationSettings) -> Pictures:
        given = torch.from_numpy(slices.inputs)[:, None]
        wall, processor = time.perf_counter(), time.process_time()
        made = translate_slices(self.model, given, slices.positions(), prompt, settings)
        spent = time.perf_counter() - wall, time.process_time() - processor
        if not made.isfinite().all():
            raise MrharmonyError(
                f"strength {settings.strength:g}, guidance {settings.guidance_scale:g}: the images are not "
                "finite. Lower the guidance."
            )
        return Pictures(made[:, :, 0].numpy().astype(np.float16), *spent)

    def _key(self, slices: PaperSlices, prompt: str, settings: TranslationSettings) -> str:
        decisive = f"{self.model_sha256} {prompt} {settings.model_dump_json()} {slices.places.tolist()}"
        return hashlib.sha256(decisive.encode() + slices.inputs.tobytes()).hexdigest()[:32]


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

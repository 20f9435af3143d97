"""Image-to-image of slices, kept part by part: a study that is killed goes on where it was."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mrharmony.benchmark.paper.slices import PaperSlices
from mrharmony.latent import ModelCard, PictureModel, TranslationSettings, translate_slices
from mrharmony.progress import track
from mrharmony.scans.atomic import write_arrays
from mrharmony.volume import FloatArray, MrharmonyError

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

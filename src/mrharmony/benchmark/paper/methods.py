"""The rows of the paper's table: each method turns slices of one domain into images of another."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mrharmony.benchmark.contenders import as_prepared
from mrharmony.benchmark.paper.slices import Direction, PaperRequest, PaperSlices
from mrharmony.core.atomic import kept_arrays, write_arrays
from mrharmony.core.domain import Domain, find_name
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray
from mrharmony.domains.statistics import load_statistics
from mrharmony.methods.protocol import Harmonizer
from mrharmony.methods.registry import load_method, method_named
from mrharmony.networks.card import STATISTICS, ModelCard
from mrharmony.networks.translation import PictureModel, TranslationSettings, translate_slices

IMAGES_AT_ONCE = 4  # of each slice, in one file
ROUND_TRIP = "autoencoder round trip"
PAPER = "image-to-image, the paper's settings"
BEST = "image-to-image, best settings"
_DAMAGED = "was damaged since it was kept. Move the file away, and call again."


class Pictures(NamedTuple):
    """Canonical intensities, shape (images, n, h, w), and the time that one image of one slice took."""

    images: FloatArray
    seconds: float
    processor_seconds: float


@dataclass(frozen=True)
class PictureFolder:
    """A folder of finished images by one model, kept in parts so that a study that was killed can resume."""

    root: Path
    model: PictureModel
    card: ModelCard  # has the prompts
    model_sha256: str

    def translate(self, slices: PaperSlices, target: str, settings: TranslationSettings) -> Pictures:
        """Return all images of slices under a domain's prompt; finished parts are read.

        Image n starts from the noise of seed + n, so that parts made apart are those made together. Refuses a
        target that the model does not know, and images that are not finite.
        """
        prompt = self.card.domain(target).prompt
        total = settings.num_images_per_prompt
        what = f"strength {settings.strength:g}, guidance {settings.guidance_scale:g}"
        parts = [
            self._part(slices, prompt, settings, first, min(IMAGES_AT_ONCE, total - first))
            for first in track(range(0, total, IMAGES_AT_ONCE), what)
        ]
        count = total * len(slices.places)
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
        with kept_arrays(file, _DAMAGED) as archive:
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


class PaperMethod(NamedTuple):
    """A method by name; `make` gives canonical intensities, shape (images, n, h, w)."""

    name: str
    make: Callable[[Direction], FloatArray]


def translations(
    folder: PictureFolder, paper: TranslationSettings, best: TranslationSettings
) -> tuple[PaperMethod, ...]:
    """Return image-to-image as the paper does it and at its best, and the round trip that bounds both."""
    only_coding = TranslationSettings(strength=0.0)
    return tuple(
        PaperMethod(name, partial(_translated, folder, settings))
        for name, settings in ((ROUND_TRIP, only_coding), (PAPER, paper), (BEST, best))
    )


def fitted_methods(request: PaperRequest) -> tuple[tuple[PaperMethod, ...], dict[str, str]]:
    """Open the methods that harmonize volumes; also say why any that the model should hold is not there.

    Each directory in `request.fitted` must hold its method. Those in `request.from_model` that it lacks come
    from the model's directory.
    """
    methods, missing = [_opened(name, folder) for name, folder in request.fitted.items()], {}
    for name in request.from_model:
        if name not in request.fitted:
            try:
                methods.append(_opened(name, request.model))
            except MrharmonyError as error:
                missing[name] = str(error)
    ranks = {name: number for number, name in enumerate(request.from_model)}
    return tuple(sorted(methods, key=lambda method: ranks.get(method.name, len(ranks)))), missing


def _require_own(name: str, model: Path) -> None:
    if not method_named(name).is_in(model):
        raise MrharmonyError(
            f"{model}: has no {name} of its own. Fit one (mrharmony train BIDS_DIR --method {name} --output "
            f"DIR), and name it: --fitted {name}=DIR."
        )


def _opened(name: str, folder: Path) -> PaperMethod:
    _require_own(name, folder)
    return PaperMethod(
        name, partial(_harmonized, load_method(name, folder), tuple(load_statistics(folder / STATISTICS)))
    )


def _translated(folder: PictureFolder, settings: TranslationSettings, direction: Direction) -> FloatArray:
    return folder.translate(direction.slices, direction.target, settings).images


def _harmonized(method: Harmonizer, known: tuple[str, ...], direction: Direction) -> FloatArray:
    """Return the slices of harmonized volumes; a source that the method does not know is left unnamed."""
    source, target = (_known(known, name) for name in (direction.source, direction.target))
    if target is None:
        raise MrharmonyError(
            f"{direction.target}: {method.name} does not know this domain. Choose one of: {', '.join(known)}."
        )
    scans = direction.slices.scans
    volumes = [method.intensities(as_prepared(scan.brain), source, target) for scan in scans]
    return np.asarray(direction.slices.cut(volumes)[None])


def _known(names: tuple[str, ...], name: str) -> Domain | None:
    own = find_name(names, name)
    return None if own is None else Domain(own, own)

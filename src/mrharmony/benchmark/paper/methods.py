"""The rows of the paper's table: each method turns slices of one domain into pictures of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mrharmony.benchmark.contenders import as_prepared
from mrharmony.benchmark.paper.grid import Direction, PictureFolder
from mrharmony.core.domain import Domain, same_name
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.domains.statistics import load_statistics
from mrharmony.methods.protocol import Harmonizer
from mrharmony.methods.registry import load_method
from mrharmony.methods.synthesis import SYNTHESIS
from mrharmony.networks.diffusion.model import STATISTICS
from mrharmony.networks.diffusion.translation import TranslationSettings

ALWAYS = ("none", "histogram", SYNTHESIS)
ROUND_TRIP = "autoencoder round trip"
PAPER = "image-to-image, the paper's settings"
BEST = "image-to-image, best settings"


class PaperMethod(NamedTuple):
    """A method by name; `make` gives canonical intensities, shape (images, n, h, w)."""

    name: str
    make: Callable[[Direction], FloatArray]


def translations(
    folder: PictureFolder, paper: TranslationSettings, best: TranslationSettings
) -> tuple[PaperMethod, ...]:
    """Return image-to-image as the paper does it and at its best, and the round trip that bounds both."""
    return tuple(
        PaperMethod(name, partial(_translated, folder, settings))
        for name, settings in ((ROUND_TRIP, round_trip()), (PAPER, paper), (BEST, best))
    )


def round_trip() -> TranslationSettings:
    """Return the settings that only encode and decode."""
    return TranslationSettings(strength=0.0)


def fitted_methods(model: Path, fitted: Mapping[str, Path]) -> tuple[tuple[PaperMethod, ...], dict[str, str]]:
    """Open the methods that need no pictures.

    Parameters
    ----------
    model
        Directory that those of `ALWAYS` are read from unless they are in `fitted`.
    fitted
        Directories that `Harmonizer.save` wrote, by the method's name: any method that `load_method` knows.

    Returns
    -------
    The methods, and of those of `ALWAYS` that the model has not, the reason.

    Raises
    ------
    MrharmonyError
        If a directory of `fitted` does not hold its method.
    """
    methods, missing = [_opened(name, folder) for name, folder in fitted.items()], {}
    for name in ALWAYS:
        if name not in fitted:
            try:
                methods.append(_opened(name, model))
            except MrharmonyError as error:
                missing[name] = str(error)
    ranks = {name: number for number, name in enumerate(ALWAYS)}
    return tuple(sorted(methods, key=lambda method: ranks.get(method.name, len(ranks)))), missing


def _opened(name: str, folder: Path) -> PaperMethod:
    return PaperMethod(
        name, partial(_harmonized, load_method(name, folder), tuple(load_statistics(folder / STATISTICS)))
    )


def _translated(folder: PictureFolder, settings: TranslationSettings, direction: Direction) -> FloatArray:
    return folder.translate(direction.slices, direction.target, settings).images


def _harmonized(method: Harmonizer, known: tuple[str, ...], direction: Direction) -> FloatArray:
    """Return the slices of harmonized volumes; a source that the method does not know is not told to it."""
    source, target = (_known(known, name) for name in (direction.source, direction.target))
    if target is None:
        raise MrharmonyError(
            f"{direction.target}: {method.name} does not know this domain. Choose one of: {', '.join(known)}."
        )
    scans = direction.slices.scans
    volumes = [method.intensities(as_prepared(scan.brain), source, target) for scan in scans]
    return np.asarray(direction.slices.cut(volumes)[None])


def _known(names: tuple[str, ...], name: str) -> Domain | None:
    return next((Domain(own, own) for own in names if same_name(own, name)), None)

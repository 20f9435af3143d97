"""The methods of a benchmark behind one call: canonical intensities in, canonical intensities out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mrharmony.core.atomic import make_folder
from mrharmony.methods.cyclegan import train_cyclegan
from mrharmony.methods.registry import DEFAULT_METHOD, METHODS, fit_method, method_named
from mrharmony.networks.cyclegan.networks import CycleGanSettings
from mrharmony.networks.cyclegan.pair import WEIGHTS, load_pairs
from mrharmony.networks.settings import choose_device
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.preparation.prepared import PreparedScan

OURS = DEFAULT_METHOD
CEILING = "truth-fitted lock"
COMPARED = tuple(m.name for m in METHODS if m.needs.training == "scans" or m.options.pairs)
DEFAULT_METHODS = tuple(  # networks of pairs train for minutes each, so only where they are named
    method.name for method in METHODS if method.needs.training == "scans"
)
_PAIRS = CycleGanSettings()


def fit_contender(
    method: str,
    training: Mapping[str, Sequence[CanonicalBrain]],
    folder: Path,
    target: str,
    pairs: CycleGanSettings = _PAIRS,
) -> None:
    """Fit a method on training brains and keep what was fitted in `folder`.

    Parameters
    ----------
    method
        One of `COMPARED`.
    training
        Brains by domain, on the 2 mm template grid.
    target
        Domain that networks of pairs have to lead to.
    pairs
        How these are trained.
    """
    make_folder(folder)
    entry = method_named(method)
    if entry.options.pairs:
        work, trained = folder / "checkpoints", [(target, name) for name in training if name != target]
        train_cyclegan(training, trained, pairs, work, choose_device("cpu")).save(folder)
        shutil.rmtree(work)
    else:
        fit_method(method, training).save(folder)


def networks_needed(method: str, domains: int) -> tuple[int, int] | None:
    """Return how many trained models bring all domains to one target, and how many serve every direction.

    A network of a pair serves two directions, a prompted model all; None if the method has no network.
    """
    entry = next((entry for entry in METHODS if entry.name == method), None)
    if entry is None or not entry.needs.network:
        return None
    return (domains - 1, domains * (domains - 1) // 2) if entry.options.pairs else (1, 1)


def training_minutes(folder: Path) -> float | None:
    """Return the processor minutes that the models of pairs in a folder took, None without any."""
    if not (folder / WEIGHTS).is_file():
        return None
    return sum(pair.record.core_minutes for pair in load_pairs(folder))


def as_prepared(brain: CanonicalBrain) -> PreparedScan:
    """Return a canonical brain as a scan that is prepared already: on its grid, at rest, without bias."""
    return PreparedScan(
        native=brain.volume.with_voxels(brain.volume.voxels * np.float32(brain.scale)),
        brain_mask=brain.mask,
        bias_field=np.ones(brain.mask.shape, np.float32),
        rigid_to_template=np.eye(4),
        scale=brain.scale,
        skull_stripped=True,
        findings=(),
    )

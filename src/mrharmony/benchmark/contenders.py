"""The methods of a benchmark behind one call: canonical intensities in, canonical intensities out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.domains.statistics import fit_statistics, load_statistics, save_statistics
from mrharmony.methods.cyclegan import train_cyclegan
from mrharmony.methods.diffusion import DiffusionHarmonizer
from mrharmony.methods.protocol import MethodSettings
from mrharmony.methods.registry import DEFAULT_METHOD, METHODS, fit_method, load_method, method_named
from mrharmony.networks.compact.model import STATISTICS, read_card
from mrharmony.networks.cyclegan.networks import CycleGanSettings
from mrharmony.networks.cyclegan.pair import WEIGHTS, load_pairs
from mrharmony.networks.settings import choose_device
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.preparation.prepared import PreparedScan

OURS = DEFAULT_METHOD
DIFFUSION = "diffusion"
CEILING = "truth-fitted lock"
COMPARED = tuple(method.name for method in METHODS if method.needs.training)
DEFAULT_METHODS = tuple(  # networks of pairs train for minutes each, so only where they are named
    method.name for method in METHODS if method.needs.training and not method.options.pairs
)
_PAIRS = CycleGanSettings()


class Contender(Protocol):
    """A fitted method, ready to harmonize scan after scan."""

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """Return the scan's harmonized canonical intensities on its own grid, 0 outside the brain."""


@dataclass(frozen=True)
class Diffusion:
    """The diffusion model with the benchmark's own population statistics."""

    harmonizer: DiffusionHarmonizer
    domains: Mapping[str, Domain]  # the model's domains by the data set's names of them, those that it knows

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """Return the scan's harmonized canonical intensities on its own grid, 0 outside the brain."""
        if target.name not in self.domains:
            raise MrharmonyError(f"{target.name}: the model does not know this domain.")
        known = self.domains.get(source.name) if source else None
        return self.harmonizer.intensities(scan, known, self.domains[target.name])


def fit_contender(
    method: str,
    training: Mapping[str, Sequence[CanonicalBrain]],
    folder: Path,
    model: Path,
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
    model
        Directory of the model of `diffusion`, which is not trained here.
    target
        Domain that networks of pairs have to lead to.
    pairs
        How these are trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entry = method_named(method)
    if entry.options.pairs:
        work, trained = folder / "checkpoints", [(target, name) for name in training if name != target]
        train_cyclegan(training, trained, pairs, work, choose_device("cpu")).save(folder)
        shutil.rmtree(work)
    elif entry.needs.training == "scans":
        fit_method(method, training).save(folder)
    else:
        card = read_card(model)
        known = {name: domain.name for name in training if (domain := card.find(name))}
        statistics = fit_statistics({own: training[name] for name, own in known.items()})
        save_statistics(folder / STATISTICS, statistics)


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


def open_contender(method: str, folder: Path, model: Path, domains: Sequence[str], seed: int) -> Contender:
    """Return a method as `fit_contender` left it; `domains` are the data set's, `seed` is for sampling."""
    if method != DIFFUSION:
        return load_method(method, folder)
    card, fitted = read_card(model), load_statistics(folder / STATISTICS)
    harmonizer = load_method(method, model, MethodSettings(seed=seed, device="cpu"))
    assert isinstance(harmonizer, DiffusionHarmonizer)
    known = {name: own for name in domains if (own := card.find(name)) and own.name in fitted}
    return Diffusion(replace(harmonizer, statistics=fitted), known)


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

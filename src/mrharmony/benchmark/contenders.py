"""The methods of a benchmark behind one call: canonical intensities in, canonical intensities out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.domains.statistics import fit_statistics, load_statistics, save_statistics
from mrharmony.jobs.opening import open_method
from mrharmony.methods.cyclegan import CYCLEGAN, train_cyclegan
from mrharmony.methods.diffusion import DiffusionHarmonizer
from mrharmony.methods.registry import FITTED_METHODS, fit_method, load_method
from mrharmony.methods.synthesis import SYNTHESIS
from mrharmony.networks.cyclegan.networks import CycleGanSettings
from mrharmony.networks.cyclegan.pair import WEIGHTS, load_pairs
from mrharmony.networks.devices import choose_device
from mrharmony.networks.diffusion.model import STATISTICS, ModelCard, read_card
from mrharmony.prepare.canonical import CanonicalBrain, on_brain
from mrharmony.prepare.prepared import PreparedScan

OURS = SYNTHESIS
DIFFUSION = "diffusion"
CEILING = "truth-fitted lock"
DEFAULT_METHODS = (*FITTED_METHODS, DIFFUSION)
METHODS = (*DEFAULT_METHODS, CYCLEGAN)  # the last trains for minutes a pair, so only where it is asked for
_PAIRS = CycleGanSettings()


class Contender(Protocol):
    """A fitted method, ready to harmonize scan after scan."""

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """Return the scan's harmonized canonical intensities on its own grid, 0 outside the brain."""


class Diffusion:
    """The diffusion model's looks with the benchmark's own population statistics; a scan's looks are kept.

    Parameters
    ----------
    harmonizer
        The method.
    card
        Of its model.
    names
        What the model calls the data set's domains that it knows.
    """

    def __init__(self, harmonizer: DiffusionHarmonizer, card: ModelCard, names: Mapping[str, str]) -> None:
        self.harmonizer = harmonizer
        self._card = card
        self._names = names

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """Return the scan's harmonized canonical intensities on its own grid, 0 outside the brain."""
        if target.name not in self._names:
            raise MrharmonyError(f"{target.name}: the model does not know this domain.")
        known = source is not None and source.name in self._names
        transform = self.harmonizer.transform(
            scan,
            self._card.domain(self._names[source.name]) if source is not None and known else None,
            self._card.domain(self._names[target.name]),
            scan.once(self.harmonizer.contrasts),
        )
        mask = scan.brain_mask
        return on_brain(scan, transform.apply(scan.positions(mask), scan.intensities(mask)))


def fit_contender(
    method: str,
    training: Mapping[str, Sequence[CanonicalBrain]],
    folder: Path,
    model: Path,
    target: str,
    pairs: CycleGanSettings = _PAIRS,
) -> None:
    """Fit a method on training brains and keep what was fitted in `folder`.

    Where there is a model for each pair of domains, those that lead to `target` are trained, as `pairs` says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if method == CYCLEGAN:
        _train_pairs(training, folder, target, pairs)
        return
    if method != DIFFUSION:
        fit_method(method, training).save(folder)
        return
    card = read_card(model)
    known = {name: domain.name for name in training if (domain := card.find(name))}
    statistics = fit_statistics({own: training[name] for name, own in known.items()})
    save_statistics(folder / STATISTICS, statistics)


def _train_pairs(
    training: Mapping[str, Sequence[CanonicalBrain]], folder: Path, target: str, settings: CycleGanSettings
) -> None:
    work = folder / "checkpoints"
    pairs = [(target, name) for name in training if name != target]
    train_cyclegan(training, pairs, settings, work, choose_device("cpu")).save(folder)
    shutil.rmtree(work)


def networks_needed(method: str, domains: int) -> tuple[int, int] | None:
    """Return how many models serve one target, and all directions, of so many domains; None without models.

    A CycleGAN serves both directions of one pair; a model whose input names the domains serves them all.
    """
    if method == CYCLEGAN:
        return domains - 1, domains * (domains - 1) // 2
    return (1, 1) if method in (OURS, DIFFUSION) else None


def training_minutes(folder: Path) -> float | None:
    """Return the processor minutes that the models of pairs in a folder took, None without any."""
    if not (folder / WEIGHTS).is_file():
        return None
    return sum(pair.record.core_minutes for pair in load_pairs(folder))


def open_contender(method: str, folder: Path, model: Path, domains: Sequence[str], seed: int) -> Contender:
    """Return a method as `fit_contender` left it.

    Parameters
    ----------
    method, folder, model
        As in `fit_contender`.
    domains
        Names of the data set's domains.
    seed
        Of the looks.
    """
    if method != DIFFUSION:
        return load_method(method, folder)
    card = read_card(model)
    harmonizer = open_method(model, DIFFUSION, seed, device="cpu")
    assert isinstance(harmonizer, DiffusionHarmonizer)
    fitted = load_statistics(folder / STATISTICS)
    names = {name: own.name for name in domains if (own := card.find(name)) and own.name in fitted}
    return Diffusion(replace(harmonizer, statistics=fitted), card, names)


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

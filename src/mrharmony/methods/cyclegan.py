"""CycleGAN pseudo-scanner standardization (Arai et al. 2021): a model for each pair of domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.domains.fitted import Brains, require_brains
from mrharmony.domains.statistics import (
    DomainStatistics,
    fit_statistics,
    load_statistics,
    owner_of,
    save_statistics,
)
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.methods.protocol import DEFAULTS, HarmonizedVolume, MethodSettings
from mrharmony.methods.rendering import (
    at_native_voxels,
    filled_outward,
    in_target_units,
    render,
    require_grid,
)
from mrharmony.networks.card import STATISTICS
from mrharmony.networks.cyclegan.networks import CycleGanSettings, Generator
from mrharmony.networks.cyclegan.pair import (
    WEIGHTS,
    TrainedPair,
    join_pairs,
    load_pairs,
    save_pairs,
    translate_brain,
)
from mrharmony.networks.cyclegan.training import train_pair
from mrharmony.preparation.canonical import (
    STATISTICS_ZOOM,
    CanonicalBrain,
    brain_intensities,
    canonical_brain,
    on_brain,
)
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.space.grid import Grid

CYCLEGAN = "cyclegan"


@dataclass(frozen=True)
class CycleGanHarmonizer:
    """Generators between pairs of domains; a scan goes only to domains that its own was paired with.

    Parameters
    ----------
    statistics
        Of the pairs' domains, by name; they give the output its units.
    pairs
        Trained.
    lock
        Of the fit from scan to generated image; None gives the image itself, which is Arai et al.: it is
        resampled from 2 mm to the native grid, and nothing keeps its anatomy.
    """

    statistics: Mapping[str, DomainStatistics]
    pairs: tuple[TrainedPair, ...]
    lock: LockSettings | None = None
    name: str = CYCLEGAN

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`; a scan that stays in its domain is left as it is."""
        generator = self._generator(source, target)
        if generator is None:
            return on_brain(scan, brain_intensities(scan))
        if self.lock is not None:
            return render(scan, self._transform(scan, generator, self.lock))
        brain = canonical_brain(scan)
        image = filled_outward(_image(scan, generator), brain.mask)
        return at_native_voxels(scan, brain.volume.with_voxels(image), Grid.working(STATISTICS_ZOOM))

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """As `Harmonizer.harmonize`."""
        voxels = self.intensities(scan, source, target)
        provenance = {"method": self.name, "lock": self.lock is not None}
        return in_target_units(scan, voxels, source, target, self.statistics, provenance)

    def save(self, directory: Path) -> None:
        """Write statistics and pairs; pairs and domains that the directory holds already stay."""
        earlier = load_pairs(directory) if (directory / WEIGHTS).is_file() else ()
        known = load_statistics(directory / STATISTICS) if (directory / STATISTICS).is_file() else {}
        statistics, pairs = {**known, **self.statistics}, join_pairs(earlier, self.pairs)
        save_statistics(directory / STATISTICS, statistics)
        names = {name for pair in pairs for name in pair.record.domains}
        save_pairs(directory, pairs, owner_of(self.name, statistics, names))

    def _generator(self, source: Domain | None, target: Domain) -> Generator | None:
        """Return the generator of a direction, None from a domain to itself."""
        if source is None:
            raise MrharmonyError(
                f"cyclegan must know the domain of the scan. Name it (source=...). {self._known()}"
            )
        if source.name == target.name and any(target.name in pair.record.domains for pair in self.pairs):
            return None
        found = (pair.toward(source.name, target.name) for pair in self.pairs)
        generator = next((generator for generator in found if generator is not None), None)
        if generator is None:
            raise MrharmonyError(
                f"cyclegan is not trained for the pair {source.name} and {target.name}. {self._known()}"
            )
        return generator

    def _known(self) -> str:
        pairs = ", ".join(" and ".join(pair.record.domains) for pair in self.pairs)
        return f"Trained pairs: {pairs}; mrharmony train --method cyclegan --pair A B adds one."

    def _transform(self, scan: PreparedScan, generator: Generator, lock: LockSettings) -> BilateralGrid:
        brain = canonical_brain(scan)
        scanned = np.maximum(brain.volume.voxels[brain.mask], 0)
        image = _image(scan, generator)[brain.mask]
        return fit_bilateral_grid(brain.positions(), scanned, image, settings=lock)


def train_cyclegan(
    domains: Brains,
    pairs: Sequence[tuple[str, str]],
    settings: CycleGanSettings,
    work: Path,
    device: torch.device,
) -> CycleGanHarmonizer:
    """Return the method with one model for each of the pairs; an interrupted call is resumed.

    Raises `MrharmonyError` where there is no pair of two domains, or a domain of one has no scans.

    Parameters
    ----------
    domains
        Training scans by domain, on the 2 mm template grid.
    pairs
        Names of domains, two by two; the order within a pair makes no difference in use.
    settings
        Of each training.
    work
        Folder of the checkpoints.
    device
        Where to train.
    """
    require_pairs(pairs)
    used = {name: domains.get(name, ()) for pair in pairs for name in pair}
    require_brains(used)
    trained = tuple(
        train_pair((one, other), (_stack(used[one]), _stack(used[other])), settings, work, device)
        for one, other in pairs
    )
    return CycleGanHarmonizer(fit_statistics(used), trained)


def require_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Refuse pairs that cannot be trained whatever the scans are: none, or a domain with itself."""
    if not pairs:
        raise MrharmonyError("cyclegan is trained for pairs of domains; name one: pairs=[('A', 'B')].")
    for one, other in pairs:
        if one == other:
            raise MrharmonyError(f"{one}: a pair needs two different domains; name another one.")


def load_cyclegan(directory: Path, settings: MethodSettings = DEFAULTS) -> CycleGanHarmonizer:
    """Return the method that `save` left in a directory, without the lock unless `settings.lock`."""
    statistics = load_statistics(directory / STATISTICS)
    pairs = load_pairs(directory, partial(owner_of, CYCLEGAN, statistics))
    return CycleGanHarmonizer(statistics, pairs, LockSettings() if settings.lock else None)


def _stack(brains: Sequence[CanonicalBrain]) -> NDArray[np.float16]:
    for brain in brains:
        require_grid(brain)
    return np.stack([np.where(brain.mask, brain.volume.voxels, 0).astype(np.float16) for brain in brains])


def _image(scan: PreparedScan, generator: Generator) -> FloatArray:
    brain = canonical_brain(scan)
    return translate_brain(generator, brain.volume.voxels, brain.mask)

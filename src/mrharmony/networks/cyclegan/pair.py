"""A trained pair of domains: its two generators, their file, and the translation of whole brains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from mrharmony.core.atomic import write_json
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.tensors import TensorFile, open_tensors, save_tensors
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.networks.cyclegan.networks import CycleGanSettings, Generator, from_units, located, to_units
from mrharmony.networks.settings import Settings

_AT_ONCE = 8  # slices: more are no quicker on a CPU
WEIGHTS = "cyclegan.safetensors"
RECORD = "cyclegan.json"
DIRECTIONS = ("to_first", "to_second")


@torch.inference_mode()
def translate_brain(generator: Generator, brain: FloatArray, mask: BoolArray) -> FloatArray:
    """Return a brain as the other domain's scanner may have seen it: canonical, ≥ 0, shape (i, j, k).

    A generator of three neighbouring slices gives every slice three times; their mean joins neighbours
    smoothly. Outside the brain the result is 0.

    Parameters
    ----------
    generator
        A trained one.
    brain, mask
        Canonical intensities on the working grid, and the brain; shape (i, j, k).

    Raises
    ------
    MrharmonyError
        If the mask is empty or an intensity in it is not finite.
    """
    if not mask.any() or not np.isfinite(brain[mask]).all():
        raise MrharmonyError("No finite brain intensities to harmonize; look at the brain mask.")
    slices, reach = generator.slices, generator.slices // 2
    margin = ((0, 0), (reach, reach), (0, 0))
    inside = np.pad(mask, margin)
    padded = np.pad(np.where(mask, np.maximum(brain, 0), 0).astype(np.float32), margin)
    made = np.zeros_like(padded)
    rows = np.flatnonzero(mask.any(axis=(0, 2)))
    for part in np.array_split(rows, -(-len(rows) // _AT_ONCE)):
        near, there = (
            torch.from_numpy(np.stack([np.moveaxis(whole[:, row : row + slices], 1, 0) for row in part]))
            for whole in (padded, inside)
        )
        seen = to_units(near)
        if generator.positions:
            seen = located(seen, part.tolist(), mask.shape[1])
        found = from_units(generator(seen, there)[:, :slices]).numpy()
        for row, pictures in zip(part, found, strict=True):
            made[:, row : row + slices] += np.moveaxis(pictures, 0, 1)
    filled = np.zeros(padded.shape[1], np.float32)
    for row in rows:
        filled[row : row + slices] += 1
    mean = made / np.maximum(filled, 1)[:, None]
    return np.where(mask, mean[:, reach : padded.shape[1] - reach], 0).astype(np.float32)


class PairRecord(Settings):
    """How a pair was trained."""

    first: str
    second: str
    scans: tuple[int, int]  # of both domains
    settings: CycleGanSettings
    generator_parameters: int = Field(ge=1)  # of each of the two
    discriminator_parameters: int = Field(ge=1)  # of each of the two, which are not kept
    core_minutes: float = Field(ge=0)  # processor time of training, over all runs that it took

    @property
    def domains(self) -> tuple[str, str]:
        """The two domains."""
        return self.first, self.second


@dataclass(frozen=True)
class TrainedPair:
    """Trained generators between two domains, on the CPU."""

    record: PairRecord  # which domains, on how many scans, how and how long
    to_first: Generator
    to_second: Generator

    def toward(self, source: str, target: str) -> Generator | None:
        """Return the generator from one domain to another; None if this pair does not serve it."""
        if (source, target) == self.record.domains:
            return self.to_second
        return self.to_first if (target, source) == self.record.domains else None


def join_pairs(earlier: Sequence[TrainedPair], new: Sequence[TrainedPair]) -> tuple[TrainedPair, ...]:
    """Return all pairs; a new one takes the place of an earlier one of the same domains."""
    known = {frozenset(pair.record.domains): pair for pair in (*earlier, *new)}
    return tuple(known.values())


def save_pairs(directory: Path, pairs: Sequence[TrainedPair], owner: Mapping[str, str] | None = None) -> None:
    """Write all pairs of a directory: weights with their records, and the records again for people.

    `owner` says what they belong to.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for number, pair in enumerate(pairs):
        for direction in DIRECTIONS:
            weights = getattr(pair, direction).state_dict().items()
            tensors |= {f"{number}/{direction}/{name}": weight.numpy() for name, weight in weights}
    records = [pair.record.model_dump(mode="json") for pair in pairs]
    save_tensors(directory / WEIGHTS, tensors, {"pairs": records} | ({"owner": owner} if owner else {}))
    write_json(directory / RECORD, {"method": "cyclegan", "pairs": records})


def load_pairs(
    directory: Path, owner_of: Callable[[Collection[str]], Mapping[str, str]] | None = None
) -> tuple[TrainedPair, ...]:
    """Read what `save_pairs` wrote, ready to use.

    Raises `MrharmonyError` where it is missing or damaged, or does not belong to `owner_of` the names of its
    domains.
    """
    content, remedy = "trained pairs of domains", "train them again"
    with open_tensors(directory / WEIGHTS, content, remedy, "pt") as file:
        records = file.record("pairs", tuple[PairRecord, ...])
        if owner_of:
            file.require_owner(owner_of({name for record in records for name in record.domains}))
        return tuple(_restored(record, file, number) for number, record in enumerate(records))


def _restored(record: PairRecord, file: TensorFile, number: int) -> TrainedPair:
    generators = []
    for direction in DIRECTIONS:
        with torch.device("meta"):  # nothing is taken before the shapes are those of the file
            generator = Generator(record.settings)
        generator.load_state_dict(file.tensors(f"{number}/{direction}/"), assign=True)
        generators.append(generator.requires_grad_(False).eval())
    return TrainedPair(record, *generators)

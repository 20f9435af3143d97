"""A trained pair of domains: two generators, and the record of how they came to be; and their file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mrharmony.cyclegan.generators import Generator
from mrharmony.cyclegan.settings import CycleGanSettings
from mrharmony.latent.config import Settings
from mrharmony.scans.atomic import write_bytes, write_json
from mrharmony.volume import MrharmonyError

WEIGHTS = "cyclegan.safetensors"
RECORD = "cyclegan.json"


class PairRecord(Settings):
    """What is said of a trained pair."""

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
    """Generators between two domains.

    Parameters
    ----------
    record
        Which domains, on how many scans, how and how long.
    to_first, to_second
        Trained, on the CPU.
    """

    record: PairRecord
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


def save_pairs(directory: Path, pairs: Sequence[TrainedPair]) -> None:
    """Write all pairs of a directory: weights with their records, and the records again for people."""
    tensors: dict[str, torch.Tensor] = {}
    for number, pair in enumerate(pairs):
        for direction, generator in (("to_first", pair.to_first), ("to_second", pair.to_second)):
            weights = generator.state_dict().items()
            tensors |= {f"{number}/{direction}/{name}": weight.contiguous() for name, weight in weights}
    records = [pair.record.model_dump(mode="json") for pair in pairs]
    write_bytes(directory / WEIGHTS, save(tensors, metadata={"pairs": json.dumps(records)}))
    write_json(directory / RECORD, {"method": "cyclegan", "pairs": records})


def load_pairs(directory: Path) -> tuple[TrainedPair, ...]:
    """Read what `save_pairs` wrote; ready to use.

    Raises
    ------
    MrharmonyError
        If the file is missing, damaged or of another kind.
    """
    path = directory / WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            records = [PairRecord.model_validate(record) for record in json.loads(file.metadata()["pairs"])]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tuple(_restored(record, tensors, number) for number, record in enumerate(records))
    except (
        OSError,
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        ValidationError,
        RuntimeError,
    ) as error:
        raise MrharmonyError(f"{path}: no trained pairs of domains ({error}); train them again.") from error


def _restored(record: PairRecord, tensors: dict[str, torch.Tensor], number: int) -> TrainedPair:
    generators = []
    for direction in ("to_first", "to_second"):
        prefix = f"{number}/{direction}/"
        generator = Generator(record.settings)
        generator.load_state_dict(
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        )
        generators.append(generator.requires_grad_(False).eval())
    return TrainedPair(record, *generators)

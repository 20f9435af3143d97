"""What a model says about itself: its card, the directory that it lies in, and the hash of what is there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator
from safetensors import SafetensorError

from mrharmony.core.atomic import make_folder, write_failures, write_text
from mrharmony.core.domain import Domain, find_name
from mrharmony.core.findings import MrharmonyError, NotWritten
from mrharmony.core.hashing import file_sha256
from mrharmony.core.pointers import real_path
from mrharmony.core.records import read_record
from mrharmony.core.temporaries import discard, new_temporary
from mrharmony.networks.settings import AdaptationSettings, DreamBoothSettings, Settings, TrainingSettings

CARD = "mrharmony.json"
STATISTICS = "statistics.safetensors"  # population statistics of the domains, for the classical methods


class DomainCard(Settings):
    """A domain that a model knows, and how many scans it learned it from (0 for a simulated one)."""

    name: str = Field(min_length=1)
    prompt: str
    scans: int = Field(0, ge=0)


class BaseCard(Settings):
    """The model that another one was adapted from, and how."""

    model: str
    sha256: str
    domains: tuple[str, ...]  # that were new
    adaptation: AdaptationSettings | None = None  # None where no network learned


class TrainingScan(Settings):
    """A real scan that a model has learned from, so that nobody judges the model on the same subject."""

    data_set: str  # name of its folder
    subject: str  # label without `sub-`
    sha256: str  # of the scan's file
    domain: str | None = None  # that it was said to be of; None in cards of before domains were noted

    def order(self) -> tuple[str, ...]:
        """Return what cards sort scans by."""
        return self.data_set, self.subject, self.sha256, self.domain or ""


class ModelCard(Settings):
    """What `mrharmony.json` says about a model: its domains, its grid, its data and its licence."""

    format_version: Literal[1] = 1  # a later one is of a later release
    domains: tuple[DomainCard, ...]
    working_zoom: float = Field(ge=0.5, le=4)  # mm
    intensity_convention: str
    training_data: str
    licence: str
    training: TrainingSettings | None = None  # None where nothing was trained, only statistics taken
    base: BaseCard | None = None  # None where the model was trained from scratch
    pipeline: str | None = None  # the Stable Diffusion model that was fine-tuned
    dreambooth: DreamBoothSettings | None = None  # how a Stable Diffusion model was fine-tuned
    training_scans: tuple[TrainingScan, ...] = ()  # empty also where a model does not say

    @field_validator("domains")
    @classmethod
    def _distinct(cls, domains: tuple[DomainCard, ...]) -> tuple[DomainCard, ...]:
        if len({domain.name for domain in domains}) < len(domains):
            raise ValueError("a domain stands twice")
        return domains

    def with_scans(self, new: Iterable[TrainingScan]) -> Self:
        """Return the card of a model that has learned from more scans, each named once a domain, sorted."""
        scans = sorted({*self.training_scans, *new}, key=TrainingScan.order)
        return self.model_copy(update={"training_scans": tuple(scans)})

    def find(self, name: str) -> Domain | None:
        """Return the domain that a name means, as `find_name`; None if there is none."""
        cards = {card.name: card for card in self.domains}
        own = find_name(cards, name)
        return None if own is None else Domain(own, cards[own].prompt)

    def domain(self, name: str) -> Domain:
        """Return the domain of that name as `find` does, or raise `MrharmonyError`.

        The error says how to make a site of one's own known, then which domains are.
        """
        found = self.find(name)
        if found is not None:
            return found
        known = ", ".join(card.name for card in self.domains)
        raise MrharmonyError(
            f"{name}: the model does not know this domain. Fit a site of your own first with "
            "`mrharmony train` (`mrharmony adapt` keeps the known ones too) and take it with "
            f"model='my-sites'; or choose one of: {known}."
        )


def save_card(card: ModelCard, directory: Path) -> None:
    """Describe a directory of fitted methods, so that it can be named as a model.

    Raises `MrharmonyError` as `require_place_for_methods`, and where it cannot be written.
    """
    require_place_for_methods(directory)
    write_text(directory / CARD, card.model_dump_json(indent=2) + "\n")


def read_card(directory: Path) -> ModelCard:
    """Read and validate `mrharmony.json`; raises `MrharmonyError` where it is missing or damaged."""
    if not os.path.isfile(directory / CARD):  # noqa: PTH113 - Path.is_file raises where a name is too long
        raise MrharmonyError(f"{directory}: not a model, there is no {CARD}. Name a model directory.")
    return read_record(directory / CARD, ModelCard, "a valid model description", "Restore the file")


def model_hash(directory: Path) -> str:
    """Return the SHA-256 over the names and contents of all files that decide a model's results."""
    digest = hashlib.sha256()
    for path in sorted(_files(directory)):
        if path.suffix in {".json", ".safetensors"}:
            digest.update(path.relative_to(directory).as_posix().encode() + b"\0")
            digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def _files(directory: Path) -> Iterator[Path]:
    """Yield the files of a directory, also behind links to folders, none of which is entered twice."""
    entered = {directory.resolve()}
    for folder, folders, names in os.walk(directory, followlinks=True):
        folders[:] = [name for name in folders if (Path(folder) / name).resolve() not in entered]
        entered.update((Path(folder) / name).resolve() for name in folders)
        yield from (path for name in names if (path := Path(folder) / name).is_file())


def write_directory(directory: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a directory, complete or not at all; what stands there is never replaced.

    Raises `MrharmonyError` as `require_nothing_at`, and where it cannot be written.
    """
    require_nothing_at(directory)
    make_folder(directory.parent)
    staging = new_temporary(directory.parent)
    try:
        with write_failures(directory):
            staging.mkdir()
            write(staging)
            staging.replace(directory)
    except SafetensorError as failure:  # how it reports a full disk
        raise NotWritten(f"{directory}: cannot be written ({failure}). Check free space there.") from failure
    finally:
        discard(staging)


def require_nothing_at(directory: Path) -> None:
    """Raise `MrharmonyError` where a new model directory would replace something."""
    if os.path.lexists(directory) and not (directory.is_dir() and not any(directory.iterdir())):
        raise MrharmonyError(f"{directory}: exists already. Name a new model directory.")


def require_outside(directory: Path, model: Path) -> None:
    """Raise `MrharmonyError` where something new would lie in a model's directory, and change its hash."""
    inner, own = real_path(directory), real_path(model)
    if own in (inner, *inner.parents):
        raise MrharmonyError(f"{directory}: lies in {model}, which it would change. Name a place outside it.")


def require_place_for_methods(directory: Path) -> None:
    """Raise `MrharmonyError` where fitted methods cannot be added: not to a file, a network, other files."""
    if (directory / "unet").is_dir():
        raise MrharmonyError(f"{directory}: holds a trained model. Choose another output directory.")
    if not (directory / CARD).is_file():
        require_nothing_at(directory)

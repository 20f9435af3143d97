"""Damage to model directories: what may be refused in one sentence or used soundly, and nothing else.

A kind is a name, a function that writes a damaged copy of a sound model into a folder, and one that opens it.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from benchmarks.robustness._mutations import Kind, kept_folder
from benchmarks.robustness._mutations.files import (
    Change,
    altered,
    cut,
    json_text,
    json_value,
    no_file,
    replace,
)
from mrharmony.domains.contrast import CONTRAST_MODELS
from mrharmony.methods.detail import DETAIL
from mrharmony.methods.registry import load_method
from mrharmony.networks.card import CARD, STATISTICS, model_hash, read_card
from mrharmony.networks.compact.model import LatentModel, load_model, save_model
from mrharmony.networks.compact.networks import build_autoencoder, build_denoiser, build_scheduler
from mrharmony.networks.compact.prompts import PromptEncoder
from mrharmony.networks.settings import TrainingSettings
from mrharmony.weights import shipped_model

WEIGHTS = "diffusion_pytorch_model"
PICKLES = ("bin", "pt", "pth", "ckpt", "pkl")
NUMBERS = (np.nan, np.inf, -np.inf, 1e30, -1e30)


def open_whole(directory: Path) -> None:
    """Open all of a model that the project opens: card, hash, two methods, networks."""
    read_card(directory)
    model_hash(directory)
    for method in ("histogram", "diffusion"):
        load_method(method, directory)
    load_model(directory)


@cache
def sound_model() -> Path:
    """Return the model that is damaged: the domains of the shipped one, with the smallest networks."""
    settings = TrainingSettings.model_validate(
        {
            "autoencoder": {"channels": (8, 8), "latent_channels": 4},
            "denoiser": {"channels": (16, 32), "token_size": 16},
            "autoencoder_stage": {"steps": 1},
            "denoiser_stage": {"steps": 1},
        }
    )
    card = read_card(shipped_model()).model_copy(update={"training": settings})
    prompts = ["", *(domain.prompt for domain in card.domains)]
    model = LatentModel(
        build_autoencoder(settings.autoencoder),
        build_denoiser(settings.denoiser, 4, 8),
        PromptEncoder(prompts, settings.denoiser.prompt_tokens, settings.denoiser.token_size),
        build_scheduler(),
        card,
    )
    directory = kept_folder()

    def also(folder: Path) -> None:
        for file in (STATISTICS, CONTRAST_MODELS, DETAIL):
            shutil.copy2(shipped_model() / file, folder / file)

    save_model(model, directory / "model", also)
    return directory / "model"


def copied(folder: Path) -> Path:
    """Return a copy of the sound model whose large weights are hard links or, elsewhere, copies."""
    directory = folder / "model"
    shutil.copytree(sound_model(), directory, copy_function=_linked)
    return directory


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _files(directory: Path, suffix: str) -> list[Path]:
    return sorted(path for path in directory.rglob(f"*{suffix}") if path.is_file())


def _any(rng: np.random.Generator, directory: Path, suffix: str) -> Path:
    files = _files(directory, suffix)
    return files[int(rng.integers(len(files)))]


def missing(rng: np.random.Generator, folder: Path) -> Path:
    """A file, or a folder, is not there."""
    directory = copied(folder)
    path = _any(rng, directory, "")
    if path.parent != directory and rng.random() < 0.3:
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    return directory


def swapped(rng: np.random.Generator, folder: Path) -> Path:
    """Two files of one type have changed places."""
    directory = copied(folder)
    suffix = (".json", ".safetensors")[int(rng.integers(2))]
    files = _files(directory, suffix)
    one, other = (files[int(n)] for n in rng.choice(len(files), 2, replace=False))
    aside = folder / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    return directory


def header(rng: np.random.Generator, folder: Path) -> Path:
    """Bytes of a safetensors header are others."""
    directory = copied(folder)
    file = _any(rng, directory, ".safetensors")
    content = bytearray(file.read_bytes())
    end = min(len(content), 8 + int.from_bytes(content[:8], "little"))
    for place in rng.integers(0, end, int(rng.integers(1, 5))):
        content[int(place)] = int(rng.integers(256))
    replace(file, bytes(content))
    return directory


def _with_tensors(
    rng: np.random.Generator, folder: Path, change: Callable[[np.random.Generator, np.ndarray], np.ndarray]
) -> Path:
    directory = copied(folder)
    file = _any(rng, directory, ".safetensors")
    with safe_open(file, "numpy") as archive:
        about = archive.metadata()
    tensors = load_file(file)
    name = sorted(tensors)[int(rng.integers(len(tensors)))]
    tensors[name] = np.ascontiguousarray(change(rng, tensors[name]))
    file.unlink()
    save_file(tensors, file, metadata=about)
    return directory


def _other_dtype(rng: np.random.Generator, tensor: np.ndarray) -> np.ndarray:
    kinds = [kind for kind in ("i4", "u1", "?", "i8") if np.dtype(kind) != tensor.dtype]
    return tensor.astype(kinds[int(rng.integers(len(kinds)))])


def _other_shape(rng: np.random.Generator, tensor: np.ndarray) -> np.ndarray:
    if tensor.ndim and rng.random() < 0.5:
        return tensor[: len(tensor) // 2]
    return tensor[None] if rng.random() < 0.5 else np.concatenate([tensor.ravel(), tensor.ravel()])


def _other_number(rng: np.random.Generator, tensor: np.ndarray) -> np.ndarray:
    values = np.array(tensor, np.float32 if tensor.dtype.kind == "f" else tensor.dtype)
    flat = values.reshape(-1)
    number = NUMBERS[int(rng.integers(len(NUMBERS)))]
    flat[int(rng.integers(flat.size))] = number if values.dtype.kind == "f" else 0
    return values


def _in_place(change: Change, suffix: str) -> Callable[[np.random.Generator, Path], Path]:
    """Return what damages one file of a copy."""

    def make(rng: np.random.Generator, folder: Path) -> Path:
        directory = copied(folder)
        change(rng, _any(rng, directory, suffix))
        return directory

    return make


def metadata(rng: np.random.Generator, folder: Path) -> Path:
    """A record inside a safetensors file is another one, or gone."""
    directory = copied(folder)
    told = []
    for candidate in _files(directory, ".safetensors"):
        with safe_open(candidate, "numpy") as archive:
            if "domains" in (archive.metadata() or {}):
                told.append((candidate, dict(archive.metadata())))
    file, about = told[int(rng.integers(len(told)))]
    texts = ("[" * 50_000, '["LA", "LA"]', "{}", "7", '{"LA": {"scale": -100, "scans": 1}}', "nonsense")
    choice = int(rng.integers(len(texts) + 2))
    if choice < len(texts):
        about["domains"] = texts[choice]
    elif choice == len(texts):
        about["domains"] = json.dumps(altered(rng, json.loads(about["domains"])))
    else:
        del about["domains"]
    tensors = load_file(file)
    file.unlink()
    save_file(tensors, file, metadata=about)
    return directory


class _Bomb:
    """What tells that it was unpickled, by raising what no loader may raise."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('a pickle was executed')",)


def pickled(rng: np.random.Generator, folder: Path) -> Path:
    """A pickle stands in the place of weights, or beside them, under a plausible name."""
    directory = copied(folder)
    file = _any(rng, directory, ".safetensors")
    bomb = pickle.dumps(_Bomb())
    choice = int(rng.integers(len(PICKLES) + 2))
    if choice == len(PICKLES):
        replace(file, bomb)
        return directory
    name = f"{file.stem}.{PICKLES[choice]}" if choice < len(PICKLES) else "pytorch_model.bin"
    replace(file.with_name(name), bomb)
    if rng.random() < 0.7:
        file.unlink()
    return directory


def linked(rng: np.random.Generator, folder: Path) -> Path:
    """A file is no regular file, or a folder is a link out of the model."""
    directory = copied(folder)
    path = _any(rng, directory, "")
    if path.parent != directory and rng.random() < 0.3:
        path.parent.rename(folder / "elsewhere")
        path.parent.symlink_to(folder / "elsewhere")
    else:
        no_file(rng, path)
    return directory


def odd_path(rng: np.random.Generator, folder: Path) -> Path:
    """What is named as a model is none: a file, nothing, a long or impossible name."""
    (folder / CARD).write_bytes(rng.bytes(10))
    names = (CARD, "nothing", "x" * 300, "a\0b", "")
    return folder / names[int(rng.integers(len(names)))]


_MUTATIONS: dict[str, Callable[[np.random.Generator, Path], Path]] = {
    "missing": missing,
    "swapped": swapped,
    "truncated": _in_place(cut, ""),
    "header": header,
    "dtype": partial(_with_tensors, change=_other_dtype),
    "shape": partial(_with_tensors, change=_other_shape),
    "number": partial(_with_tensors, change=_other_number),
    "json-value": _in_place(json_value, ".json"),
    "json-text": _in_place(json_text, ".json"),
    "metadata": metadata,
    "pickle": pickled,
    "link": linked,
    "path": odd_path,
}
KINDS = tuple(Kind(f"model, {name}", mutate, open_whole) for name, mutate in _MUTATIONS.items())

"""Tensors with what is recorded of them, in safetensors files, which hold numbers and text but no code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mrharmony.core.atomic import staged
from mrharmony.core.findings import MrharmonyError


@dataclass(frozen=True)
class TensorFile:
    """An open safetensors file; `archive` is what `safetensors.safe_open` returns."""

    path: Path
    archive: Any

    def record(self, name: str) -> Any:  # noqa: ANN401 - whatever JSON holds
        """Return what the file records under a name; `KeyError` where there is no such record."""
        return json.loads((self.archive.metadata() or {})[name])

    def tensor(self, name: str) -> Any:  # noqa: ANN401 - an array or a torch tensor
        """Return one tensor."""
        return self.archive.get_tensor(name)

    def tensors(self, prefix: str = "") -> dict[str, Any]:
        """Return the tensors whose names start with a prefix, by the rest of their names."""
        names = [name for name in self.archive.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name.removeprefix(prefix): self.archive.get_tensor(name) for name in names}


@contextmanager
def open_tensors(
    path: Path, content: str, remedy: str, framework: Literal["numpy", "pt"] = "numpy"
) -> Iterator[TensorFile]:
    """Open a safetensors file; all that fails while it is read and understood is one `MrharmonyError`.

    In use: `with open_tensors(path, "a fitted method", "fit the method again") as file: file.tensors()`.

    Parameters
    ----------
    path
        The file.
    content, remedy
        For the error: what the file should hold, with an article, and what to do about it, as an imperative.
    framework
        What tensors are read as: NumPy arrays, or torch tensors on the CPU (`pt`).
    """
    try:
        with safe_open(path, framework=framework) as archive:
            yield TensorFile(path, archive)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise MrharmonyError(f"{path}: not {content} ({reason}); {remedy}.") from error


def save_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], records: Mapping[str, object]) -> None:
    """Write a safetensors file, atomically; `MrharmonyError` where the operating system refuses.

    Parameters
    ----------
    path
        The file; its folder is made where missing.
    tensors
        Arrays of any shape. Torch tensors on the CPU come as arrays by `Tensor.numpy`, without a copy.
    records
        What `TensorFile.record` gives back, as JSON.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    about = {name: json.dumps(record) for name, record in records.items()} or None

    def write(temporary: Path) -> None:
        temporary.touch()
        permissions = temporary.stat().st_mode
        try:
            save_file(arrays, temporary, metadata=about)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(str(error)) from error
        temporary.chmod(permissions)  # safetensors makes the file private to its owner

    with staged(path) as file:
        file.fill_path(write)
        file.commit()

"""Tensors with what is recorded of them, in safetensors files, which hold numbers and text but no code."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mrharmony.core.atomic import staged
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.records import parse_record
from mrharmony.core.temporaries import discard, new_temporary

Record = TypeVar("Record")

_RECORDS = "__metadata__"  # what safetensors calls them
LARGEST = 1e6  # magnitude of weights and other numbers: anything that was learned is far below


@dataclass(frozen=True)
class TensorFile:
    """An open safetensors file; `archive` is what `safetensors.safe_open` returns."""

    path: Path
    archive: Any

    def record(self, name: str, kind: type[Record]) -> Record:
        """Return what the file records under a name, as a type has it; `ValueError` where it is otherwise."""
        text = (self.archive.metadata() or {}).get(name)
        if text is None:
            raise ValueError(f"the record {name} is missing")
        try:
            return parse_record(kind, text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def require_owner(self, owner: Mapping[str, str]) -> None:
        """Raise `ValueError` where the file belongs to something else.

        `owner` is what its record `owner` has to be: by name, such as the method, what that is.
        """
        known = self.record("owner", dict[str, str])
        if other := next((name for name in owner if known.get(name) != owner[name]), None):
            raise ValueError(f"it belongs to another {other}")

    def require_owner_if_said(
        self, owner_of: Callable[[Collection[str]], Mapping[str, str]] | None, names: Collection[str]
    ) -> None:
        """Do the same with `owner_of(names)`, if any, for a file that need not say it: shipped ones."""
        if owner_of and "owner" in (self.archive.metadata() or {}):
            self.require_owner(owner_of(names))

    def tensor(
        self,
        name: str,
        shape: Sequence[int] | None = None,
        bounds: tuple[float, float] = (-LARGEST, LARGEST),
        kinds: str = "f",
    ) -> Any:  # noqa: ANN401 - an array or a torch tensor
        """Return one tensor, checked by `require_numbers`."""
        tensor = self.archive.get_tensor(name)
        require_numbers(name, tensor, shape, bounds, kinds)
        return tensor

    def tensors(self, prefix: str = "", kinds: str = "f") -> dict[str, Any]:
        """Return the tensors whose names start with a prefix, by the rest of their names; checked alike."""
        names = [name for name in self.archive.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name.removeprefix(prefix): self.tensor(name, kinds=kinds) for name in names}


def require_numbers(
    name: str,
    tensor: Any,  # noqa: ANN401 - an array or a torch tensor
    shape: Sequence[int] | None = None,
    bounds: tuple[float, float] = (-LARGEST, LARGEST),
    kinds: str = "f",
) -> None:
    """Raise `ValueError` where an array or a torch tensor is not what it should be.

    Parameters
    ----------
    name
        For the error.
    tensor
        The numbers; NaN is within no bounds.
    shape
        That it should have; None for any.
    bounds
        Least and greatest number.
    kinds
        NumPy's letters of its allowed types: `f` floating-point, `i` integer, `u` unsigned, `b` boolean.
    """
    if _kind(tensor) not in kinds:
        raise ValueError(f"{name} holds numbers of the type {tensor.dtype}")
    if shape is not None and tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, not {tuple(shape)}")
    least, greatest = bounds
    if 0 not in tensor.shape and not (least <= tensor.min() and tensor.max() <= greatest):
        raise ValueError(f"{name} holds numbers that are not between {least:g} and {greatest:g}")


def _kind(tensor: Any) -> str:  # noqa: ANN401 - an array or a torch tensor
    """Return NumPy's letter for the type of an array or a torch tensor."""
    if isinstance(tensor, np.ndarray):
        return str(tensor.dtype.kind)
    if tensor.is_floating_point():
        return "f"
    return "c" if tensor.is_complex() else "i"


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
        if not path.is_file():  # a pipe would never end
            raise ValueError("there is no such file")
        with safe_open(path, framework=framework) as archive:
            yield TensorFile(path, archive)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
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
        folder = new_temporary(temporary.parent)  # safetensors has temporary files of its own
        folder.mkdir()
        try:
            save_file(arrays, folder / "tensors", metadata=about)
            _sort_records(folder / "tensors")
            (folder / "tensors").replace(temporary)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(str(error)) from error
        finally:
            discard(folder)
        temporary.chmod(permissions)  # safetensors makes the file private to its owner

    with staged(path) as file:
        file.fill_path(write)
        file.commit()


def _sort_records(path: Path) -> None:
    """Put the records of a safetensors file in order, so that equal content has equal bytes.

    safetensors writes them in random order. The file begins with the length of its header in eight bytes and
    the header as JSON, which has as many bytes in any order.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        if _RECORDS in header:
            header[_RECORDS] = dict(sorted(header[_RECORDS].items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size))

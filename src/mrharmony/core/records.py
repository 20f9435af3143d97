"""Records that others may have written: JSON and YAML against a typed schema, with a sentence for a fault."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.pointers import is_pointer

Record = TypeVar("Record")

NOT_UTF8 = "not text in UTF-8"
_LARGEST = 64 * 2**20  # bytes of a record; the largest that this package writes have a few hundred thousand


def parse_record(kind: type[Record], text: str) -> Record:
    """Return JSON as a type has it, to the letter: a text is no number, and no name stands twice.

    Raises `ValueError` with the first fault, one sentence without a full stop.
    """
    try:
        record = TypeAdapter(kind).validate_json(text, strict=True)
        json.loads(text, object_pairs_hook=_distinct, parse_constant=_finite, parse_float=_finite)
        return record
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_record(path: Path, kind: type[Record], content: str, remedy: str) -> Record:
    """Return a JSON file as a type has it; raises `MrharmonyError` where it is missing, damaged or of others.

    Parameters
    ----------
    path
        The file.
    kind
        A pydantic model, or another type that pydantic can check.
    content, remedy
        For the error: what the file should hold, with an article, and what to do about it, as an imperative.
    """
    try:
        return parse_record(kind, read_text(path))
    except ValueError as error:
        raise MrharmonyError(f"{path}: not {content} ({error}). {remedy}.") from error


def parse_yaml(kind: type[Record], text: str) -> Record:
    """Return a YAML text that a person wrote as a type has it; raises `ValueError` as `parse_record`."""
    try:
        return TypeAdapter(kind).validate_python(yaml.load(text, _DistinctLoader))
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def number_in(text: str) -> float:
    """Return the finite number that an entry of a table holds, NaN where it holds none.

    Python's underscores between digits are no number here: `6_5` may be 65 or 6.5.
    """
    try:
        number = math.nan if "_" in text else float(text)
    except ValueError:
        number = math.nan
    return number if math.isfinite(number) else math.nan


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Return the text of a file in UTF-8 (`utf-8-sig`: with or without a byte-order mark).

    Raises `ValueError` where it is no text, too large, or its content is not here.
    """
    try:
        if not path.is_file():  # a pipe or a device would never end
            raise ValueError("there is no such file" if not os.path.lexists(path) else _no_content(path))
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST >> 20} MiB")
        text = path.read_text(encoding)
        if "\0" in text:  # every other byte of UTF-16
            raise ValueError(NOT_UTF8)
        if is_pointer(text.encode()):
            raise ValueError("its content is not here: `datalad get` or `git lfs pull` fetches it")
        return text
    except UnicodeDecodeError as error:
        raise ValueError(NOT_UTF8) from error
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error


def _no_content(path: Path) -> str:
    """Return what something is that is no file: a link that leads nowhere, or a folder, a pipe, a device."""
    if path.exists():
        return "it is a folder, a pipe or a device"
    return "the link leads to nothing: `datalad get` fetches what is annexed"


def first_fault(error: ValidationError) -> str:
    """Return where and what the first fault of a record is, and how many more there are."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    place, message = ".".join(map(str, faults[0]["loc"])), faults[0]["msg"].removeprefix("Value error, ")
    if faults[0]["type"] == "missing":
        message = "missing"
    more = f", and {len(faults) - 1} more" * (len(faults) > 1)
    return f"{place}: {message}{more}" if place else f"{message}{more}"


def _finite(text: str) -> float:
    """Return a number of JSON; refuses NaN, infinity, and what is too large."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


class _DistinctLoader(yaml.SafeLoader):
    """Refuses a name that stands twice, of which YAML takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        _distinct([(name, None) for name in names])
        return super().construct_mapping(node, deep)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these names and values; refuses a name that stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} stands twice")
    return found

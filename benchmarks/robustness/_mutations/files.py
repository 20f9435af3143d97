"""Damage to a single file of text or JSON, in its place; each takes a random generator and the file."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Change = Callable[[np.random.Generator, Path], None]
VALUES: tuple[Any, ...] = (
    None, True, -1, -100, 0, 1e30, -1e300, 10**40, "", "x", "a\0b", "a\nb", "\ud800", "x" * 5_000,
    "/dev/zero", "../../elsewhere", [], {}, [[1]], ["x", None], {"a": 1}, {"level": 1},
    float("nan"), float("inf"),
)  # fmt: skip


def replace(file: Path, content: bytes) -> None:
    """Give a file its own content, so that what it is linked to stays."""
    file.unlink(missing_ok=True)
    file.write_bytes(content)


def altered(rng: np.random.Generator, record: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Return a JSON value in which a value is another one, or gone."""
    places = _places(record)
    place = places[int(rng.integers(len(places)))]
    holder = record
    for key in place[:-1]:
        holder = holder[key]
    if isinstance(holder, dict) and rng.random() < 0.2:
        del holder[place[-1]]
    else:
        holder[place[-1]] = VALUES[int(rng.integers(len(VALUES)))]
    return record


def _places(value: object, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where all values of a JSON value stand."""
    found = [place] if place else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [inner for key, part in pairs for inner in _places(part, (*place, key))]


def json_value(rng: np.random.Generator, file: Path) -> None:
    """A value of a JSON file is another one, or gone."""
    replace(file, json.dumps(altered(rng, json.loads(file.read_text("utf-8")))).encode())


def json_text(rng: np.random.Generator, file: Path) -> None:
    """A JSON file is nested deeply, has a name twice, a number of many digits, other bytes, or no object."""
    text = file.read_text("utf-8")
    name = next(iter(json.loads(text)))
    texts = (
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        text.replace("{", '{"' + name + '": 1, ', 1),
        text.replace("{", '{"extra": ' + "9" * 6_000 + ", ", 1),
        text.replace("{", '{"extra": 1e999, ', 1),
        "[]", "null", "", "\ufeff" + text, text + text,
    )  # fmt: skip
    choice = int(rng.integers(len(texts) + 1))
    replace(file, bytes(rng.bytes(200)) if choice == len(texts) else texts[choice].encode())


def cut(rng: np.random.Generator, file: Path) -> None:
    """A file ends too early."""
    content = file.read_bytes()
    replace(file, content[: int(rng.integers(len(content)))])


def flip(rng: np.random.Generator, file: Path) -> None:
    """Some bytes are others."""
    content = bytearray(file.read_bytes())
    for place in rng.integers(0, len(content), int(rng.integers(1, 9))):
        content[place] = int(rng.integers(256))
    replace(file, bytes(content))


def encode(rng: np.random.Generator, file: Path) -> None:
    """A text is in another encoding, with letters of its own."""
    text = file.read_text("utf-8").replace("A", "Zürich").replace("B", "Łódź")
    encodings = ("latin-1", "cp1250", "utf-16", "utf-16-le", "utf-32", "utf-7", "utf-8-sig", "cp037")
    replace(file, text.encode(encodings[int(rng.integers(len(encodings)))], "replace"))


def no_file(rng: np.random.Generator, file: Path) -> None:
    """A file is a device, a link to itself, to nothing or to others' content, a pipe, a folder, or gone."""
    file.unlink()
    choice = int(rng.integers(7))
    if choice < 4:
        gone = Path("../.git/annex/objects/MD5E-s123--0")
        file.symlink_to((Path("/dev/zero"), file, gone, file.parent)[choice])
    elif choice == 4:
        os.mkfifo(file)
    elif choice == 5:
        file.mkdir()


def pointer(rng: np.random.Generator, file: Path) -> None:
    """The pointer of git-annex or Git LFS stands in the place of the content."""
    size = int(rng.integers(1, 10_000))
    texts = (
        f"/annex/objects/MD5E-s{size}--0123456789abcdef0123456789abcdef{file.suffix}\n",
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize {size}\n",
    )
    replace(file, texts[int(rng.integers(2))].encode())


def any_of(*changes: Change) -> Change:
    """Return what does one of several kinds of damage."""
    return lambda rng, file: changes[int(rng.integers(len(changes)))](rng, file)


DAMAGED_JSON = any_of(json_value, json_value, json_value, json_value, json_text, cut, flip, no_file, pointer)

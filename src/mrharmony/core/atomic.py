"""Write files so that a reader sees the old content or the new, never half of one; read JSON records back."""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import ArrayLike

from mrharmony.core.findings import MrharmonyError, NotWritten
from mrharmony.core.pointers import link_to_itself
from mrharmony.core.records import read_text
from mrharmony.core.temporaries import discard, new_temporary

_CHECK = "Check free space and permissions there."
FOLDER_IN_THE_WAY = "A folder has this name; choose another."
_KEPT_AS = "kept_as"  # the entry of kept arrays that has their file's name
_FILE_IN_THE_WAY = "A file is where a folder would have to be; choose another place."


@dataclass(frozen=True)
class StagedFile:
    """New content for `target`, in a temporary file of its folder, so that renaming cannot fail halfway."""

    temporary: Path
    target: Path

    def fill(self, write: Callable[[BinaryIO], object]) -> None:
        """Let `write` write the content, and bring it to the disk."""
        with write_failures(self.target), self.temporary.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())

    def fill_path(self, write: Callable[[Path], object]) -> None:
        """Do the same with a `write` that opens the temporary file itself, by its path."""
        with write_failures(self.target):
            write(self.temporary)
            _sync(self.temporary)

    def commit(self) -> None:
        """Rename over the target, and bring the folder to the disk."""
        with write_failures(self.target):
            self.temporary.replace(self.target)
            _sync(self.target.parent)

    def commit_first(self) -> None:
        """Put the content where there is none; what another process has put there meanwhile stays."""
        with write_failures(self.target):
            try:
                self.target.hardlink_to(self.temporary)
            except OSError:  # there is one, or the file system has no such links
                if not self.target.exists():
                    self.temporary.replace(self.target)
            _sync(self.target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def staged(target: Path) -> Iterator[StagedFile]:
    """Prepare the replacement of a file; what is not committed at the end is removed.

    What killed processes have left in its folder is cleared.

    Its folder is made where missing; `MrharmonyError` where the operating system refuses: disk full, no
    permission, a folder in the way.
    """
    with write_failures(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    temporary = new_temporary(target.parent)
    try:
        yield StagedFile(temporary, target)
    finally:
        discard(temporary)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it; `MrharmonyError` where the operating system refuses."""
    with write_failures(folder, "made"):
        folder.mkdir(parents=True, exist_ok=True)


def require_writable(folder: Path) -> None:
    """Make an output folder and see that files can be made in it, before any work is done for it.

    Raises `MrharmonyError` where the operating system refuses.
    """
    with write_failures(folder, "written into"):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = new_temporary(folder)
        temporary.touch()
        discard(temporary)


@contextmanager
def write_failures(target: Path, done: str = "written") -> Iterator[None]:
    """Turn a failure of the operating system into one sentence for the user."""
    try:
        yield
    except OSError as failure:
        reason = failure.strerror or failure
        raise NotWritten(f"{target}: cannot be {done} ({reason}). {_remedy(failure)}") from failure


def _remedy(failure: OSError) -> str:
    if isinstance(failure, IsADirectoryError):
        return FOLDER_IN_THE_WAY
    if not isinstance(failure, FileExistsError | NotADirectoryError) and failure.errno != errno.ELOOP:
        return _CHECK
    place = Path(os.fsdecode(failure.filename or ""))
    if loop := link_to_itself(place):
        return f"{loop} is a link that leads to itself; choose another place."
    if place.is_symlink() and not place.exists():
        return f"{place} is a link to nothing; make the folder that it names, or choose another."
    return _FILE_IN_THE_WAY


def remove(*files: Path) -> None:
    """Remove those of the files that exist; `MrharmonyError` where the operating system refuses."""
    for file in files:
        with write_failures(file, "removed"):
            file.unlink(missing_ok=True)


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file atomically, by a function that writes the content to a stream; raises as `staged` does."""
    with staged(path) as file:
        file.fill(write)
        file.commit()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; its folder is made where missing."""
    write_file(path, lambda stream: stream.write(content))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8; its folder is made where missing."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def json_bytes(record: dict[str, Any]) -> bytes:
    """Return a record as indented UTF-8 JSON; NaN and infinity raise `ValueError`.

    Bytes of file names that are not UTF-8 become JSON's escapes, and are read back as they were.
    """
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode("utf-8", "backslashreplace")


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, atomically; NaN and infinity raise `ValueError`."""
    write_bytes(path, json_bytes(record))


def begin_json(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, atomically, where there is no file; of several processes the first one does."""
    with staged(path) as file:
        file.fill(lambda stream: stream.write(json_bytes(record)))
        file.commit_first()


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None where there is no such file or it holds no object.

    The text may begin with a byte-order mark: sidecars are also written by others.
    """
    try:
        record = json.loads(read_text(path, "utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def write_arrays(path: Path, arrays: Mapping[str, ArrayLike], place: str | None = None) -> None:
    """Write named arrays as `.npz`, atomically and uncompressed: compressing takes longer than most work.

    `place`, or the file's own name, is kept in it, so that one which takes the name of another is found.
    """
    kept = {**arrays, _KEPT_AS: place or path.name}
    # numpy's stub takes the arrays for its flag.
    write_file(path, lambda stream: np.savez(stream, **kept))  # type: ignore[arg-type]


@contextmanager
def kept_arrays(path: Path, damaged: str, place: str | None = None) -> Iterator[NpzFile]:
    """Open what `write_arrays` wrote; what does not fit while they are read is damage since.

    Raises `MrharmonyError` with the path and the sentence `damaged`, also where it was written for another
    place, or under another name.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if _KEPT_AS in archive and str(archive[_KEPT_AS]) != (place or path.name):
                raise ValueError(archive[_KEPT_AS])
            yield archive
    except (OSError, BadZipFile, KeyError, ValueError, TypeError, EOFError, zlib.error) as failure:
        raise MrharmonyError(f"{path}: {damaged}") from failure

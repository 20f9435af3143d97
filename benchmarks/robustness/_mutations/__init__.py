"""Kinds of damaged input: how each is made, and what is asked of it."""

import atexit
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import numpy as np

from mrharmony.core.findings import MrharmonyError


class Kind(NamedTuple):
    """A kind of damaged input."""

    name: str
    make: Callable[[np.random.Generator, Path], Path]  # writes one into a folder
    open: Callable[[Path], None]  # `MrharmonyError` refuses it, `AssertionError` says that it was misread


def kept_folder() -> Path:
    """Return a folder for what is sound and copied for each case; it goes when the process ends."""
    folder = Path(mkdtemp(prefix="mrharmony-sound-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def is_sentence(reason: str) -> bool:
    """Say whether a reason is one that a person reads: a line, and not a long one."""
    return "\n" not in reason and len(reason) < 600


@contextmanager
def refusals() -> Iterator[None]:
    """Let one of several commands refuse, in a sentence."""
    try:
        yield
    except MrharmonyError as error:
        assert is_sentence(str(error)), error

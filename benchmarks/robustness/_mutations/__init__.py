"""Kinds of damaged input: how each is made, and what is asked of it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Kind(NamedTuple):
    """A kind of damaged input."""

    name: str
    make: Callable[[np.random.Generator, Path], Path]  # writes one into a folder
    open: Callable[[Path], None]  # `MrharmonyError` refuses it, `AssertionError` says that it was misread

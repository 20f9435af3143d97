"""The terminal: names of files and sites are printed as they are, whatever brackets and colons they have."""

from __future__ import annotations

from rich.console import Console


def terminal(*, stderr: bool = False) -> Console:
    """Return a console that reads no markup, emoji or numbers into text; our own colours are `Text`'s."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)

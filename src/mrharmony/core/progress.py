"""Progress: a bar on a terminal, a line now and then elsewhere; always on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mrharmony.core.ending import note_progress
from mrharmony.core.terminal import terminal

Item = TypeVar("Item")

QUIET_SECONDS = 30.0  # between two lines where there is no terminal


def track(items: Iterable[Item], description: str, total: int | None = None, done: int = 0) -> Iterator[Item]:
    """Yield the items that are left to do and show the progress.

    Parameters
    ----------
    items, description
        What is left to do, and what is being done, in a few words.
    total, done
        How many items there are altogether (by default those given), and how many an earlier run has done.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from _bar(items, description, total, done)
    else:
        yield from _lines(items, description, total, done)


def _bar(items: Iterable[Item], description: str, total: int | None, done: int) -> Iterator[Item]:
    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, completed=done)
        for item in items:
            yield item
            progress.advance(task)
            done += 1
            note_progress(done, total)


def _lines(items: Iterable[Item], description: str, total: int | None, done: int) -> Iterator[Item]:
    last = time.monotonic()
    for count, item in enumerate(items, start=done + 1):
        yield item
        note_progress(count, total)
        if time.monotonic() - last >= QUIET_SECONDS:
            last = time.monotonic()
            print(f"{description}: {count} of {total or '?'}", file=sys.stderr, flush=True)

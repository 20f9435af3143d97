"""The orderly end of a process that is told to end: one sentence, and nothing half-written left behind."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from threading import Thread

from mrharmony.core.temporaries import discard_own

KEPT = "What is finished stays; call again to go on."
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


def end_in_order() -> None:
    """From now on, end within moments when the process is interrupted, terminated or loses its terminal.

    The signals SIGINT, SIGTERM and SIGHUP are blocked and waited for in a thread: computations that Python
    cannot interrupt do not delay the end, an import does not end in a traceback, and processes that are
    started later are not interrupted beside this one, but end after it. Temporary files are removed; files
    are written whole or not at all. The exit status is 128 + the signal's number.

    It is called first of all, before anything that takes time is imported. Where the system cannot block
    signals, nothing is changed.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return
    awaited = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    Thread(target=_wait_and_end, args=(awaited,), daemon=True).start()


def _wait_and_end(awaited: set[signal.Signals]) -> None:
    name = signal.Signals(number := signal.sigwait(awaited)).name
    cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""
    with suppress(OSError):  # a terminal that is gone cannot be told
        os.write(2, f"{cursor}\nmrharmony: ended by {name}. {KEPT}\n".encode())
    discard_own()
    os._exit(128 + number)

"""The orderly end of a process that is told to end: one sentence, and nothing half-written left behind.

Also its first moment, in which the standard streams are made sure of.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from threading import Thread

from mrharmony.core.temporaries import discard_own

GO_ON = "What is finished stays; call again to go on."
START_OVER = "Call again to start over."
PREPARE_FIRST = (
    "Call again to start over, or run `mrharmony prepare` first and name its folder with --prepared: "
    "what that has finished stays."
)

_progress = ""
_remedy = "Call again."  # until it is known which command this is
_awaited: set[signal.Signals] = set()
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


def open_standard_streams() -> None:
    """Give standard streams that are closed to the null device; a file would get their numbers, and messages.

    It is called before any file is opened.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)  # by worker processes, which write there too
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - until the end


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
    _awaited.update({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    block_again()
    Thread(target=_wait_and_end, daemon=True).start()


def block_again() -> None:
    """Block what `end_in_order` waits for where another library has let it through; without it, nothing."""
    if _awaited:
        signal.pthread_sigmask(signal.SIG_BLOCK, _awaited)


def note_progress(done: int, total: int | None) -> None:
    """Keep in mind how far the work has come, for the sentence at the end."""
    global _progress  # noqa: PLW0603 - one process, one end
    _progress = f" after {done} of {total or '?'}" if done else ""


def note_remedy(sentence: str) -> None:
    """Keep in mind what is to be done after an early end: it depends on what a command keeps."""
    global _remedy  # noqa: PLW0603 - one process, one end
    _remedy = sentence


def remedy() -> str:
    """Return what is to be done after an early end."""
    return _remedy


def _wait_and_end() -> None:
    number = signal.sigwait(_awaited)
    name = signal.Signals(number).name
    cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""
    with suppress(OSError):  # a terminal that is gone cannot be told
        os.write(2, f"{cursor}\nmrharmony: ended by {name}{_progress}. {_remedy}\n".encode())
    discard_own()
    os._exit(128 + number)

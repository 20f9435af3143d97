"""Damaged input: what is refused in one sentence, what is accepted and kept to its promises, what escapes.

python -m benchmarks.robustness.fuzz [--cases 300] [--seed 0] [--kind NAME ...]

`--cases` is their number for each kind: images, DICOM folders, model directories, tables and sidecars of data
sets, results. A case escapes where anything but `MrharmonyError` ends it, its reason is no single sentence,
what was accepted breaks a promise, or it takes over 2 s (three times in a row) or 1 GiB.
A case is repeated by its kind and number: `made(kind, seed, number, folder)`.
"""

import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.reports import Report, save
from benchmarks.robustness._mutations import Kind, dicom, images, is_sentence, models, results, tables
from mrharmony.core.findings import MrharmonyError

KINDS = (*images.KINDS, *dicom.KINDS, *models.KINDS, *tables.KINDS, *results.KINDS)
MOST_SECONDS, MOST_BYTES = 2.0, 2**30
TRIES = 3  # of a case that took too long: the clock also counts what other processes of the machine do
OUTCOMES = ("refused", "accepted", "escaped")


def main() -> None:
    asked = on_one_thread(__doc__, cases=300, seed=0, kind=[])
    rows, escapes = [], []
    for kind in KINDS:
        if not asked.kind or kind.name in asked.kind:
            row, escaped = campaign(kind, asked.cases, asked.seed)
            rows.append(row)
            escapes += escaped
    print(*escapes, sep="\n")
    record = {"cases": asked.cases, "seed": asked.seed, "rows": rows, "escapes": escapes}
    save(asked, report(record, asked.command), record)


def campaign(kind: Kind, cases: int, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Return the counts of a kind's outcomes, and what escaped."""
    counts = dict.fromkeys(OUTCOMES, 0)
    escapes, slowest = [], 0.0
    for number in range(cases):
        for _ in range(TRIES):
            outcome, reason, seconds = timed(kind, seed, number)
            if seconds <= MOST_SECONDS:
                break
        counts[outcome] += 1
        slowest = max(slowest, seconds)
        if outcome == "escaped":
            escapes.append(f"{kind.name} {number}: {reason}")
    return {"kind": kind.name, "tried": cases, **counts, "slowest": slowest}, escapes


def timed(kind: Kind, seed: int, number: int) -> tuple[str, str, float]:
    """Make and open a case; return its outcome, the reason, and how long it took by the clock."""
    with TemporaryDirectory(prefix="mrharmony-") as folder:
        path = made(kind, seed, number, Path(folder))
        start = time.monotonic()
        outcome, reason = attempt(kind, path)
        seconds = time.monotonic() - start
    if seconds > MOST_SECONDS:
        outcome, reason = "escaped", f"took {seconds:.1f} s"
    return outcome, reason, seconds


def made(kind: Kind, seed: int, number: int, folder: Path) -> Path:
    """Write a case and return its path."""
    return kind.make(np.random.default_rng([seed, number, *kind.name.encode()]), folder)


def attempt(kind: Kind, path: Path) -> tuple[str, str]:
    """Open a case within the limits; return its outcome, and why it was refused or escaped."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, before[1]))
    try:
        with _ended_in_time():
            kind.open(path)
    except MrharmonyError as error:
        codes = [finding.code for finding in getattr(error, "findings", ())]
        sound = is_sentence(str(error)) and "out-of-memory" not in codes
        return ("refused" if sound else "escaped"), str(error)
    except BaseException as failure:
        return "escaped", f"{type(failure).__name__}: {failure}"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    return "accepted", ""


class _Endless(BaseException):
    """Ends what would wait for ever."""


@contextmanager
def _ended_in_time() -> Iterator[None]:
    """Raise where what is done takes far too long, such as reading a pipe."""

    def end(*_: object) -> None:
        raise _Endless(f"no end within {2 * MOST_SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 2 * MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def report(record: dict[str, Any], command: str) -> Report:
    shown = Report(
        "Damaged input",
        f"Command: `{command}`",
        f"Seed {record['seed']}; {record['cases']} cases of each kind, "
        f"{record['cases'] * len(record['rows']):,} in all",
        "Refused: in one sentence. Accepted: finite numbers, an affine as nibabel reads it, the same when "
        "written; of DICOM folders the whole scan, or a finding; of several files, the sound ones kept",
        f"Escaped: anything else, or over {MOST_SECONDS:g} s by the clock, {TRIES} times in a row, or over "
        f"{MOST_BYTES // 2**30} GiB",
    )
    columns = "kind: {kind} | tried: {tried} | refused: {refused} | accepted: {accepted} | escaped: {escaped}"
    shown.table(record["rows"], columns + " | slowest, s: {slowest:.2f}")
    return shown


if __name__ == "__main__":
    main()

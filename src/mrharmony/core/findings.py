"""Findings and errors: how a check says what it noticed, and how a failure says what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeVar

Subject = TypeVar("Subject")
_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


@dataclass(frozen=True)
class Finding:
    """One thing that a check noticed about a scan, and what to do about it.

    Parameters
    ----------
    level
        `info` is worth knowing, `warning` deserves attention, `error` means the scan is refused.
    code
        Short stable identifier, for scripts: `truncated-gzip`, `missing-affine`, …
    message
        One sentence: what is wrong.
    fix
        One sentence: what to do about it.
    """

    level: Literal["info", "warning", "error"]
    code: str
    message: str
    fix: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", on_one_line(self.message))


class MrharmonyError(Exception):
    """An expected failure; its sentence, on one line, says which file or value, what is wrong, what to do."""

    def __init__(self, sentence: str) -> None:
        super().__init__(on_one_line(sentence))


def on_one_line(text: str) -> str:
    """Return a text with its control characters spelled, since names and values of files may hold any."""
    return _BREAKS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class NotWritten(MrharmonyError):
    """A file that could not be written; the operating system's reason is in the sentence."""


def of_the_system(failure: OSError) -> NotWritten:
    """Return the sentence for a file or a name that the operating system refuses, wherever that happens."""
    named = os.fsdecode(failure.filename) if isinstance(failure.filename, str | bytes) else "a file"
    reason = failure.strerror or failure
    return NotWritten(f"{named}: cannot be used ({reason}). Check the name, and permissions and free space.")


class ScanRefused(MrharmonyError):
    """A scan that cannot be used; the first error among its findings is the reason."""

    def __init__(self, path: Path | str, findings: tuple[Finding, ...]) -> None:
        self.path = Path(path)
        self.findings = findings
        reason = next((f for f in findings if f.level == "error"), findings[0])
        super().__init__(f"{self.path}: {reason.message} {reason.fix}")

    def __reduce__(self) -> tuple[type[ScanRefused], tuple[Path, tuple[Finding, ...]]]:
        return ScanRefused, (self.path, self.findings)  # else what comes from a process could not be opened


class ScanFault(Exception):
    """Ends the reading of a scan; carries the findings that say why, one or more."""

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings
        super().__init__(findings[-1].message)


def info(code: str, message: str, fix: str = "Nothing to do.") -> Finding:
    """Return a finding that is worth knowing."""
    return Finding("info", code, message, fix)


def warning(code: str, message: str, fix: str) -> Finding:
    """Return a finding that deserves attention."""
    return Finding("warning", code, message, fix)


def error(code: str, message: str, fix: str) -> Finding:
    """Return a finding for which the scan is refused."""
    return Finding("error", code, message, fix)


def fault(code: str, message: str, fix: str) -> ScanFault:
    """Return the exception that ends the reading of a scan for one error."""
    return ScanFault(error(code, message, fix))


def has_error(findings: Iterable[Finding]) -> bool:
    """Say whether any of the findings refuses the scan."""
    return any(finding.level == "error" for finding in findings)


def run_checks(
    checks: Iterable[Callable[[Subject], Iterable[Finding]]], subject: Subject
) -> tuple[Finding, ...]:
    """Run every check on one subject and return all that they found, in order."""
    return tuple(finding for check in checks for finding in check(subject))


def proceed(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings, or raise `ScanFault` with them where one is an error."""
    if has_error(findings):
        raise ScanFault(*findings)
    return findings


def finding_record(finding: Finding) -> dict[str, str]:
    """Return a finding as a JSON object with the keys `level`, `code`, `message` and `fix`."""
    return asdict(finding)

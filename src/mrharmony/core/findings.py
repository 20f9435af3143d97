"""Findings: how a check says what it noticed, in Python, in print and in JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TypeVar

from mrharmony.core.volume import Finding

Subject = TypeVar("Subject")


class ScanFault(Exception):
    """Ends the reading of a scan; carries the findings that say why."""

    def __init__(self, *findings: Finding) -> None:
        """Take what was found, one or more."""
        self.findings = findings
        super().__init__(findings[-1].message)


def info(code: str, message: str, fix: str = "Nothing to do.") -> Finding:
    """Return a finding that is worth knowing."""
    return Finding("info", code, message, fix)


def warning(code: str, message: str, fix: str) -> Finding:
    """Return a finding that deserves a look."""
    return Finding("warning", code, message, fix)


def error(code: str, message: str, fix: str) -> Finding:
    """Return a finding for which the scan is refused."""
    return Finding("error", code, message, fix)


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

"""JSON sidecars of BIDS scans, by the inheritance principle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mrharmony.scans.findings import warning
from mrharmony.volume import Finding

Sidecar = dict[str, Any]


def entities(stem: str) -> frozenset[str]:
    """Return the entities of a BIDS file name without its suffix: `sub-01_T1w` has `{sub-01}`."""
    return frozenset(stem.split("_")[:-1])


class SidecarReader:
    """Reads each sidecar of a folder once, however many scans inherit from it.

    Sidecars apply to a scan where they lie in a folder above it (or beside it), end in `T1w`, and name no
    entity that the scan has not. The deeper one, and the more specific one, wins.
    """

    def __init__(self, root: Path) -> None:
        """Take the BIDS folder, above which nothing is inherited."""
        self._root = root
        self._folders: dict[Path, list[tuple[frozenset[str], Sidecar]]] = {}
        self.findings: list[Finding] = []

    def read(self, scan: Path, stem: str) -> Sidecar:
        """Return all that the sidecars say of a scan, merged.

        Parameters
        ----------
        scan
            The scan, somewhere below the BIDS folder.
        stem
            Its file name without `.nii` or `.nii.gz`.
        """
        merged: Sidecar = {}
        above = [folder for folder in scan.parents if folder.is_relative_to(self._root)]
        for folder in reversed(above):
            for names, content in self._sidecars(folder):
                if names <= entities(stem):
                    merged |= content
        return merged

    def _sidecars(self, folder: Path) -> list[tuple[frozenset[str], Sidecar]]:
        """Return entities and content of a folder's T1w sidecars, the most specific last."""
        if folder not in self._folders:
            paths = [path for path in sorted(folder.glob("*T1w.json")) if not path.name.startswith(".")]
            pairs = [(entities(path.stem), self._load(path)) for path in paths]
            self._folders[folder] = sorted(pairs, key=lambda pair: len(pair[0]))
        return self._folders[folder]

    def _load(self, path: Path) -> Sidecar:
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError):
            content = None
        if isinstance(content, dict):
            return content
        self.findings.append(
            warning(
                "bids-bad-sidecar",
                f"{path.relative_to(self._root)} is not a JSON object and is ignored.",
                "Repair or remove it.",
            )
        )
        return {}

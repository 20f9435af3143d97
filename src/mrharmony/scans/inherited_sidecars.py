"""The JSON sidecars of a BIDS folder, which scans inherit from the folders above them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mrharmony.core.findings import Finding, warning
from mrharmony.core.pointers import FETCH, content_missing
from mrharmony.core.records import read_text
from mrharmony.scans.folders import IN_A_COPY
from mrharmony.scans.names import entities

Sidecar = dict[str, Any]


class SidecarReader:
    """Reads each sidecar of a BIDS folder once, however many scans inherit from it.

    A sidecar applies to a scan if it lies in a folder above it (or beside it), ends in the same suffix (`T1w`
    or `UNIT1`), and names no entity that the scan lacks. Deeper sidecars win over higher ones, more specific
    over less specific ones.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[tuple[Path, str], list[tuple[frozenset[str], Sidecar]]] = {}
        self.findings: list[Finding] = []

    def read(self, scan: Path, stem: str) -> Sidecar:
        """Return the merged sidecars of a scan below the BIDS folder; `stem` is its name without suffix."""
        merged: Sidecar = {}
        above = [folder for folder in scan.parents if folder.is_relative_to(self._root)]
        for folder in reversed(above):
            for names, content in self._sidecars(folder, stem.rsplit("_", maxsplit=1)[-1]):
                if names <= entities(stem):
                    merged |= content
        return merged

    def _sidecars(self, folder: Path, suffix: str) -> list[tuple[frozenset[str], Sidecar]]:
        """Return entities and content of a folder's sidecars of a suffix, the most specific last."""
        key = folder, suffix
        if key not in self._folders:
            found = sorted(folder.glob(f"*{suffix}.json"))
            paths = [path for path in found if not path.name.startswith(".")]
            pairs = [(entities(path.stem), self._load(path)) for path in paths]
            self._folders[key] = sorted(pairs, key=lambda pair: len(pair[0]))
        return self._folders[key]

    def _load(self, path: Path) -> Sidecar:
        reason = "it holds something else"
        try:
            content = json.loads(read_text(path, "utf-8-sig"))
            if isinstance(content, dict):
                return content
        except RecursionError:
            reason = "nested too deeply"
        except ValueError as failure:
            reason = str(failure)
        name = path.relative_to(self._root)
        if content_missing(path):
            missing = f"The content of the sidecar {name} is not here; it is ignored."
            self.findings.append(warning("bids-missing-sidecar", missing, FETCH))
        else:
            damaged = f"{name} is not a JSON object ({reason}) and is ignored."
            remedy = f"Check what it should say; to use it, give a sound one {IN_A_COPY}."
            self.findings.append(warning("bids-bad-sidecar", damaged, remedy))
        return {}

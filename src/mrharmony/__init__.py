"""mrharmony: make T1-weighted brain scans of any scanner look as if another scanner had taken them.

>>> import mrharmony
>>> harmonizer = mrharmony.Harmonizer.from_pretrained()
>>> image = mrharmony.virtual_scan("spgr-1.5t", zoom=4.0)  # or a nibabel image, or a path
>>> result = harmonizer.harmonize(image, target="NSK")
>>> result.evidence.verdict in ("pass", "warn", "fail")
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mrharmony.core.version import __version__

if TYPE_CHECKING:
    from mrharmony.api.harmonizer import Harmonizer
    from mrharmony.api.images import check, load, prepare, virtual_scan
    from mrharmony.api.result import HarmonizedScan
    from mrharmony.core.domain import Domain
    from mrharmony.core.findings import Finding, MrharmonyError, ScanRefused
    from mrharmony.core.volume import Volume
    from mrharmony.evidence.drift import Evidence
    from mrharmony.preparation.prepared import PreparedScan
    from mrharmony.scans.reading import Scan
    from mrharmony.simulate.protocol import Protocol, read_protocol

__all__ = [
    "Domain",
    "Evidence",
    "Finding",
    "HarmonizedScan",
    "Harmonizer",
    "MrharmonyError",
    "PreparedScan",
    "Protocol",
    "Scan",
    "ScanRefused",
    "Volume",
    "__version__",
    "check",
    "load",
    "prepare",
    "read_protocol",
    "virtual_scan",
]

_HOMES = {
    "Domain": "core.domain",
    "Evidence": "evidence.drift",
    "Finding": "core.findings",
    "HarmonizedScan": "api.result",
    "Harmonizer": "api.harmonizer",
    "MrharmonyError": "core.findings",
    "PreparedScan": "preparation.prepared",
    "Protocol": "simulate.protocol",
    "Scan": "scans.reading",
    "ScanRefused": "core.findings",
    "Volume": "core.volume",
    "check": "api.images",
    "load": "api.images",
    "prepare": "api.images",
    "read_protocol": "simulate.protocol",
    "virtual_scan": "api.images",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: `import mrharmony` itself takes no time."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mrharmony' has no attribute {name!r}")
    return getattr(import_module(f"mrharmony.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

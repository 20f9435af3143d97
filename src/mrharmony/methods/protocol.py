"""What every harmonization method takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

from mrharmony.core.arguments import require_choice, require_count
from mrharmony.core.domain import Domain
from mrharmony.core.findings import Finding

if TYPE_CHECKING:  # the registry, and so the command line's help, imports this module
    from mrharmony.core.volume import FloatArray, Volume
    from mrharmony.domains.statistics import DomainStatistics
    from mrharmony.evidence.drift import Evidence
    from mrharmony.networks.translation import TranslationSettings
    from mrharmony.preparation.canonical import CanonicalBrain
    from mrharmony.preparation.prepared import PreparedScan

Extent = Literal["brain", "head"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class HarmonizedVolume:
    """A scan in another domain's contrast.

    Parameters
    ----------
    volume
        On the scan's native grid; intensities in the target domain's native units.
    scale
        Native intensity of 1 canonical unit in the volume.
    evidence
        Drift figures and verdict.
    provenance
        Method and extent, and what else the sidecar records of the method.
    findings
        What was noticed on the way.
    target_statistics
        Of the target domain, which the evidence compared with; None where there are none.
    """

    volume: Volume
    scale: float
    evidence: Evidence
    provenance: dict[str, object]
    findings: tuple[Finding, ...] = ()
    target_statistics: DomainStatistics | None = None

    def intensities(self) -> FloatArray:
        """Return the harmonized intensities in canonical units, shape (i, j, k)."""
        return self.volume.voxels / float(self.scale)


class Harmonizer(Protocol):
    """A method, ready to bring a scan into the contrast of a target domain."""

    @property
    def name(self) -> str:
        """Name of the method as users type it."""

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """Return canonical intensities in the target's contrast on the native grid, shape (i, j, k).

        The part of `harmonize` that is the method's own: 0 outside the brain, without evidence. Raises
        `MrharmonyError` where the target domain is unknown, or the method cannot work from that source.
        """

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """Return the harmonized scan with evidence; `source` is None where it is unknown."""

    def save(self, directory: Path) -> None:
        """Write what the method is loaded from; several methods may share a directory."""


@dataclass(frozen=True)
class MethodSettings:
    """How a method runs; None is its own default. `Method.options` says which of these a method takes.

    Parameters
    ----------
    seed
        Of everything random, unless `translation` has one.
    device
        Where the networks of `img2img` run: `auto`, `cpu` or `cuda`; other methods run on the processor.
    extent
        `brain` sets voxels outside the brain to 0; `head` transforms all voxels.
    lock
        Whether a generated picture goes through the anatomy lock.
    detail
        Whether sharpness and noise follow the target's after the lock.
    translation
        Strength, steps and weights of image-to-image.

    Raises
    ------
    MrharmonyError
        If the seed, the device or the extent is impossible.
    """

    seed: int = 0
    device: str = "auto"
    extent: Extent = "brain"
    lock: bool | None = None
    detail: bool = False
    translation: TranslationSettings | None = None

    def __post_init__(self) -> None:
        require_count("seed", self.seed)
        require_choice("device", self.device, get_args(Device))
        require_choice("extent", self.extent, get_args(Extent))


DEFAULTS = MethodSettings()


class Implementation(NamedTuple):
    """The code of a method.

    Parameters
    ----------
    load
        Opens what `Harmonizer.save` left in a directory.
    fit
        Fits the method on training scans by domain, given their statistics; None where it trains networks.
    """

    load: Callable[[Path, MethodSettings], Harmonizer]
    fit: (
        Callable[[Mapping[str, Sequence[CanonicalBrain]], Mapping[str, DomainStatistics]], Harmonizer] | None
    ) = None

"""The JSON beside a harmonized scan as one typed model: the only place that knows its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_pascal

from mrharmony.core.atomic import read_json
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.records import first_fault
from mrharmony.core.version import __version__
from mrharmony.scans.names import DESCRIPTION

SCHEMA_VERSION = 1
RAW = "raw"  # name of the data set in the BIDS URIs of its derivatives
OTHER_IMAGE = (
    "The image is not the one that its JSON file was written with, so that figures and verdict may be of "
    "another. Harmonize the scan again."
)


class _Record(BaseModel):
    """JSON whose keys are the fields' names in BIDS's CamelCase; unknown keys are ignored."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=lambda name: to_pascal(name).replace("Sha256", "SHA256"),
        populate_by_name=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    def record(self) -> dict[str, Any]:
        """Return what the JSON file says."""
        return self.model_dump(by_alias=True)

    @classmethod
    def _read(cls, path: Path, *marks: str) -> Self | None:
        """Return the content of a file that has all the keys `marks`, None for any other file."""
        content = read_json(path)
        if content is None or any(mark not in content for mark in marks):
            return None
        try:
            return cls.model_validate(content)
        except ValidationError as failure:
            raise MrharmonyError(f"{path}: {first_fault(failure)}. Harmonize the scan again.") from failure


class Software(_Record):
    """A program that made a file, as in BIDS's `GeneratedBy`."""

    name: str
    version: str = "unknown"


# Left out where they are None.
_IF_ANY = ("mean_uncertainty", "source_protocol", "target_protocol", "image_sha256")
GENERATED_BY = (Software(name="mrharmony", version=__version__),)


class Provenance(_Record):
    """What all scans of one call have in common.

    Parameters
    ----------
    model, model_sha256
        Name of the model directory, and the hash of its content.
    seed
        Everything random comes from it.
    sampling
        How a diffusion model is sampled, apart from the seed; None for other methods.
    detail_transfer
        Whether sharpness and noise are filtered toward the target's.
    generated_by, versions
        This program, and the versions of the libraries that decide the numbers.
    """

    model: str | None = None
    model_sha256: str | None = None
    seed: int = 0
    sampling: dict[str, Any] | None = None
    detail_transfer: bool = False
    generated_by: tuple[Software, ...] = ()
    versions: dict[str, str] = {}


class HarmonizedSidecar(_Record):
    """What the JSON beside a harmonized scan says; no times, so that equal runs leave equal bytes.

    Parameters
    ----------
    schema_version
        Counts the changes of these keys.
    description
        A sentence on the file, as BIDS wants it.
    source, target
        Names of the domains; the source is None where it is unknown.
    nearest_domain, source_distance
        The known domain whose contrast the scan comes nearest to, and how near (canonical units); None where
        the method does not look for it.
    source_protocol, target_protocol
        Field strength and sequence (ms, degrees) of a domain that is a protocol; left out for others.
    method
        Name of the method as users type it.
    model, model_sha256, seed, sampling, detail_transfer, generated_by, versions
        As in `Provenance`.
    skull_stripped, extent
        Whether the image shows the brain alone; `brain` or `head`, what was harmonized.
    detail
        What the transfer of detail did; None without it.
    intensity_scale
        Intensity of 1 canonical unit in the image.
    sources
        The scan that it was made of: a BIDS URI (`bids:raw:...`) in derivatives of a data set, else the way
        from the image's folder; empty for a scan in memory. `source_file` finds it.
    image_sha256
        Hash of the image's file; `write_scan` fills it in.
    source_sha256, preparation
        Hashes of that scan, and of the saved preparation that was taken if one was.
    program_version
        Program and format of its preparation.
    drift
        The figures of `Evidence` by name, None where there is nothing to compare with.
    verdict, verdict_reasons
        `pass`, `warn` or `fail`, and the figures and findings that decided it.
    findings
        What was noticed on the way, as `finding_record` has it.
    mean_uncertainty
        Mean of the uncertainty map over the brain, in the image's units; left out where there is no map.
    spatial_reference
        `orig`: the grid of the scan itself.
    """

    schema_version: Annotated[int, Field(ge=1)]
    description: str = "T1-weighted scan harmonized by mrharmony; research use only."
    source: str | None = None
    nearest_domain: str | None = None
    source_distance: float | None = None
    target: str
    source_protocol: dict[str, Any] | None = None
    target_protocol: dict[str, Any] | None = None
    method: str
    model: str | None = None
    model_sha256: str | None = None
    seed: int = 0
    sampling: dict[str, Any] | None = None
    detail_transfer: bool = False
    generated_by: tuple[Software, ...] = ()
    versions: dict[str, str] = {}
    skull_stripped: bool = True
    extent: str = "brain"
    detail: dict[str, Any] | None = None
    intensity_scale: Annotated[float, Field(gt=1e-12, lt=1e12)]
    sources: tuple[str, ...]
    image_sha256: str | None = None
    source_sha256: str | None = None
    preparation: str | None = None
    program_version: str | None = None
    spatial_reference: str = "orig"
    drift: dict[str, float | None]
    verdict: str
    verdict_reasons: tuple[str, ...] = ()
    findings: tuple[dict[str, str], ...] = ()
    mean_uncertainty: float | None = None

    def record(self) -> dict[str, Any]:
        """Return what the JSON file says."""
        left_out = {name for name in _IF_ANY if getattr(self, name) is None}
        return self.model_dump(by_alias=True, exclude=left_out)


class UncertaintySidecar(_Record):
    """What the JSON beside an uncertainty map says."""

    description: str = "Standard deviation of the harmonized intensities over several seeds, in their units."
    mean_uncertainty: float
    sources: tuple[str, ...] = ()
    spatial_reference: str = "orig"


def read_harmonized(path: Path) -> HarmonizedSidecar | None:
    """Read the JSON beside a harmonized scan.

    Returns None where there is no such file, it is no JSON object, or mrharmony did not write it;
    `MrharmonyError` where mrharmony wrote it, but a key is missing or does not hold what it should.
    """
    return HarmonizedSidecar._read(path, "Target", "Method")


def read_uncertainty(path: Path) -> UncertaintySidecar | None:
    """Read the JSON beside an uncertainty map; returns and raises as `read_harmonized`."""
    return UncertaintySidecar._read(path, "MeanUncertainty")


def source_file(image: Path, note: HarmonizedSidecar) -> Path | None:
    """Return the scan that an image was made of, whether it is still there or not.

    None for a scan in memory, and for a BIDS URI of a data set that no description above the image links to.
    """
    if not note.sources:
        return None
    name = note.sources[0]
    if not name.startswith(f"bids:{RAW}:"):
        return image.parent / name
    for folder in image.parents:
        links = (read_json(folder / DESCRIPTION) or {}).get("DatasetLinks")
        if isinstance(links, dict) and isinstance(links.get(RAW), str):
            return Path(folder, links[RAW], name.removeprefix(f"bids:{RAW}:"))
    return None

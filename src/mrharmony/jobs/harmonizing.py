"""Harmonizing scan files: read, prepare, harmonize, write; one scan's failure leaves the others alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mrharmony.core.atomic import remove
from mrharmony.core.domain import Domain
from mrharmony.core.findings import Finding, MrharmonyError, finding_record
from mrharmony.evidence.drift import Evidence
from mrharmony.evidence.uncertainty import SeededHarmonizer, spread
from mrharmony.jobs.brains import ScanFile, prepared_scan, saved_sha256
from mrharmony.methods.protocol import HarmonizedVolume, Harmonizer
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.prepare.saved import VERSION, read_note
from mrharmony.scans.names import output_stem, sidecar_path
from mrharmony.scans.reading import Scan, read_scan
from mrharmony.scans.writing import write_scan

SUFFIX = "_desc-harmonized_T1w.nii.gz"
UNCERTAINTY_SUFFIX = "_desc-uncertainty_T1w.nii.gz"


@dataclass(frozen=True)
class HarmonizeJob:
    """What is to be done with every scan.

    Parameters
    ----------
    harmonizer
        The method, ready to use.
    source
        The domain that the scans come from, or None where it is unknown.
    target
        The domain that they shall look like.
    provenance
        What the sidecars say of model, seed and versions.
    assume_ras
        Take a scan without orientation for RAS.
    prepared
        Folder of `mrharmony prepare` with all the scans in it; if None, scans are prepared here.
    force
        Write scans too whose verdict is `fail`.
    uncertainty
        Whether to write an uncertainty map beside each harmonized scan.
    """

    harmonizer: Harmonizer
    source: Domain | None
    target: Domain
    provenance: dict[str, Any] = field(default_factory=dict)
    assume_ras: bool = False
    prepared: Path | None = None
    force: bool = False
    uncertainty: bool = False

    def with_uncertainty(self, wanted: bool) -> HarmonizeJob:
        """Return the job that also writes uncertainty maps, if they are wanted.

        Raises
        ------
        MrharmonyError
            If the method has nothing random to tell them from.
        """
        if wanted and not isinstance(self.harmonizer, SeededHarmonizer):
            raise MrharmonyError(
                f"--uncertainty: {self.harmonizer.name} has no seeds to tell it from. Leave it out, or take "
                "--method synthesis or diffusion."
            )
        return replace(self, uncertainty=wanted)


@dataclass(frozen=True)
class Outcome:
    """What became of one scan: written to `output` with its sidecar, or refused for `reason`.

    A scan that was harmonized and refused for its verdict has that verdict and no output.
    """

    scan: Path
    output: Path | None
    verdict: str | None
    reason: str | None
    findings: tuple[Finding, ...]

    def record(self) -> dict[str, Any]:
        """Return the outcome for `--json`."""
        return {
            "scan": str(self.scan),
            "output": str(self.output) if self.output else None,
            "verdict": self.verdict,
            "reason": self.reason,
            "findings": [finding_record(finding) for finding in self.findings],
        }


def output_paths(scans: Sequence[Path], output: Path, mask: Path | None = None) -> list[Path]:
    """Return where each scan's result goes: into a directory, or the one file named.

    Parameters
    ----------
    scans, mask
        What is read.
    output
        A directory, or a file ending in `.nii.gz`.

    Raises
    ------
    MrharmonyError
        If several scans share one result, a result or its sidecar would replace an input or that of one, or
        a file is not `.nii.gz`.
    """
    if output.name.endswith((".nii", ".mgz", ".mgh", ".img", ".hdr")):
        raise MrharmonyError(f"{output}: harmonized scans are written as .nii.gz. Name the output so.")
    if output.name.endswith(".nii.gz"):
        if len(scans) > 1:
            raise MrharmonyError(f"{output}: {len(scans)} scans cannot go into one file. Name a directory.")
        results = [output]
    else:
        if output.exists() and not output.is_dir():
            raise MrharmonyError(f"{output}: is a file. Name a directory, or a file ending in .nii.gz.")
        results = [output / (output_stem(scan) + SUFFIX) for scan in scans]
    images = [*scans, *([mask] if mask else [])]
    inputs = {file.resolve() for image in images for file in (image, sidecar_path(image))}
    for result in results:
        if results.count(result) > 1:
            raise MrharmonyError(f"{result}: several scans have this result's name. Harmonize them apart.")
        written = (result, sidecar_path(result), uncertainty_path(result))
        taken = next((file for file in written if file.resolve() in inputs), None)
        if taken:
            raise MrharmonyError(
                f"{taken}: belongs to an input. Results never replace scans; choose another output."
            )
    return results


def harmonize_scan(job: HarmonizeJob, path: Path, output: Path, mask: Path | None = None) -> Outcome:
    """Harmonize one scan file; whatever goes wrong becomes the outcome's reason.

    An earlier result goes where the verdict is `fail` now; so does a map that is not of the new result.
    """
    findings: tuple[Finding, ...] = ()
    try:
        scan = read_scan(path, assume_ras=job.assume_ras)
        findings = scan.findings
        prepared = prepared_scan(ScanFile(path, mask, prepared=job.prepared), scan)
        findings += prepared.findings
        harmonized = job.harmonizer.harmonize(prepared, job.source, job.target)
        findings += harmonized.findings
        if harmonized.evidence.verdict == "fail":
            if not job.force:
                discard_result(output)
                return Outcome(path, None, "fail", refusal(path, harmonized.evidence), findings)
            findings += (forced(harmonized.evidence),)
        note = sidecar(job, scan, harmonized, findings, prepared.skull_stripped, output)
        if job.uncertainty:
            note["MeanUncertainty"] = _write_uncertainty(job, scan, prepared, harmonized.scale, output)
        else:
            _discard_uncertainty(output)
        write_scan(output, harmonized.volume.voxels, scan, note)
    except MrharmonyError as error:
        return refused_scan(path, error, findings)
    except Exception as error:  # a fault of ours in one scan leaves the others alone, and is told
        logging.getLogger(__name__).warning("%s", path, exc_info=True)
        reason = f"{path}: unexpected {type(error).__name__}: {error}. Use -v for details."
        return Outcome(path, None, None, reason, findings)
    return Outcome(path, output, harmonized.evidence.verdict, None, findings)


def refused_scan(path: Path, error: MrharmonyError, findings: tuple[Finding, ...] = ()) -> Outcome:
    """Return the outcome of a scan that could not be harmonized."""
    return Outcome(path, None, None, reason_of(error, path), getattr(error, "findings", findings))


def uncertainty_path(output: Path) -> Path:
    """Return where the uncertainty map of a harmonized scan goes."""
    stem = output.name.removesuffix(".nii.gz").removesuffix(SUFFIX.removesuffix(".nii.gz"))
    return output.with_name(stem + UNCERTAINTY_SUFFIX)


def discard_result(output: Path) -> None:
    """Remove an earlier result with its sidecar and map; a file that is none of ours stays."""
    if "IntensityScale" in read_note(sidecar_path(output)):
        _discard_uncertainty(output)
        remove(sidecar_path(output), output)


def _discard_uncertainty(output: Path) -> None:
    path = uncertainty_path(output)
    if "MeanUncertainty" in read_note(sidecar_path(path)):
        remove(sidecar_path(path), path)


def _write_uncertainty(
    job: HarmonizeJob, scan: Scan, prepared: PreparedScan, scale: float, output: Path
) -> float:
    """Write the uncertainty map in the units of the output; returns its mean over the brain."""
    assert isinstance(job.harmonizer, SeededHarmonizer)
    seed = int(job.provenance["Seed"])
    voxels = spread(job.harmonizer, prepared, job.source, job.target, seed) * np.float32(scale)
    mean = float(voxels[prepared.brain_mask].mean())
    path = uncertainty_path(output)
    note = {
        "Description": "Standard deviation of the harmonized intensities over several seeds, in their units.",
        "MeanUncertainty": mean,
        "Sources": [way_to(scan.path, path.parent)],
        "SpatialReference": "orig",
    }
    write_scan(path, voxels, scan, note)
    return mean


def refusal(path: Path, evidence: Evidence) -> str:
    """Return the sentence on a scan that is not written because its verdict is `fail`."""
    return (
        f"{path}: not written, its verdict is fail: {evidence.faults()}; look at the scan and its brain "
        "mask, or write it all the same with --force."
    )


def forced(evidence: Evidence) -> Finding:
    """Return the warning on a scan that is written although its verdict is `fail`."""
    return Finding(
        "warning",
        "forced",
        f"Written by --force although its verdict is fail: {evidence.faults()}.",
        "Look at it before any use.",
    )


def reason_of(error: MrharmonyError, path: Path) -> str:
    """Return an error's sentence, with the scan's name in front where it does not name a file."""
    text = str(error)
    return text if path.name in text else f"{path}: {text}"


def way_to(path: Path, folder: Path) -> str:
    """Return the relative path from a folder to a file, with `/`; links to the file itself are kept."""
    real = Path(os.path.realpath(path.parent)) / path.name
    return Path(os.path.relpath(real, os.path.realpath(folder))).as_posix()


def sidecar(
    job: HarmonizeJob,
    scan: Scan,
    harmonized: HarmonizedVolume,
    findings: Sequence[Finding],
    skull_stripped: bool,
    output: Path,
) -> dict[str, Any]:
    """Return what the JSON beside a harmonized scan says; no times, so equal runs leave equal bytes.

    `Sources` is the way from the output's folder to the scan, so that both can move together.
    """
    done = harmonized.provenance
    return {
        "Description": "T1-weighted scan harmonized by mrharmony; research use only.",
        "Source": job.source.name if job.source else None,
        "NearestDomain": done.get("nearest"),
        "SourceDistance": done.get("distance"),
        "Target": job.target.name,
        "Method": done["method"],
        **job.provenance,
        "SkullStripped": done["extent"] == "brain" or skull_stripped,
        "Extent": done["extent"],
        "Detail": done.get("detail"),
        "IntensityScale": harmonized.scale,
        "Sources": [way_to(scan.path, output.parent)],
        "SourceSHA256": scan.sha256,
        "Preparation": saved_sha256(ScanFile(scan.path, prepared=job.prepared), scan.sha256),
        "ProgramVersion": VERSION,
        "SpatialReference": "orig",
        "Drift": harmonized.evidence.model_dump(mode="json", exclude={"verdict", "reasons"}),
        "Verdict": harmonized.evidence.verdict,
        "VerdictReasons": list(harmonized.evidence.reasons),
        "Findings": [finding_record(finding) for finding in findings],
    }

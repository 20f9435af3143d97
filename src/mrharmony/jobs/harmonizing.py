"""Harmonizing scan files: read, prepare, harmonize, write; one scan's failure leaves the others alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from markupsafe import escape

from mrharmony.core.atomic import FOLDER_IN_THE_WAY, remove, write_text
from mrharmony.core.domain import Domain
from mrharmony.core.findings import (
    Finding,
    MrharmonyError,
    NotWritten,
    finding_record,
    of_the_system,
    on_one_line,
)
from mrharmony.core.hashing import file_sha256
from mrharmony.core.pointers import real_path
from mrharmony.core.volume import FloatArray
from mrharmony.evidence.drift import Evidence
from mrharmony.evidence.uncertainty import SeededHarmonizer, spread
from mrharmony.jobs.brains import ScanFile, prepared_scan
from mrharmony.jobs.result_names import SUFFIX, page_path, result_stem, target_label, uncertainty_path
from mrharmony.methods.protocol import HarmonizedVolume, Harmonizer
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.saved import VERSION
from mrharmony.scans.acquisition import NOT_PLAIN_T1W
from mrharmony.scans.blank_slices import BLANK_CODE
from mrharmony.scans.names import SCAN_SUFFIXES, output_stem, sidecar_path, way_to
from mrharmony.scans.reading import Scan, read_scan
from mrharmony.scans.sidecar import (
    RAW,
    SCHEMA_VERSION,
    HarmonizedSidecar,
    Provenance,
    UncertaintySidecar,
    read_harmonized,
    read_uncertainty,
    source_file,
)
from mrharmony.scans.writing import is_ours, write_scan
from mrharmony.simulate.protocol import protocol_findings, protocol_record

_HEAD_BYTES = 2000  # of a page, with its title


@dataclass(frozen=True)
class HarmonizeJob:
    """What is done with every scan.

    Raises `MrharmonyError` if an uncertainty map is asked of a method without seeds.
    """

    harmonizer: Harmonizer
    source: Domain | None  # None where it is unknown
    target: Domain
    provenance: Provenance = field(default_factory=Provenance)  # what sidecars say of model, seed, versions
    assume_ras: bool = False  # take a scan without orientation for RAS
    data_set: Path | None = None  # BIDS folder of the scans, where they are a data set
    prepared: Path | None = None  # folder of `mrharmony prepare` with all the scans; None prepares them here
    extent: str = "brain"  # `brain` or `head`, what is harmonized
    name_target: bool = False  # the target is in the names of the results of a data set
    force: bool = False  # write scans too whose verdict is `fail`
    overwrite: bool = False  # replace files of a result's name, whoever wrote them
    uncertainty: bool = False  # write an uncertainty map beside each harmonized scan
    page: bool = False  # write a page that shows each harmonized scan
    viewer: Path | None = None  # `niivue.umd.js`, to put NiiVue into the page
    remarks: tuple[Finding, ...] = ()  # on the source, beside what is assumed of protocols

    def __post_init__(self) -> None:
        if self.uncertainty and not isinstance(self.harmonizer, SeededHarmonizer):
            raise MrharmonyError(
                f"{self.harmonizer.name} has no seeds to estimate an uncertainty from. "
                "Leave uncertainty=True out, or choose method='diffusion'."
            )

    @property
    def label(self) -> str:
        """What stands for the target in the names of results; empty where it is not in them."""
        return target_label(self.target) if self.name_target else ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What every scan of the job is told: remarks, and what was assumed of protocols."""
        return self.remarks + protocol_findings(self.source, self.target)


@dataclass(frozen=True)
class Outcome:
    """What became of one scan: written to `output` with its sidecar, or not, for `reason`.

    A scan that was harmonized and refused for its verdict has that verdict and no output.
    """

    scan: Path
    output: Path | None
    verdict: str | None
    reason: str | None
    findings: tuple[Finding, ...]
    kept: bool = False  # an earlier run wrote it
    failed: bool = False  # for a reason that lies outside the scan

    @property
    def status(self) -> Literal["done", "kept", "refused", "failed"]:
        """What became of the scan, in a word."""
        if self.output is None:
            return "failed" if self.failed else "refused"
        return "kept" if self.kept else "done"

    def record(self) -> dict[str, Any]:
        """Return the outcome for `--json`."""
        output = str(self.output) if self.output else None
        findings = [finding_record(finding) for finding in self.findings]
        return {
            "scan": str(self.scan),
            "status": self.status,
            "output": output,
            "verdict": self.verdict,
            "reason": self.reason,
            "findings": findings,
        }


def output_paths(scans: Sequence[Path], output: Path, mask: Path | None = None) -> list[Path]:
    """Return where each scan's result goes: into the directory `output`, or the file of that name.

    Raises `MrharmonyError` if several scans share one result, the file is not `.nii.gz`, or a result or its
    sidecar would replace a scan, the mask or a sidecar of one of them.
    """
    one_file = output.name.endswith(".nii.gz")
    if not one_file and output.name.lower().endswith((*SCAN_SUFFIXES, ".img", ".hdr")):
        raise MrharmonyError(f"{output}: harmonized scans are written as .nii.gz. Name the output so.")
    if one_file:
        if output.is_dir():
            raise MrharmonyError(f"{output}: cannot be written. {FOLDER_IN_THE_WAY}")
        if len(scans) > 1:
            raise MrharmonyError(f"{output}: {len(scans)} scans cannot go into one file. Name a directory.")
        results = [output]
    else:
        if output.exists() and not output.is_dir():
            raise MrharmonyError(f"{output}: is a file. Name a directory, or a file ending in .nii.gz.")
        results = [output / (output_stem(scan) + SUFFIX) for scan in scans]
    images = [*scans, *([mask] if mask else [])]
    inputs = {real_path(file) for image in images for file in (image, sidecar_path(image))}
    for result in results:
        twins = [str(scan) for scan, own in zip(scans, results, strict=True) if own == result]
        if len(twins) > 1:
            raise MrharmonyError(
                f"{result}: several scans have this result's name: {', '.join(twins)}. Harmonize them in "
                "calls of their own, each with another output folder."
            )
        written = (result, sidecar_path(result), uncertainty_path(result))
        taken = next((file for file in written if real_path(file) in inputs), None)
        if taken:
            raise MrharmonyError(
                f"{taken}: belongs to an input. Results never replace scans; choose another."
            )
    return results


def harmonize_prepared(
    job: HarmonizeJob, prepared: PreparedScan, findings: Sequence[Finding] = ()
) -> HarmonizedVolume:
    """Return a prepared scan harmonized, with its evidence; no file is read or written.

    The command line and the Python interface both come this way, so that their results are equal to the bit.
    What preparation warns of lowers the verdict, and so do `findings` of the scan that doubt that it is T1w,
    or whole.
    A verdict of `fail` raises nothing here; the findings are the method's alone. Raises `MrharmonyError` if
    the method cannot harmonize this scan between these domains.
    """
    harmonized = job.harmonizer.harmonize(prepared, job.source, job.target)
    doubts = [finding.code for finding in findings if finding.code in {*NOT_PLAIN_T1W, BLANK_CODE}]
    doubts += [finding.code for finding in prepared.findings if finding.level == "warning"]
    return replace(harmonized, evidence=harmonized.evidence.doubted(doubts))


def harmonize_scan(job: HarmonizeJob, path: Path, output: Path, mask: Path | None = None) -> Outcome:
    """Harmonize one scan file: read, prepare, harmonize, write; whatever goes wrong is the outcome's reason.

    An earlier result is removed where the verdict is now `fail`, and so is a map that belongs to it.
    """
    findings: tuple[Finding, ...] = ()
    try:
        if not job.overwrite:
            require_ours(output)
        scan = read_scan(path, assume_ras=job.assume_ras)
        findings = job.findings + scan.findings
        prepared = prepared_scan(ScanFile(path, mask, prepared=job.prepared), scan)
        findings += prepared.findings
        harmonized = harmonize_prepared(job, prepared, scan.findings)
        findings += harmonized.findings
        if harmonized.evidence.verdict == "fail":
            if not job.force:
                discard_result(output)
                reason = (
                    f"{path}: not written, its verdict is fail: {harmonized.evidence.faults()}; look at the "
                    "scan and its brain mask, or write it with force=True."
                )
                return Outcome(path, None, "fail", reason, findings)
            findings += (forced_finding(harmonized.evidence),)
        write_harmonized(job, scan, prepared, replace(harmonized, findings=findings), output)
    except MrharmonyError as error:
        return refused_scan(path, error, findings)
    except OSError as failure:
        return refused_scan(path, of_the_system(failure), findings)
    except Exception as error:  # a fault of ours in one scan leaves the others alone
        logging.getLogger(__name__).warning("%s", path, exc_info=True)
        reason = f"{path}: unexpected {type(error).__name__}: {error}. Use -v for details."
        return Outcome(path, None, None, reason, findings, failed=True)
    return Outcome(path, output, harmonized.evidence.verdict, None, findings)


def forced_finding(evidence: Evidence) -> Finding:
    """Return the warning on a scan that is written although its verdict is `fail`."""
    forced = f"Written by force although its verdict is fail: {evidence.faults()}."
    return Finding("warning", "forced", forced, "Look at it before any use.")


def write_harmonized(
    job: HarmonizeJob, scan: Scan, prepared: PreparedScan, harmonized: HarmonizedVolume, output: Path
) -> None:
    """Write a harmonized scan with its sidecar; its uncertainty map and its page where the job has them.

    The sidecar lists the findings of `harmonized`. Raises `MrharmonyError` if a file cannot be written.
    """
    page = page_path(output)
    if earlier_result(output):
        _discard_page(output)
    if job.page and page.exists() and not job.overwrite:
        raise MrharmonyError(
            f"{page}: is no page of an earlier result. Name another output, or replace it with "
            "overwrite=True."
        )
    note = harmonized_sidecar(job, scan, prepared, harmonized, output)
    spreads: FloatArray | None = None
    if job.uncertainty:
        spreads = _spreads(job, prepared)
        mean = _write_uncertainty(job, scan, prepared, spreads * np.float32(harmonized.scale), output)
        note = note.model_copy(update={"mean_uncertainty": mean})
    else:
        _discard_uncertainty(output)
    write_scan(output, harmonized.volume.voxels, scan, note.record())
    if job.page:
        from mrharmony.report.scan_page import scan_page  # noqa: PLC0415 - matplotlib takes half a second

        write_text(page, scan_page(scan.path.name, note, prepared, harmonized, spreads, job.viewer))


def refused_scan(path: Path, error: MrharmonyError, findings: tuple[Finding, ...] = ()) -> Outcome:
    """Return the outcome of a scan that could not be harmonized."""
    reason, findings = reason_of(error, path), getattr(error, "findings", findings)
    return Outcome(path, None, None, reason, findings, failed=isinstance(error, NotWritten))


def earlier_result(output: Path) -> HarmonizedSidecar | None:
    """Return the sidecar of an earlier result; None where there is none, or it is damaged."""
    try:
        return read_harmonized(sidecar_path(output))
    except MrharmonyError:
        return None


def require_ours(output: Path) -> None:
    """Raise `MrharmonyError` where a file of a result's name is there that is not of an earlier result of it.

    Such are files that mrharmony did not write, and the sidecar of a result in another spelling.
    """
    for image, read in ((output, read_harmonized), (uncertainty_path(output), read_uncertainty)):
        note = sidecar_path(image)
        try:
            known = read(note) is not None
        except MrharmonyError:  # damaged, but one of ours
            known = True
        if known and (other := _of_other_spelling(image)):
            raise MrharmonyError(
                f"{note}: describes {other.name}. Name another output, or replace it with overwrite=True."
            )
        if known or not (note.exists() or image.exists()):
            continue
        if folder := next((path for path in (note, image) if path.is_dir()), None):
            raise MrharmonyError(f"{folder}: cannot be written. {FOLDER_IN_THE_WAY}")
        if note.exists() or not is_ours(image):  # a killed run leaves an image of ours without its sidecar
            raise MrharmonyError(
                f"{note if note.exists() else image}: is damaged, or mrharmony did not write it. "
                "Move it, name another output, or replace it with overwrite=True."
            )


def _of_other_spelling(image: Path) -> Path | None:
    """Return the image with the sidecar of one that is not there, as `b.nii.gz` has that of `b.NII.GZ`."""
    if image.exists():  # also under its other name, where the disk takes both for the same
        return None
    alike = (path for path in image.parent.iterdir() if path.name.lower() == image.name.lower())
    return next((path for path in alike if sidecar_path(path) == sidecar_path(image)), None)


def require_same_settings(job: HarmonizeJob, output: Path) -> None:
    """Raise `MrharmonyError` where an earlier result was made with another target or other settings."""
    note = earlier_result(output)
    if note is None or job.overwrite:
        return
    wanted = scan_settings(job)
    if other := other_setting(wanted, note.model_dump(include=set(wanted))):
        raise MrharmonyError(
            f"{output}: holds a result with {other}. Name another output, or replace it with overwrite=True."
        )


def require_same_scan(job: HarmonizeJob, scan: Path, output: Path) -> None:
    """Raise `MrharmonyError` where an earlier result is of a scan in another place and of another content.

    One of an image in memory has no place, and is that of another scan.
    """
    note = earlier_result(output)
    if job.overwrite or not note:
        return
    source = source_file(output, note)
    in_place = source is not None and way_to(source, output.parent) == way_to(scan, output.parent)
    if not in_place and not (scan.is_file() and file_sha256(scan) == note.source_sha256):
        named = os.path.normpath(source) if source else next(iter(note.sources), "an image in memory")
        raise MrharmonyError(
            f"{output}: holds the result of another scan, {named}. Name another output, or replace it with "
            "overwrite=True."
        )


def other_setting(wanted: Mapping[str, Any], made: Mapping[str, Any]) -> str | None:
    """Return the first setting that results were made with otherwise than wanted, in words; None if alike."""
    differing = (name for name, value in wanted.items() if made.get(name) != value)
    name = next(differing, None)
    return name and f"{name.replace('_', ' ')} {made.get(name)}, not {wanted[name]}"


def scan_settings(job: HarmonizeJob) -> dict[str, Any]:
    """Return `job_settings`, and the source that a scan comes from."""
    return job_settings(job) | {
        "source": job.source.name if job.source else None,
        "source_protocol": protocol_record(job.source),
    }


def job_settings(job: HarmonizeJob) -> dict[str, Any]:
    """Return what decides the results of a job beside its scans, by the names of `HarmonizedSidecar`."""
    return {
        "target": job.target.name,
        "target_protocol": protocol_record(job.target),
        "method": job.harmonizer.name,
        "extent": job.extent,
        **job.provenance.model_dump(include={"model_sha256", "seed", "sampling", "detail_transfer"}),
    }


def discard_result(output: Path) -> None:
    """Remove an earlier result with its sidecar, map and page; a file that mrharmony did not write stays."""
    try:
        ours = read_harmonized(sidecar_path(output)) is not None
    except MrharmonyError:  # a damaged sidecar, but one of ours
        ours = True
    if ours:
        _discard_uncertainty(output)
        _discard_page(output)
        remove(sidecar_path(output), output)


def _discard_page(output: Path) -> None:
    """Remove the page of an earlier result; others stay."""
    if is_own_page(page_path(output), scan_name(output, earlier_result(output))):
        remove(page_path(output))


def scan_name(output: Path, note: HarmonizedSidecar | None) -> str:
    """Return the name of the scan that a result was made of, which its pages have for a title."""
    return Path(note.sources[0]).name if note and note.sources else result_stem(output)


def is_own_page(page: Path, title: str) -> bool:
    """Whether a page has a title that begins as that of one of ours; False where it cannot be read."""
    try:
        with page.open("rb") as stream:
            return f"<title>{escape(title)}".encode("utf-8", "backslashreplace") in stream.read(_HEAD_BYTES)
    except OSError:
        return False


def _discard_uncertainty(output: Path) -> None:
    path = uncertainty_path(output)
    if read_uncertainty(sidecar_path(path)):
        remove(sidecar_path(path), path)


def _spreads(job: HarmonizeJob, prepared: PreparedScan) -> FloatArray:
    """Return the uncertainty map in canonical units."""
    assert isinstance(job.harmonizer, SeededHarmonizer)  # see `HarmonizeJob`
    return spread(job.harmonizer, prepared, job.source, job.target, job.provenance.seed)


def _write_uncertainty(
    job: HarmonizeJob, scan: Scan, prepared: PreparedScan, voxels: FloatArray, output: Path
) -> float:
    """Write the uncertainty map, given in the units of the output; returns its mean over the brain."""
    path = uncertainty_path(output)
    mean = float(voxels[prepared.brain_mask].mean())
    note = UncertaintySidecar(mean_uncertainty=mean, sources=_sources(job, scan.path, path))
    write_scan(path, voxels, scan, note.record())
    return mean


def _sources(job: HarmonizeJob, scan: Path, output: Path) -> tuple[str, ...]:
    if job.data_set and scan.is_relative_to(job.data_set):
        return (f"bids:{RAW}:{scan.relative_to(job.data_set).as_posix()}",)
    return (way_to(scan, output.parent),)


def reason_of(error: MrharmonyError, path: Path) -> str:
    """Return an error's sentence, with the scan's path in front where the sentence does not name it."""
    text = str(error)
    return text if on_one_line(path.name) in text else on_one_line(f"{path}: {text}")


def harmonized_sidecar(
    job: HarmonizeJob, scan: Scan, prepared: PreparedScan, harmonized: HarmonizedVolume, output: Path
) -> HarmonizedSidecar:
    """Return the sidecar of a harmonized scan.

    Its source is a BIDS URI where the job is on a data set, else named relative to the output's folder, so
    that both can move; a scan in memory has none.
    """
    done = harmonized.provenance
    return HarmonizedSidecar(
        schema_version=SCHEMA_VERSION,
        source=job.source.name if job.source else None,
        nearest_domain=done.get("nearest"),
        source_distance=done.get("distance"),
        target=job.target.name,
        source_protocol=protocol_record(job.source),
        target_protocol=protocol_record(job.target),
        method=done["method"],
        **dict(job.provenance),
        skull_stripped=done["extent"] == "brain" or prepared.skull_stripped,
        extent=done["extent"],
        detail=done.get("detail"),
        intensity_scale=harmonized.scale,
        sources=_sources(job, scan.path, output) if scan.sha256 else (),
        source_sha256=scan.sha256,
        preparation=prepared.saved_sha256,
        program_version=VERSION,
        drift=harmonized.evidence.model_dump(exclude={"verdict", "reasons"}),
        verdict=harmonized.evidence.verdict,
        verdict_reasons=harmonized.evidence.reasons,
        findings=tuple(finding_record(finding) for finding in harmonized.findings),
    )

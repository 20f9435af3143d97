"""`mrharmony bids`: a whole BIDS data set into BIDS derivatives, resumable; the BIDS-App interface."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mrharmony.core.atomic import write_text
from mrharmony.core.findings import MrharmonyError, info
from mrharmony.core.hashing import file_sha256
from mrharmony.core.progress import track
from mrharmony.jobs.brains import ScanFile, saved_sha256
from mrharmony.jobs.data_sets import begin_derivatives
from mrharmony.jobs.harmonizing import (
    SIDECAR_SUFFIX,
    SUFFIX,
    HarmonizeJob,
    Outcome,
    discard_result,
    earlier_result,
    harmonize_scan,
    page_path,
    uncertainty_path,
)
from mrharmony.methods.registry import require_protocols
from mrharmony.networks.compact.model import ModelCard
from mrharmony.preparation.saved import VERSION
from mrharmony.scans.bids import BidsIndex, BidsScan
from mrharmony.scans.names import output_stem
from mrharmony.scans.sidecar import HarmonizedSidecar, read_harmonized
from mrharmony.simulate.protocol import protocol_of_sidecar, protocol_record

GROUP_TABLE = "group.tsv"
TEXT_COLUMNS = ("source", "target", "method", "verdict")
DRIFT_COLUMNS = (
    *("edge_correlation", "csf_drift", "grey_drift", "white_drift"),
    *("mean_change", "new_structure", "lost_structure", "target_distance"),
)


def run_participants(
    index: BidsIndex,
    out_dir: Path,
    labels: Sequence[str] | None,
    job: HarmonizeJob,
    card: ModelCard,
    *,
    source_protocols: bool = False,
) -> list[Outcome]:
    """Harmonize every scan of a data set; what an earlier run with the same settings finished is kept.

    Each scan's source is its domain where the model knows it by its `card`; `labels` name the participants,
    with or without `sub-`, or all if empty. The earlier result of a scan that is now refused is removed if it
    was made with other settings, so that all results are of one kind. With `source_protocols`, a scan of
    another domain comes from the protocol in its own BIDS sidecars. Raises as `begin_derivatives`, and as
    `require_protocols`.
    """
    if source_protocols:
        require_protocols(job.harmonizer.name)
    pairs = begin_derivatives(index, out_dir, "mrharmony", labels, lambda scan: _output(scan, out_dir))
    outcomes = []
    for scan, output in track(pairs, "harmonizing"):
        own = replace(job, source=card.find(scan.domain) if scan.domain else None)
        if source_protocols and own.source is None:
            own = _from_own_protocol(own, scan)
        outcome = _finished(scan.path, output, own) or harmonize_scan(own, scan.path, output)
        if outcome.output is None and not _is_of(earlier_result(output), scan.path, own):
            discard_result(output)
        outcomes.append(outcome)
    return outcomes


def _from_own_protocol(job: HarmonizeJob, scan: BidsScan) -> HarmonizeJob:
    """Return a scan's job with its sidecars' protocol as the source, or the reason why there is none."""
    try:
        return replace(job, source=protocol_of_sidecar(scan.sidecar, f"sidecars of {scan.path.name}").domain)
    except MrharmonyError as error:
        return replace(job, remarks=(*job.remarks, info("no-source-protocol", str(error))))


def run_group(out_dir: Path) -> Path:
    """Write a table with a line for each harmonized scan below `out_dir`; returns its path.

    An unusable sidecar is named on standard error, and its line says `n/a`. Raises `MrharmonyError` if there
    are no harmonized scans.
    """
    sidecars = sorted(out_dir.glob("sub-*/**/*" + SIDECAR_SUFFIX))
    if not sidecars:
        raise MrharmonyError(f"{out_dir}: no harmonized scans here. Run the participant level first.")
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["scan", *TEXT_COLUMNS, *DRIFT_COLUMNS])
    writer.writerows([path.stem, *_figures(path)] for path in sidecars)
    table = out_dir / GROUP_TABLE
    write_text(table, text.getvalue())
    return table


def _figures(path: Path) -> list[object]:
    """Return the columns of a sidecar in the group table."""
    figures: dict[str, object] = {}
    try:
        if note := read_harmonized(path):
            figures = note.drift | {column: getattr(note, column) or "n/a" for column in TEXT_COLUMNS}
    except MrharmonyError as error:
        print(error, file=sys.stderr)
    return [figures.get(column, "n/a") for column in (*TEXT_COLUMNS, *DRIFT_COLUMNS)]


def _output(scan: BidsScan, out_dir: Path) -> Path:
    folders = [f"sub-{scan.subject}", *([f"ses-{scan.session}"] if scan.session else []), "anat"]
    return out_dir.joinpath(*folders, output_stem(scan.path) + SUFFIX)


def _finished(scan: Path, output: Path, job: HarmonizeJob) -> Outcome | None:
    """Return the outcome of an earlier run if its sidecar says that the same was done.

    A scan that was written by force is done again without: it will be refused.
    """
    note = earlier_result(output)
    if note is None or not output.is_file():
        return None
    has_map = note.mean_uncertainty is not None and uncertainty_path(output).is_file()
    lacks = (job.uncertainty and not has_map) or (job.page and not page_path(output).is_file())
    refused = note.verdict == "fail" and not job.force
    if lacks or refused or not _is_of(note, scan, job):
        return None
    return Outcome(scan, output, note.verdict, None, ())


def _is_of(note: HarmonizedSidecar | None, scan: Path, job: HarmonizeJob) -> bool:
    """Whether a sidecar says that its image was made of this very scan in this very way.

    A scan that cannot be read any more counts as the same.
    """
    if note is None:
        return False
    sha256 = None
    with suppress(MrharmonyError):
        sha256 = file_sha256(scan)
    same = {
        "source": job.source.name if job.source else None,
        "target": job.target.name,
        "source_protocol": protocol_record(job.source),
        "target_protocol": protocol_record(job.target),
        "method": job.harmonizer.name,
        **job.provenance.model_dump(include={"model_sha256", "seed", "sampling", "detail_transfer"}),
        "preparation": saved_sha256(ScanFile(scan, prepared=job.prepared), sha256),
        "program_version": VERSION,
        "source_sha256": sha256 or note.source_sha256,
    }
    return note.model_dump(include=set(same)) == same

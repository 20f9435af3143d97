"""Commands on scans: check, prepare, harmonize, report."""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.table import Table
from rich.text import Text

from mrharmony.cli.app import app, echo_json, in_options, leave
from mrharmony.cli.options import (
    AssumeRas,
    Extent,
    HarmonizeOptions,
    Json,
    Mask,
    Participants,
    Series,
    To,
    UsualColumn,
    Workers,
    flag,
    require_one,
    with_groups,
)
from mrharmony.core.ending import GO_ON
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.terminal import terminal

if TYPE_CHECKING:
    from mrharmony.jobs.harmonizing import HarmonizeJob


@app.command(ended=GO_ON)
def prepare(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS data set, or a folder of DICOM files of one head.")],
    out_dir: Annotated[Path, typer.Argument(help="Folder for the derivatives; resumed if begun.")],
    participant_label: Participants = None,
    domain_column: UsualColumn = None,
    workers: Workers = None,
    volume_corrected: Annotated[
        bool,
        flag(
            "--volume-corrected",
            "Also write brains grown to the template's size, which takes the size of the head away.",
        ),
    ] = False,
    series: Series = None,
    as_json: Json = False,
) -> None:
    """Find brains, bias fields and alignments once: BIDS derivatives, and a page to look at for each scan.

    Then look at `OUT_DIR/index.html`. Where a mask is wrong, correct `*_desc-brain_mask.nii.gz` in place and
    call again: a mask that you edited (or put there for a refused scan) is taken as given. Finished scans
    are kept. Next: `mrharmony harmonize SCAN --prepared OUT_DIR --to DOMAIN --output RESULTS`.
    """
    from mrharmony.jobs.conversions import open_source
    from mrharmony.jobs.preparing import INDEX, prepare_data_set

    labels = participant_label or []
    index = open_source(bids_dir, out_dir, labels, domain_column, series)
    results = prepare_data_set(index, out_dir, labels, workers, volume_corrected=volume_corrected)
    if as_json:
        echo_json([result.record() for result in results])
    else:
        done = [(result, result.figures) for result in results if result.figures]
        rows = [(r.scan.name, r.verdict, f"{f.brain_ml:.0f} ml", f"{f.template_dice:.3f}") for r, f in done]
        _print_table(("scan", "verdict", "brain", "overlap with the template"), rows)
        typer.echo(f"Look at every mask: {out_dir / INDEX}")
    _exit_with_reasons([result.reason for result in results])


@app.command()
def check(
    paths: Annotated[
        list[Path], typer.Argument(readable=False, help="Scans, or folders that are searched for scans.")
    ],
    assume_ras: AssumeRas = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong with scans before any work is done on them.

    Reads every file to its last byte. Errors mean that a scan would be refused; warnings deserve a look.
    Exit status 3 if any scan has an error. In folders, `derivatives`, label maps and masks are left out. Of a
    BIDS data set, people without a T1w scan are told.
    """
    from mrharmony.core.findings import finding_record, has_error
    from mrharmony.core.progress import track
    from mrharmony.core.wording import some_of
    from mrharmony.preparation.foreseen import foreseen_faults
    from mrharmony.scans.bids_images import described_data_sets, people_without_scan
    from mrharmony.scans.folders import is_kind
    from mrharmony.scans.names import find_scans
    from mrharmony.scans.reading import check_scan

    found = find_scans(paths)
    if found.left_out:
        print(
            f"left out: {some_of(found.left_out)}. Derivatives, label maps and masks are no scans; name the "
            "file of one to check it.",
            file=sys.stderr,
        )
    findings = {
        path: [
            replace(one, message=in_options(one.message), fix=in_options(one.fix))
            for one in check_scan(path, foreseen_faults, assume_ras=assume_ras)
        ]
        for path in track(found.scans, "checking")
    }
    given = (path for path in paths if is_kind(path, stat.S_ISDIR))
    folders = (folder for path in given for folder in described_data_sets(path))
    findings |= {folder: list(told) for folder in folders if (told := people_without_scan(folder))}
    if as_json:
        records = {path: [finding_record(f) for f in found] for path, found in findings.items()}
        echo_json([{"scan": str(path), "findings": found} for path, found in records.items()])
    else:
        _print_findings(findings)
    leave(any(has_error(found) for found in findings.values()))


@app.command(ended="What is finished stays; call again with the other scans.")
@with_groups
def harmonize(
    scans: Annotated[
        list[Path],
        typer.Argument(readable=False, help="T1-weighted scans: .nii, .nii.gz, .mgz, DICOM folders."),
    ],
    to: To,
    options: HarmonizeOptions,
    output: Annotated[Path, typer.Option(help="A directory, or for a single scan a file ending in .nii.gz.")],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Domain that the scans come from, if the model knows it; or a protocol, as for --to.",
        ),
    ] = None,
    mask: Mask = None,
    series: Series = None,
    extent: Extent = "brain",
    assume_ras: AssumeRas = False,
    lock: Annotated[
        bool | None,
        flag(
            "--lock/--no-lock",
            "Of img2img and cyclegan: whether their picture goes through the anatomy lock; without, the "
            "picture is the result. img2img has it if not given, cyclegan has not. Others always have it.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Harmonize single scans: same grid in, same grid out, with the evidence in a JSON file beside it.

    Whole heads and skull-stripped brains alike. Writes `<name>_desc-harmonized_T1w.nii.gz` and its sidecar.
    A scan that is refused, or whose verdict is fail, is reported and left out; the others are done, and the
    exit status is 3.

    Example: `mrharmony harmonize sub-01_T1w.nii.gz --to NSK --output harmonized/`
    """
    from mrharmony.jobs.conversions import plan_conversions
    from mrharmony.jobs.harmonizing import output_paths
    from mrharmony.jobs.single_scans import harmonize_singly

    scans = list(dict.fromkeys(scans))  # the same scan is often named twice, by overlapping patterns
    if mask and len(scans) > 1:
        raise MrharmonyError(f"{mask}: one mask cannot serve {len(scans)} scans. Harmonize one at a time.")
    require_one(mask, options.prepared)
    scans, conversions = plan_conversions(scans, output)
    results = output_paths(scans, output, mask)
    job = options.open_job(to, from_, extent=extent, assume_ras=assume_ras, lock=lock)
    print_assumptions(job)
    outcomes = harmonize_singly(job, dict(zip(scans, results, strict=True)), conversions, series, mask)
    report_outcomes(outcomes, as_json)


@app.command()
def report(
    out_dir: Annotated[Path, typer.Argument(help="Output folder of harmonize, bids or demo.")],
    as_json: Json = False,
) -> None:
    """Show what harmonization did with a group of scans, on one page: `OUT_DIR/report.html`.

    Says which scans to look at, whether the site effect went down, and whether age, sex and group can be
    seen as before; a table of all scans to sort and filter; every figure by site; thumbnails of doubtful
    scans. The page needs no other file. Sites are those of the data set that `bids` harmonized, else of
    `OUT_DIR/participants.tsv`, else the sources. Scans are looked up where they were; what cannot be compared
    because one is gone is told.

    Example: `mrharmony harmonize SCAN --to NSK --output out/`, then `mrharmony report out/`
    """
    from mrharmony.jobs.reporting import write_report

    written = write_report(out_dir)
    if as_json:
        echo_json(written.record())
        return
    counts = ", ".join(f"{count} {verdict}" for verdict, count in written.verdicts.items())
    typer.echo(f"{written.page}: {counts}")
    for name, remark in written.remarks.items():
        typer.echo(f"{name}: {remark}")


def _print_findings(findings: dict[Path, Any]) -> None:
    colours = {"error": "red", "warning": "yellow", "info": "cyan"}
    console = terminal()
    for path, found in findings.items():
        worst = "refused" if any(f.level == "error" for f in found) else "fine"
        console.print(f"{path}: {worst}", soft_wrap=True)
        for finding in found:
            level = (finding.level, colours[finding.level])
            said = Text.assemble("  ", level, f" {finding.code}: {finding.message} {finding.fix}")
            console.print(said, soft_wrap=True)


def print_assumptions(job: HarmonizeJob) -> None:
    """Say once what was assumed of protocols; the sidecar of every scan says it too."""
    for finding in job.findings:
        print(f"{finding.message} {finding.fix}", file=sys.stderr)


def report_outcomes(outcomes: list[Any], as_json: bool) -> None:
    """Print what became of the scans, and leave with the status that says so."""
    outcomes = [replace(outcome, reason=in_options(outcome.reason or "") or None) for outcome in outcomes]
    if as_json:
        echo_json([outcome.record() for outcome in outcomes])
    else:
        done = [outcome for outcome in outcomes if outcome.output]
        _print_table(("scan", "result", "verdict"), [(o.scan.name, str(o.output), o.verdict) for o in done])
        for outcome in done:
            for finding in outcome.findings:
                if finding.level == "warning":
                    print(f"{outcome.scan.name}: {finding.message} {finding.fix}", file=sys.stderr)
    _exit_with_reasons([outcome.reason for outcome in outcomes])


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, unless it has no rows."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    if rows:
        terminal().print(table)


def _exit_with_reasons(reasons: Sequence[str | None]) -> NoReturn:
    """Print why scans were refused, and leave with the status that says whether any was."""
    refused = [reason for reason in reasons if reason]
    for reason in refused:
        print(f"refused: {in_options(reason)}", file=sys.stderr)
    leave(refused)

"""Commands that prepare: prepare.

Commands on scans: check, harmonize, bids, report.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from mrharmony.cli.app import (
    OK,
    REFUSED,
    AssumeRas,
    Detail,
    Device,
    Force,
    Json,
    Method,
    Model,
    Prepared,
    Seed,
    Series,
    Uncertainty,
    UsualColumn,
    app,
    in_options,
    require_one,
)
from mrharmony.cli.sampling_options import InputWeight, PromptWeight, Steps, Translation, sampling_options
from mrharmony.core.findings import MrharmonyError


@app.command()
def prepare(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS data set, or a folder of DICOM files of one head.")],
    out_dir: Annotated[Path, typer.Argument(help="Folder for the derivatives; resumed if begun.")],
    participant_label: Annotated[
        list[str] | None, typer.Option(help="Only this participant, with or without sub-; may be repeated.")
    ] = None,
    domain_column: UsualColumn = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Scans at a time; as many as there are cores if not given.")
    ] = None,
    volume_corrected: Annotated[
        bool,
        typer.Option(
            "--volume-corrected",
            metavar="",
            help="Also write brains grown to the template's size, which takes the size of the head away.",
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
    from mrharmony.jobs.inputs import index_of
    from mrharmony.jobs.preparing import INDEX, prepare_data_set

    labels = participant_label or []
    index = index_of(bids_dir, out_dir, labels, domain_column, series)
    results = prepare_data_set(index, out_dir, labels, workers, volume_corrected=volume_corrected)
    if as_json:
        typer.echo(json.dumps([result.record() for result in results], indent=2))
    else:
        table = Table("scan", "verdict", "brain", "correlation with the template")
        for result in results:
            if figures := result.figures:
                correlation = f"{figures.template_correlation:.3f}"
                table.add_row(result.scan.name, result.verdict, f"{figures.brain_ml:.0f} ml", correlation)
        if table.row_count:
            Console().print(table)
        typer.echo(f"Look at every mask: {out_dir / INDEX}")
    for result in results:
        if result.reason:
            print(f"refused: {result.reason}", file=sys.stderr)
    raise typer.Exit(REFUSED if any(result.reason for result in results) else OK)


@app.command()
def check(
    paths: Annotated[list[Path], typer.Argument(help="Scans, or folders that are searched for scans.")],
    assume_ras: AssumeRas = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong with scans before any work is done on them.

    Reads every file to its last byte. Errors mean that a scan would be refused; warnings deserve a look.
    Exit status 3 if any scan has an error.
    """
    from mrharmony.core.findings import finding_record
    from mrharmony.scans.names import find_scans
    from mrharmony.scans.reading import check_scan

    findings = {path: check_scan(path, assume_ras=assume_ras) for path in find_scans(paths)}
    if as_json:
        records = [
            {"scan": str(p), "findings": [finding_record(f) for f in found]} for p, found in findings.items()
        ]
        typer.echo(json.dumps(records, indent=2))
    else:
        _print_findings(findings)
    refused = any(finding.level == "error" for found in findings.values() for finding in found)
    raise typer.Exit(REFUSED if refused else OK)


@app.command()
def harmonize(
    scans: Annotated[
        list[Path], typer.Argument(help="T1-weighted scans: .nii, .nii.gz, .mgz, DICOM folders.")
    ],
    to: Annotated[str, typer.Option(help="Domain that the scans shall look like; see `mrharmony domains`.")],
    output: Annotated[Path, typer.Option(help="A directory, or for a single scan a file ending in .nii.gz.")],
    from_: Annotated[
        str | None, typer.Option("--from", help="Domain that the scans come from, if the model knows it.")
    ] = None,
    model: Model = None,
    method: Method = "synthesis",
    mask: Annotated[Path | None, typer.Option(help="Brain mask on the scan's grid (one scan only).")] = None,
    prepared: Prepared = None,
    series: Series = None,
    extent: Annotated[
        Literal["brain", "head"], typer.Option(help="brain: 0 outside the brain; head: all voxels.")
    ] = "brain",
    assume_ras: AssumeRas = False,
    translation: Translation = None,
    steps: Steps = None,
    prompt_weight: PromptWeight = None,
    input_weight: InputWeight = None,
    lock: Annotated[
        bool | None,
        typer.Option(
            "--lock/--no-lock",
            metavar="",
            help="Of img2img and cyclegan: whether their picture goes through the anatomy lock; without, the "
            "picture is the result. img2img has it if not given, cyclegan has not. Others always have it.",
            show_default=False,
        ),
    ] = None,
    detail: Detail = False,
    uncertainty: Uncertainty = False,
    force: Force = False,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Harmonize single scans: same grid in, same grid out, with the evidence in a JSON file beside it.

    Whole heads and skull-stripped brains alike. Writes `<name>_desc-harmonized_T1w.nii.gz` and its sidecar.
    A scan that is refused, or whose verdict is fail, is told and left out; the others are done, and the exit
    status is 3.

    Example: `mrharmony harmonize sub-01_T1w.nii.gz --to NSK --output harmonized/`
    """
    from mrharmony.core.progress import track
    from mrharmony.jobs.harmonizing import harmonize_scan, output_paths, refused_scan
    from mrharmony.jobs.inputs import convert_planned, plan_conversions
    from mrharmony.jobs.opening import open_job
    from mrharmony.methods.diffusion import inversion_domain
    from mrharmony.methods.protocol import MethodSettings

    if mask and len(scans) > 1:
        raise MrharmonyError(
            f"{mask}: one mask cannot serve {len(scans)} scans. Harmonize them one at a time."
        )
    require_one(mask, prepared)
    contrasts = sampling_options(translation, steps, prompt_weight, input_weight, seed)
    if contrasts.sampling and not from_:
        inversion_domain(contrasts.sampling, None)
    scans, conversions = plan_conversions(scans, output)
    results = output_paths(scans, output, mask)
    settings = MethodSettings(seed, device, extent, lock, detail, contrasts.sampling, contrasts.translation)
    job = open_job(model, method, from_, to, settings, assume_ras=assume_ras)
    job = replace(job, prepared=prepared, force=force).with_uncertainty(uncertainty)
    lost = convert_planned(conversions, series)
    pairs = list(zip(scans, results, strict=True))
    outcomes = [
        refused_scan(conversions[scan], lost[scan])
        if scan in lost
        else harmonize_scan(job, scan, result, mask)
        for scan, result in track(pairs, "harmonizing")
    ]
    _report_outcomes(outcomes, as_json)


@app.command()
def bids(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS data set.")],
    out_dir: Annotated[Path, typer.Argument(help="Directory for the derivatives.")],
    level: Annotated[Literal["participant", "group"], typer.Argument(help="Which step to run.")],
    to: Annotated[str, typer.Option(help="Domain that the scans shall look like.")],
    participant_label: Annotated[
        list[str] | None, typer.Option(help="Only this participant, with or without sub-; may be repeated.")
    ] = None,
    domain_column: UsualColumn = None,
    model: Model = None,
    method: Method = "synthesis",
    prepared: Prepared = None,
    translation: Translation = None,
    steps: Steps = None,
    prompt_weight: PromptWeight = None,
    input_weight: InputWeight = None,
    detail: Detail = False,
    uncertainty: Uncertainty = False,
    force: Force = False,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Harmonize a whole BIDS data set into BIDS derivatives (BIDS-App interface).

    `participant` harmonizes every scan; the domain of each is taken from participants.tsv where that has it
    and the model knows it. Elsewhere the source is unknown. Finished scans are not done again; a scan whose
    verdict is fail is not written. `group` then writes `group.tsv`, a line a scan.
    """
    from mrharmony.jobs.bids_app import run_group, run_participants
    from mrharmony.jobs.inputs import open_data_set
    from mrharmony.jobs.opening import open_job
    from mrharmony.methods.protocol import MethodSettings
    from mrharmony.networks.diffusion.model import read_card
    from mrharmony.scans.bids import usual_column
    from mrharmony.weights import shipped_model

    if level == "group":
        table = str(run_group(out_dir))
        typer.echo(json.dumps({"table": table}) if as_json else table)
        return
    index = open_data_set(bids_dir, domain_column or usual_column(bids_dir))
    contrasts = sampling_options(translation, steps, prompt_weight, input_weight, seed)
    settings = MethodSettings(seed, device, detail=detail, **contrasts._asdict())
    job = open_job(model, method, None, to, settings)
    job = replace(job, prepared=prepared, force=force).with_uncertainty(uncertainty)
    outcomes = run_participants(index, out_dir, participant_label, job, read_card(model or shipped_model()))
    _report_outcomes(outcomes, as_json)


@app.command()
def report(
    out_dir: Annotated[Path, typer.Argument(help="Output folder of harmonize, bids or demo.")],
    as_json: Json = False,
) -> None:
    """Show what harmonization did, on one page: `OUT_DIR/report.html`.

    A table of all scans with verdicts and drift figures, sorted by a click; how often each verdict was given;
    method and model; and each scan before and after on three planes, with the difference. The page needs no
    other file. Scans are looked up where they were; where one is gone, the output is shown alone.

    Example: `mrharmony harmonize SCAN --to NSK --output out/`, then `mrharmony report out/`
    """
    from mrharmony.jobs.reporting import write_report

    written = write_report(out_dir)
    if as_json:
        typer.echo(json.dumps(written.record(), indent=2))
        return
    counts = ", ".join(f"{count} {verdict}" for verdict, count in written.verdicts.items())
    typer.echo(f"{written.page}: {counts}")
    for name, remark in written.remarks.items():
        typer.echo(f"{name}: {remark}")


def _print_findings(findings: dict[Path, Any]) -> None:
    colours = {"error": "red", "warning": "yellow", "info": "cyan"}
    console = Console()
    for path, found in findings.items():
        worst = "refused" if any(f.level == "error" for f in found) else "fine"
        console.print(f"{path}: {worst}", highlight=False, markup=False)
        for finding in found:
            console.print(
                f"  [{colours[finding.level]}]{finding.level}[/] {finding.code}: ", end="", highlight=False
            )
            console.print(f"{finding.message} {finding.fix}", highlight=False, markup=False, soft_wrap=True)


def _report_outcomes(outcomes: list[Any], as_json: bool) -> None:
    """Print what became of the scans and leave with the status that says so."""
    if as_json:
        typer.echo(json.dumps([outcome.record() for outcome in outcomes], indent=2))
    else:
        table = Table("scan", "result", "verdict")
        for outcome in outcomes:
            if outcome.output:
                table.add_row(outcome.scan.name, str(outcome.output), outcome.verdict)
        if table.row_count:
            Console().print(table)
    for outcome in outcomes:
        if outcome.reason:
            print(f"refused: {in_options(outcome.reason)}", file=sys.stderr)
        for finding in outcome.findings if outcome.output and not as_json else ():
            if finding.level == "warning":
                print(f"{outcome.scan.name}: {finding.message} {finding.fix}", file=sys.stderr)
    raise typer.Exit(REFUSED if any(outcome.reason for outcome in outcomes) else OK)

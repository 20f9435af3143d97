"""The command line: thin, one function a command; what it does is done elsewhere."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from mrharmony import __version__
from mrharmony.volume import MrharmonyError

OK, UNEXPECTED, USAGE, REFUSED = 0, 1, 2, 3

app = typer.Typer(
    name="mrharmony",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Make T1-weighted brain scans of any scanner look as if another scanner had taken them. "
        "Anatomy and voxel grid stay what they are.\n\n"
        "**New here?** `mrharmony demo` shows the whole way on virtual scanners. Then look at your own scans "
        "with `mrharmony check SCAN...`, and harmonize one: "
        "`mrharmony harmonize SCAN --to NSK --output OUT`. "
        "`mrharmony domains` lists what `--to` knows.\n\n"
        "Exit status: 0 all done, 1 unexpected, 2 usage, 3 some scans refused. Research use only."
    ),
)

Seed = Annotated[int, typer.Option(min=0, help="Everything random comes from this number.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Model = Annotated[
    Path | None,
    typer.Option(help="Model directory; the one that ships with mrharmony if not given.", show_default=False),
]
AssumeRas = Annotated[
    bool,
    typer.Option(
        "--assume-ras", help="Take scans whose header tells no orientation for RAS, at your own risk."
    ),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where networks run.")]
Method = Annotated[
    Literal["diffusion", "regional", "regional-scan", "population", "histogram", "none"],
    typer.Option(help="diffusion is ours; none prepares a scan and leaves its look."),
]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Show a traceback when something unexpected happens.")
]
DomainColumn = Annotated[
    str, typer.Option(help="Column of participants.tsv that names the domain, or `session`.")
]


@app.callback(invoke_without_command=True)
def common(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Verbose = False,
) -> None:
    """Take the options that belong to every command."""
    del verbose  # read by `main` from the arguments, so that it also covers what happens before this
    if version:
        typer.echo(f"mrharmony {__version__}")
        raise typer.Exit(OK)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Argument(help="Directory for the cohort, the results and the picture.")
    ] = Path("demo-output"),
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Show the whole way: simulate travelling heads, harmonize them, compare with the truth.

    Ends with a table (nothing, histogram, regional, ours: PSNR, SSIM, MSE for each direction) and a picture,
    `contact-sheet.png`. Next: `mrharmony harmonize --help`.
    """
    from mrharmony.demo import run_demo

    result = run_demo(out, seed)
    if as_json:
        typer.echo(json.dumps(result.record(), indent=2))
    else:
        result.print(Console())


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
    from mrharmony.scans import check_scan, find_scans, finding_record

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
def simulate(
    out: Annotated[Path, typer.Argument(help="New or empty directory; becomes a BIDS data set.")],
    subjects: Annotated[int, typer.Option(min=1, help="How many virtual heads.")] = 4,
    scanners: Annotated[
        str, typer.Option(help="How many scanners each head travels through, or their names with commas.")
    ] = "3",
    zoom: Annotated[float, typer.Option(min=1.0, max=4.0, help="Voxel size in mm.")] = 2.0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Simulate virtual travelling heads: every head through every scanner, with the true tissues.

    Next: `mrharmony harmonize OUT/sub-*/ses-*/anat/*_T1w.nii.gz --to SCANNER --output RESULTS`.
    """
    from mrharmony.simulate import load_scanners, write_cohort

    wanted: int | list[str] = int(scanners) if scanners.isdigit() else scanners.split(",")
    write_cohort(out, subjects=subjects, scanners=wanted, seed=seed, zoom=zoom)
    if as_json:
        typer.echo(json.dumps({"cohort": str(out), "subjects": subjects, "scanners": wanted, "seed": seed}))
    else:
        typer.echo(f"{out}: {subjects} heads. Known scanners: {', '.join(load_scanners())}.")


@app.command()
def domains(model: Model = None, as_json: Json = False) -> None:
    """List the domains that a model knows: what `--to` and `--from` accept."""
    from mrharmony.latent import read_card
    from mrharmony.weights import shipped_model

    card = read_card(model or shipped_model())
    if as_json:
        typer.echo(json.dumps([domain.model_dump() for domain in card.domains], indent=2))
        return
    for domain in card.domains:
        typer.echo(f"{domain.name:16s} {f'{domain.scans} scans' if domain.scans else 'simulated scanner'}")


@app.command()
def train(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS data set with participants.tsv.")],
    output: Annotated[Path, typer.Option(help="Model directory to write.")],
    domain_column: DomainColumn = "site",
    only: Annotated[
        list[str] | None, typer.Option("--domain", help="Use only this domain; may be repeated.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Training configuration: quick, shipped, or a YAML file.")
    ] = "quick",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a compact model from scratch on the scans of several domains.

    Prepares every scan, trains the autoencoder, then the denoiser. Killed and called again with the same
    arguments it goes on where it was: what is not finished lies in `MODEL.training`, TensorBoard logs too.
    `--preset quick` takes at most 20 minutes on 2 cores. Next: `mrharmony harmonize SCAN --model MODEL ...`.
    """
    from mrharmony.cohort.training import train_on_bids

    report = train_on_bids(bids_dir, output, domain_column, only, preset, device)
    typer.echo(json.dumps(report.record(), indent=2) if as_json else report.text())
    raise typer.Exit(REFUSED if report.refused else OK)


@app.command()
def harmonize(
    scans: Annotated[list[Path], typer.Argument(help="T1-weighted scans: .nii, .nii.gz, .mgz.")],
    to: Annotated[str, typer.Option(help="Domain that the scans shall look like; see `mrharmony domains`.")],
    output: Annotated[Path, typer.Option(help="A directory, or for a single scan a file ending in .nii.gz.")],
    from_: Annotated[
        str | None, typer.Option("--from", help="Domain that the scans come from, if the model knows it.")
    ] = None,
    model: Model = None,
    method: Method = "diffusion",
    mask: Annotated[Path | None, typer.Option(help="Brain mask on the scan's grid (one scan only).")] = None,
    extent: Annotated[
        Literal["brain", "head"], typer.Option(help="brain: 0 outside the brain; head: all voxels.")
    ] = "brain",
    assume_ras: AssumeRas = False,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Harmonize single scans: same grid in, same grid out, with the evidence in a JSON file beside it.

    Whole heads and skull-stripped brains alike. Writes `<name>_desc-harmonized_T1w.nii.gz` and its sidecar.
    A scan that is refused is told and left out; the others are done, and the exit status is 3.

    Example: `mrharmony harmonize sub-01_T1w.nii.gz --to NSK --output harmonized/`
    """
    from mrharmony.cohort import harmonize_scan, output_paths
    from mrharmony.cohort.workbench import open_job
    from mrharmony.progress import track

    if mask and len(scans) > 1:
        raise MrharmonyError(
            f"{mask}: one mask cannot serve {len(scans)} scans. Harmonize them one at a time."
        )
    results = output_paths(scans, output)
    job = open_job(model, method, from_, to, seed=seed, extent=extent, device=device, assume_ras=assume_ras)
    pairs = list(zip(scans, results, strict=True))
    outcomes = [harmonize_scan(job, scan, result, mask) for scan, result in track(pairs, "harmonizing")]
    _report_outcomes(outcomes, as_json)


@app.command()
def bids(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS data set with participants.tsv.")],
    out_dir: Annotated[Path, typer.Argument(help="Directory for the derivatives.")],
    level: Annotated[Literal["participant", "group"], typer.Argument(help="Which step to run.")],
    to: Annotated[str, typer.Option(help="Domain that the scans shall look like.")],
    participant_label: Annotated[
        list[str] | None, typer.Option(help="Only this participant, with or without sub-; may be repeated.")
    ] = None,
    domain_column: DomainColumn = "site",
    model: Model = None,
    method: Method = "diffusion",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Harmonize a whole BIDS data set into BIDS derivatives (BIDS-App interface).

    `participant` harmonizes every scan; the domain of each is taken from participants.tsv where the model
    knows it. Finished scans are not done again. `group` then writes `group.tsv`, a line a scan.
    """
    from mrharmony.cohort.bids_app import run_group, run_participants
    from mrharmony.cohort.workbench import open_job
    from mrharmony.latent import read_card
    from mrharmony.scans import BidsIndex
    from mrharmony.weights import shipped_model

    if level == "group":
        typer.echo(str(run_group(out_dir)))
        return
    index = BidsIndex.open(bids_dir, domain_column)
    job = open_job(model, method, None, to, seed=seed, device=device)
    outcomes = run_participants(index, out_dir, participant_label, job, read_card(model or shipped_model()))
    _report_outcomes(outcomes, as_json)


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
            print(f"refused: {outcome.reason}", file=sys.stderr)
    raise typer.Exit(REFUSED if any(outcome.reason for outcome in outcomes) else OK)


def main() -> None:
    """Run the command line: every failure ends in one sentence and a status that says what kind it was."""
    verbose = bool({"-v", "--verbose"} & set(sys.argv[1:]))
    arguments = [argument for argument in sys.argv[1:] if argument not in ("-v", "--verbose")]
    if not verbose:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
    try:
        app(arguments)
    except MrharmonyError as error:
        print(f"mrharmony: {error}", file=sys.stderr)
        sys.exit(USAGE)
    except KeyboardInterrupt:
        print("mrharmony: interrupted. What is finished stays; call again to go on.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if verbose:
            raise
        print(f"mrharmony: unexpected {type(error).__name__}: {error}. Use -v for details.", file=sys.stderr)
        sys.exit(UNEXPECTED)

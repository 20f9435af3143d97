"""`mrharmony evaluate`: each evaluator on files, with a table or JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from mrharmony.cli.app import Device, DomainColumn, Json, Method, Model, Seed, app

evaluate = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help=(
        "Measure how good a result is.\n\n"
        "With a truth (travelling subjects): `paired`. Without: `sites`, `anatomy`, `identity`, `biology`, "
        "`repeat`. `paper` repeats the paper's Table 2. All scans are prepared identically first; "
        "every figure is explained in docs/evaluate.md. `mrharmony benchmark` does all of it for all methods."
    ),
)
app.add_typer(evaluate, name="evaluate")

Mask = Annotated[
    Path | None, typer.Option(help="Brain mask on the scans' grid; found by mrharmony if not given.")
]
BidsDir = Annotated[Path, typer.Argument(help="BIDS data set, raw or harmonized, with participants.tsv.")]
Only = Annotated[list[str] | None, typer.Option("--domain", help="Use only this domain; may be repeated.")]


@evaluate.command()
def paired(
    output: Annotated[Path, typer.Argument(help="Harmonized scan.")],
    truth: Annotated[Path, typer.Argument(help="True scan of the same head on the target scanner.")],
    source: Annotated[
        Path | None,
        typer.Option(help="The unharmonized scan: adds what doing nothing and a perfect lock score."),
    ] = None,
    mask: Mask = None,
    as_json: Json = False,
) -> None:
    """Score a harmonized scan against the truth: PSNR, SSIM, MSE inside the brain.

    All on one voxel grid, prepared alike (bias field, intensity scale), data range 1 canonical unit. A
    `leaked_noise` above 0.2 says that the output holds noise that only the true scan has.
    """
    from mrharmony.cohort.evaluating import evaluate_paired

    _show(evaluate_paired(output, truth, source, mask), as_json)


@evaluate.command()
def anatomy(
    before: Annotated[Path, typer.Argument(help="The scan before harmonization.")],
    after: Annotated[Path, typer.Argument(help="The same scan after it, on the same grid.")],
    mask: Mask = None,
    as_json: Json = False,
) -> None:
    """Say whether anatomy was kept: tissue volumes, Dice, edges, displacement.

    By a three-tissue segmentation that no harmonizer uses. `mrharmony evaluate repeat` gives the noise floor.
    """
    from mrharmony.cohort.evaluating import evaluate_anatomy

    _show(evaluate_anatomy(before, after, mask), as_json)


@evaluate.command()
def repeat(
    first: Annotated[Path, typer.Argument(help="A scan.")],
    second: Annotated[Path, typer.Argument(help="Another of the same head on the same scanner, same grid.")],
    mask: Mask = None,
    as_json: Json = False,
) -> None:
    """Measure the scan-rescan noise floor that all other figures stand beside."""
    from mrharmony.cohort.evaluating import evaluate_repeat

    _show(evaluate_repeat(first, second, mask), as_json)


@evaluate.command()
def identity(
    scans: Annotated[list[Path], typer.Argument(help="Scans of one domain.")],
    domain: Annotated[str, typer.Option(help="The domain that they come from.")],
    method: Method = "diffusion",
    model: Model = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Harmonize scans to their own domain: nothing should change."""
    from mrharmony.cohort.evaluating import evaluate_identity
    from mrharmony.cohort.workbench import open_job

    job = open_job(model, method, domain, domain, seed=seed, device=device)
    _show(evaluate_identity(job, scans), as_json)


@evaluate.command()
def sites(
    bids_dir: BidsDir, domain_column: DomainColumn = "site", only: Only = None, as_json: Json = False
) -> None:
    """Say whether the site of a scan can still be told: retrained classifiers, and distances.

    Classifiers are trained on the given scans and tested on held-out subjects; beside each stands the same
    with shuffled labels. Run it on the raw and on the harmonized data set. About 10 s of processor a scan.
    """
    from mrharmony.cohort.evaluating import evaluate_sites
    from mrharmony.scans import BidsIndex

    _show(evaluate_sites(BidsIndex.open(bids_dir, domain_column), only or ()), as_json)


@evaluate.command()
def biology(
    bids_dir: BidsDir,
    to: Annotated[str, typer.Option(help="Domain whose scans the volumetry is made on.")],
    factor: Annotated[str, typer.Option(help="Column of participants.tsv with numbers.")] = "age",
    group: Annotated[
        str | None, typer.Option(help="Column of participants.tsv with two groups to compare.")
    ] = None,
    domain_column: DomainColumn = "site",
    only: Only = None,
    as_json: Json = False,
) -> None:
    """Say what a study of ventricles finds: slope, partial correlation, group difference, with intervals.

    The volumetry's intensity borders come from `--to`'s own scans and are not adapted to each scan, as in a
    study that was made on that scanner. Run it on the raw and on the harmonized data set.
    """
    from mrharmony.cohort.evaluating import evaluate_biology
    from mrharmony.scans import BidsIndex

    index = BidsIndex.open(bids_dir, domain_column)
    _show(evaluate_biology(index, to, factor, group, only or ()), as_json)


@evaluate.command()
def paper(
    bids_dir: BidsDir,
    from_: Annotated[str, typer.Option("--from", help="Domain to translate from.")],
    to: Annotated[str, typer.Option(help="Domain to translate to.")],
    slices: Annotated[int, typer.Option(min=1, help="How many coronal slices.")] = 100,
    method: Method = "diffusion",
    domain_column: DomainColumn = "site",
    model: Model = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Repeat the paper's Table 2: SSIM and MSE of translated slices against their inputs, 1 mm.

    Source to target and target to target, beside the paper's own numbers.
    """
    from mrharmony.cohort.evaluating import evaluate_paper
    from mrharmony.cohort.workbench import open_job
    from mrharmony.latent import read_card
    from mrharmony.scans import BidsIndex
    from mrharmony.weights import shipped_model

    job = open_job(model, method, from_, to, seed=seed, device=device)
    card = read_card(model or shipped_model())
    table = evaluate_paper(BidsIndex.open(bids_dir, domain_column), job, card, slices, seed)
    if as_json:
        typer.echo(json.dumps({"table": table}))
    else:
        Console().print(Markdown(table))


def _show(record: dict[str, Any], as_json: bool) -> None:
    """Print a record as JSON, or as a table with a line a figure."""
    if as_json:
        typer.echo(json.dumps(_without_infinities(record), indent=2))
        return
    table = Table("figure", "value")
    for name, value in _flat(record):
        table.add_row(name, f"{value:.5g}" if isinstance(value, float) else str(value))
    Console().print(table)


def _without_infinities(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with null for what JSON has no number for, such as the PSNR of equal images."""
    return {
        name: _without_infinities(value)
        if isinstance(value, dict)
        else (None if isinstance(value, float) and not math.isfinite(value) else value)
        for name, value in record.items()
    }


def _flat(record: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, value in record.items():
        lines += _flat(value, f"{prefix}{name} ") if isinstance(value, dict) else [(prefix + name, value)]
    return lines

"""Commands that judge: benchmark."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mrharmony.cli.app import OK, REFUSED, DomainColumn, Json, Model, Prepared, Seed, app


@app.command()
def benchmark(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS data set of several domains, or a virtual cohort.")],
    output: Annotated[Path, typer.Option(help="Folder for the tables and the figure; resumed if begun.")],
    to: Annotated[
        str | None,
        typer.Option(
            help="Domain that the cohort is brought to; that with most training scans if not given."
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Only this method; may be repeated. All but cyclegan if not given."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--domain", help="Use only this domain; may be repeated.")
    ] = None,
    domain_column: DomainColumn = "site",
    model: Model = None,
    prepared: Prepared = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare all methods on a data set: same preparation, same splits by subject, one table, one figure.

    Where subjects travelled (virtual cohorts of `mrharmony simulate --recipe`) every direction is scored
    against the true scan. Everywhere: retrained site classifiers, distances of the sites, drift of the
    anatomy, biology, seconds and memory. Methods are fitted on training subjects only: those that
    `participants.tsv` calls `train` in its column `split`, else in up to five folds.

    Killed and called again it goes on where it was. Writes `benchmark.md`, `.csv`, `.json` and `.png`.
    Example: `mrharmony benchmark COHORT --domain-column session --output RESULTS`
    """
    from mrharmony.benchmark.contenders import DEFAULT_METHODS
    from mrharmony.benchmark.run import BenchmarkRequest, run_benchmark
    from mrharmony.benchmark.table import terminal_table
    from mrharmony.weights import shipped_model

    request = BenchmarkRequest(
        bids_dir,
        output,
        model or shipped_model(),
        shlex.join(["mrharmony", *sys.argv[1:]]),
        domain_column,
        to,
        tuple(only or ()),
        tuple(method or DEFAULT_METHODS),
        seed,
        prepared,
    )
    result = run_benchmark(request)
    if as_json:
        typer.echo(
            json.dumps({"output": str(output), "rows": result.rows, "refused": result.refused}, indent=2)
        )
    else:
        Console().print(terminal_table(result.rows))
        typer.echo(f"All figures, explained: {output / 'benchmark.md'} (.csv, .json, .png).")
    for name, reason in result.refused.items():
        print(f"refused: {name}: {reason}", file=sys.stderr)
    raise typer.Exit(REFUSED if result.refused else OK)

"""Commands that prepare: prepare."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mrharmony.cli.app import OK, REFUSED, Json, Series, UsualColumn, app


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
    """Find brains, bias fields and postures once: BIDS derivatives, and a page to look at for each scan.

    Then look at `OUT_DIR/index.html`. Where a mask is wrong, correct `*_desc-brain_mask.nii.gz` in place and
    call again: a mask that you edited (or put there for a refused scan) is taken as given. Finished scans
    are kept. Next: `mrharmony harmonize SCAN --prepared OUT_DIR --to DOMAIN --output RESULTS`.
    """
    from mrharmony.cohort.derivatives import INDEX, prepare_data_set
    from mrharmony.cohort.dicom_input import index_of

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

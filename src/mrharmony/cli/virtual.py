"""Commands on virtual scanners: demo, simulate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mrharmony.cli.app import Json, Seed, app


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

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
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="A whole study instead: clean, confounded, new-source, scan-to-scan, or a YAML file. "
            "Several go into folders of their names."
        ),
    ] = None,
    anatomy: Annotated[
        Path | None, typer.Option(help="BIDS data set of real scans whose anatomies the heads are based on.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--domain", help="Anatomies of this site only; may be repeated.")
    ] = None,
    zoom: Annotated[float, typer.Option(min=1.0, max=4.0, help="Voxel size in mm.")] = 2.0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Simulate virtual travelling heads: every head through every scanner, with the true tissues.

    With `--recipe` a study for `mrharmony benchmark`: sites with training subjects of their own, and test
    subjects who travel to all of them; subjects, zoom and seed are then the recipe's.

    Next: `mrharmony harmonize OUT/sub-*/ses-*/anat/*_T1w.nii.gz --to SCANNER --output RESULTS`, or
    `mrharmony benchmark OUT --domain-column session --output RESULTS`.
    """
    from mrharmony.cohort.virtual import anatomies_of_bids, simulate_recipes
    from mrharmony.simulate import load_scanners, write_cohort

    cache = out.with_name(out.name + ".anatomies")
    anatomies = anatomies_of_bids(anatomy, only or (), cache) if anatomy else []
    if recipe:
        folders = simulate_recipes(out, recipe, None, anatomies)
    else:
        wanted: int | list[str] = int(scanners) if scanners.isdigit() else scanners.split(",")
        write_cohort(out, subjects, wanted, seed, zoom, anatomies=anatomies)
        folders = [out]
    if as_json:
        typer.echo(json.dumps({"cohorts": [str(folder) for folder in folders]}))
    else:
        names = ", ".join(str(folder) for folder in folders)
        typer.echo(f"Virtual heads in {names}. Known scanners: {', '.join(load_scanners())}.")

"""Commands on virtual scanners: demo, simulate."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mrharmony.cli.app import app, echo_json, in_options, leave
from mrharmony.cli.options import Device, Json, Prepared, Seed
from mrharmony.core.ending import GO_ON
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.terminal import terminal

if TYPE_CHECKING:
    from mrharmony.jobs.demo import Demo
    from mrharmony.simulate.anatomy import Anatomy
    from mrharmony.simulate.recipe import Recipe

SUBJECTS, SCANNERS, ZOOM, SEED = 4, "3", 2.0, 0


@app.command(ended=GO_ON)
def demo(
    out: Annotated[Path, typer.Argument(help="Folder for scans, results and page; resumed if begun.")] = Path(
        "demo-output"
    ),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Show the whole way in three minutes: whole virtual heads, harmonized by the commands you would type.

    Prints each command as it runs. Ends with a page, a table (PSNR to the true scans, of nothing, histogram
    matching, mrharmony, and the most that its lock can give) and a sentence. With `--json` what the commands
    print goes to standard error. All methods side by side: `mrharmony benchmark`.
    """
    from mrharmony.jobs.demo import Demo

    run_demo(Demo(out, seed, device), as_json)


def run_demo(demo: Demo, as_json: bool) -> None:
    """Run the demo's commands in this process, each printed first, then show what came out.

    Leaves with the status of a command that fails.
    """
    demo.require_place()
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        terminal().print(demo.about())
        for arguments in demo.commands():
            typer.echo(f"\n$ mrharmony {shlex.join(arguments)}")
            sys.stdout.flush()
            if status := app(arguments, standalone_mode=False):
                raise typer.Exit(status)
        result = demo.result()
    if as_json:
        echo_json(result.record())
    else:
        result.print(terminal())


@app.command(ended=GO_ON)
def simulate(
    out: Annotated[Path, typer.Argument(help="New or empty directory; becomes a BIDS data set.")],
    subjects: Annotated[
        int | None, typer.Option(min=1, help=f"How many virtual heads; {SUBJECTS} if not given.")
    ] = None,
    scanners: Annotated[
        str | None,
        typer.Option(
            help="How many scanners each head travels through, or their names with commas; "
            f"{SCANNERS} if not given."
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="A whole study instead: clean, confounded, new-source, scan-to-scan, foreign, "
            "foreign-confounded, or a YAML file. Several "
            "go into folders of their names. Without --subjects and --scanners."
        ),
    ] = None,
    anatomy: Annotated[
        Path | None,
        typer.Option(help="BIDS data set of real scans to base the heads on: each subject's first."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--domain", help="Anatomies of this site only (column `site`); may be repeated."),
    ] = None,
    extent: Annotated[
        Literal["brain", "head"],
        typer.Option(
            help="brain: skull-stripped; head: whole heads without a face, based on the label map that ships."
        ),
    ] = "brain",
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Folder of label maps of whole heads (FreeSurfer's labels), for the recipes foreign and "
            "foreign-confounded; those that are for judging only are used."
        ),
    ] = None,
    prepared: Prepared = None,
    zoom: Annotated[
        float | None,
        typer.Option(min=1.0, max=4.0, help=f"Voxel size in mm; {ZOOM:g} or the recipe's own if not given."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"Everything random comes from this number; {SEED}, or the recipe's own, if not given.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Simulate virtual travelling heads: every head through every scanner, with the true tissues.

    With `--recipe` a study for `mrharmony benchmark`: sites with training subjects of their own, and test
    subjects who travel to all of them.

    Next: `mrharmony harmonize OUT/sub-*/ses-*/anat/*_T1w.nii.gz --to SCANNER --output RESULTS`, or
    `mrharmony benchmark OUT --domain-column session --output RESULTS`.
    """
    from mrharmony.jobs.label_heads import judge_heads
    from mrharmony.simulate.cohort import write_cohort, write_recipe_cohort
    from mrharmony.simulate.recipe import load_recipe
    from mrharmony.simulate.scanner import load_scanners
    from mrharmony.simulate.shipped_head import shipped_head

    _check_heads(recipe, subjects, scanners, anatomy, only, prepared, extent)
    recipes = [load_recipe(name) for name in recipe or ()]
    _check_labels(recipes, labels, anatomy)
    anatomies, refused = _anatomies(anatomy, only, prepared, out) if anatomy else ([], {})
    if extent == "head":
        anatomies = [shipped_head()]
    heads = judge_heads(labels) if labels else []
    folders = [out] if len(recipes) < 2 else [out / one.name for one in recipes]
    for one, folder in zip(recipes, folders, strict=False):
        write_recipe_cohort(folder, one, seed=seed, zoom=zoom, anatomies=heads or anatomies)
    if not recipes:
        chosen = scanners or SCANNERS
        write_cohort(
            out,
            SUBJECTS if subjects is None else subjects,
            int(chosen) if chosen.isdigit() else chosen.split(","),
            SEED if seed is None else seed,
            ZOOM if zoom is None else zoom,
            anatomies=anatomies,
        )
    if as_json:
        echo_json({"cohorts": [str(folder) for folder in folders]})
    else:
        names = ", ".join(str(folder) for folder in folders)
        typer.echo(f"Virtual heads in {names}. Known scanners: {', '.join(load_scanners())}.")
    leave(refused)


def _check_heads(
    recipe: list[str] | None,
    subjects: int | None,
    scanners: str | None,
    anatomy: Path | None,
    only: list[str] | None,
    prepared: Path | None,
    extent: str,
) -> None:
    """Refuse options that do not belong together."""
    if recipe and (subjects is not None or scanners is not None):
        raise MrharmonyError(
            "--recipe brings its own subjects and scanners: leave --subjects and --scanners out, or name a "
            "YAML file with other ones."
        )
    if only and not anatomy:
        raise MrharmonyError("--domain chooses among anatomies: give --anatomy BIDS_DIR too.")
    if prepared and not anatomy:
        raise MrharmonyError("--prepared is of the scans of --anatomy: give --anatomy BIDS_DIR too.")
    if extent == "head" and (recipe or anatomy):
        raise MrharmonyError(
            "--extent head is for travelling heads on the anatomy that ships: "
            "leave --recipe and --anatomy out."
        )


def _anatomies(
    bids_dir: Path, only: list[str] | None, prepared: Path | None, out: Path
) -> tuple[list[Anatomy], dict[Path, str]]:
    """Return the anatomies of real scans, and why others were refused, which is told."""
    from mrharmony.jobs.brains import reasons_by_name
    from mrharmony.jobs.virtual import anatomies_of_bids

    cache = out.with_name(out.name + ".anatomies")
    anatomies, refused = anatomies_of_bids(bids_dir, only or (), cache, prepared)
    for name, reason in reasons_by_name(refused).items():
        typer.echo(f"{name}: left out. {in_options(reason)}", err=True)
    return anatomies, refused


def _check_labels(recipes: list[Recipe], labels: Path | None, anatomy: Path | None) -> None:
    """Refuse label maps without a recipe of measured sites, and such a recipe without them."""
    if labels and anatomy:
        raise MrharmonyError("--labels and --anatomy both bring the heads: give one of them.")
    if labels and not recipes:
        raise MrharmonyError("--labels is for the recipes foreign and foreign-confounded: give --recipe too.")
    odd = next((one for one in recipes if one.takes_label_maps != bool(labels)), None)
    if odd and labels:
        raise MrharmonyError(f"--recipe {odd.name} takes no label maps: run it without --labels.")
    if odd:
        raise MrharmonyError(f"--recipe {odd.name} needs label maps of whole heads: give --labels DIR.")

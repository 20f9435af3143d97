"""Commands that measure: each evaluator of `mrharmony evaluate`, `mrharmony paper`, `mrharmony benchmark`."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.markdown import Markdown
from rich.table import Table

from mrharmony.cli.app import Commands, app, echo_json, in_options, leave
from mrharmony.cli.options import (
    DataOptions,
    Device,
    DomainColumn,
    Json,
    Mask,
    Method,
    Model,
    Prepared,
    Seed,
    Workers,
    flag,
    require_one,
    with_groups,
)
from mrharmony.core.ending import GO_ON, note_remedy
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.terminal import terminal
from mrharmony.methods.registry import DEFAULT_METHOD

if TYPE_CHECKING:
    from mrharmony.benchmark.paper.slices import PaperRequest

evaluate = Commands(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help=(
        "Measure how good a result is.\n\n"
        "With a truth (travelling subjects): `paired`. Without: `sites`, `anatomy`, `identity`, `biology`, "
        "`repeat`. `paper` repeats the paper's Table 2 and figures; `unlearning` is a rival that makes no "
        "images. Scans are prepared identically first, but for those that mrharmony harmonized, which are "
        "taken as they are; `--prepared` takes them from a folder of `mrharmony prepare`. Of many scans, "
        "one that is refused is left out. The documentation explains every figure under Evidence. "
        "`mrharmony benchmark` does all of it for all methods."
    ),
)
app.add_typer(evaluate, name="evaluate")

BidsDir = Annotated[Path, typer.Argument(help="BIDS data set, raw or harmonized, with participants.tsv.")]


@evaluate.command()
def paired(
    output: Annotated[Path, typer.Argument(help="Harmonized scan.")],
    truth: Annotated[Path, typer.Argument(help="True scan of the same head on the target scanner.")],
    source: Annotated[
        Path | None,
        typer.Option(help="The unharmonized scan: adds what doing nothing and a perfect lock score."),
    ] = None,
    mask: Mask = None,
    prepared: Prepared = None,
    as_json: Json = False,
) -> None:
    """Score a harmonized scan against the truth: PSNR, SSIM, MSE inside the brain.

    All on one voxel grid, data range 1 canonical unit. An output of mrharmony, with its JSON sidecar, is
    taken as it is. Any other output is prepared like the truth, which takes its bias field and its overall
    brightness away: a wrong gain or shading of another program is then not seen. With `--source`, a
    `leaked_noise` above 0.4 says that the output holds noise that only the true scan has.
    """
    from mrharmony.jobs.evaluating import evaluate_paired

    require_one(mask, prepared)
    _show(evaluate_paired(output, truth, source, mask, prepared), as_json)


@evaluate.command()
def anatomy(
    before: Annotated[Path, typer.Argument(help="The scan before harmonization.")],
    after: Annotated[Path, typer.Argument(help="The same scan after it, on the same grid.")],
    mask: Mask = None,
    prepared: Prepared = None,
    as_json: Json = False,
) -> None:
    """Say whether anatomy was kept: tissue volumes, Dice, edges, displacement.

    By a three-tissue segmentation that no harmonizer uses. `mrharmony evaluate repeat` gives the noise floor.
    """
    from mrharmony.jobs.evaluating import evaluate_anatomy

    require_one(mask, prepared)
    _show(evaluate_anatomy(before, after, mask, prepared), as_json)


@evaluate.command()
def repeat(
    first: Annotated[Path, typer.Argument(help="A scan.")],
    second: Annotated[Path, typer.Argument(help="Another of the same head on the same scanner, same grid.")],
    mask: Mask = None,
    prepared: Prepared = None,
    as_json: Json = False,
) -> None:
    """Measure the scan-rescan noise floor that all other figures stand beside."""
    from mrharmony.jobs.evaluating import evaluate_repeat

    require_one(mask, prepared)
    _show(evaluate_repeat(first, second, mask, prepared), as_json)


@evaluate.command()
def identity(
    scans: Annotated[list[Path], typer.Argument(readable=False, help="Scans of one domain.")],
    domain: Annotated[str, typer.Option(help="The domain that they come from.")],
    method: Method = DEFAULT_METHOD,
    model: Model = None,
    prepared: Prepared = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Harmonize scans to their own domain: nothing should change."""
    from mrharmony.jobs.evaluating import evaluate_identity
    from mrharmony.jobs.opening import open_job
    from mrharmony.methods.protocol import MethodSettings

    settings = MethodSettings(seed=seed, device=device)
    job = replace(open_job(model, method, domain, domain, settings), prepared=prepared)
    _show(evaluate_identity(job, scans), as_json)


@evaluate.command()
@with_groups
def sites(
    bids_dir: BidsDir,
    data: DataOptions,
    raw: Annotated[
        Path | None,
        typer.Option(
            help="BIDS data set before harmonization: adds the frozen classifier, gives the tissues."
        ),
    ] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Say whether the site of a scan can still be recognized: retrained classifiers, and distances.

    Classifiers are trained on the given scans and tested on held-out subjects; beside each stands the same
    with shuffled labels. Run it on the raw and on the harmonized data set. About 10 s of processor a scan,
    and five minutes for the network (cnn). Where that does not know the scans it was trained on (near 1), a
    low figure of its own says little.
    """
    from mrharmony.jobs.evaluating import evaluate_sites

    _show(evaluate_sites(data.of(bids_dir), raw, workers), as_json)


@evaluate.command()
@with_groups
def unlearning(
    bids_dir: BidsDir,
    data: DataOptions,
    factor: Annotated[
        str, typer.Option(help="Column of participants.tsv to predict: numbers, or two groups.")
    ] = "age",
    logarithm: Annotated[
        bool, flag("--log", "Predict the factor's natural logarithm, as of a size.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="File for the result as JSON.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder that keeps the prepared brains for the next call.")
    ] = None,
    model: Model = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Unlearn the site, keep `--factor`: a rival that returns features, **not images**.

    Adversarial unlearning (Dinsdale et al. 2021) on the latent model's encoder: a small network learns to
    predict the factor while the site is taken out of its features. Main task and site on held-out subjects,
    before and after; the site by retrained classifiers, because the network's own site head misleads.
    Subjects are split by the column `split` (`train`, `test`) if there is one, else in up to five folds.
    Scans without the factor (n/a) take part in the unlearning alone.
    """
    from mrharmony.core.atomic import write_json
    from mrharmony.jobs.unlearning import (
        UnlearningRequest,
        evaluate_unlearning,
        require_own_record,
        unlearning_table,
    )
    from mrharmony.weights import shipped_model

    if work:
        note_remedy(GO_ON)
    if output:
        require_own_record(output)
    encoder = model or shipped_model()
    request = UnlearningRequest(data.of(bids_dir), factor, logarithm, encoder, work, workers)
    record = evaluate_unlearning(request)
    if output:
        write_json(output, record)
    _print(record, as_json, Markdown(unlearning_table(record)))


@evaluate.command()
@with_groups
def biology(
    bids_dir: BidsDir,
    to: Annotated[str, typer.Option(help="Site in this data set on whose scans the volumetry is made.")],
    data: DataOptions,
    factor: Annotated[str, typer.Option(help="Column of participants.tsv with numbers.")] = "age",
    group: Annotated[
        str | None, typer.Option(help="Column of participants.tsv with two groups to compare.")
    ] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Say what a study of ventricles finds: slope, partial correlation, group difference, with intervals.

    The volumetry's intensity borders come from `--to`'s own scans and are not adapted to each scan, as in a
    study that was made on that scanner. Run it on the raw and on the harmonized data set. Scans without
    `--factor` or `--group` (n/a) are left out.
    """
    from mrharmony.jobs.evaluating import evaluate_biology

    _show(evaluate_biology(data.of(bids_dir), to, factor, group, workers), as_json)


class PaperOptions(NamedTuple):
    """The paper's evaluation, whatever the model."""

    from_: Annotated[str, typer.Option("--from", help="Domain to translate from.")]
    to: Annotated[str, typer.Option(help="Domain to translate to; a trained model must know it.")]
    output: Annotated[Path, typer.Option(help="Folder of the results; call again to go on.")]
    slices: Annotated[int, typer.Option(min=1, help="Coronal slices of each direction.")] = 1
    images: Annotated[int, typer.Option(min=1, help="Images of each slice by image-to-image.")] = 100
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Steps of the paper's schedule.")] = 1000
    domain_column: DomainColumn = "site"
    seed: Seed = 2500
    device: Device = "auto"
    workers: Workers = None
    prepared: Prepared = None

    def request(self, bids_dir: Path, model: Path, fitted: Mapping[str, Path]) -> PaperRequest:
        """Return the evaluation of a model on a data set."""
        from mrharmony.benchmark.paper.slices import PaperRequest

        given = self._asdict()
        source, target = given.pop("from_"), given.pop("to")
        return PaperRequest(bids_dir, source, target, model=model, fitted=fitted, **given)


@evaluate.command(ended=GO_ON)
@with_groups
def paper(
    bids_dir: BidsDir,
    options: PaperOptions,
    fitted: Annotated[
        list[str] | None,
        typer.Option(help="METHOD=DIR: a row of a method that `mrharmony train --method` wrote to DIR."),
    ] = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Repeat the paper's evaluation: Table 2, Figures 1 and 2, for image-to-image and every other method.

    Image-to-image with the paper's settings, with the best strength and guidance found on training scans, the
    autoencoder's round trip, what the model has of `none`, `histogram` and `diffusion`, and what `--fitted`
    names; source to target and target to target, on scans that nothing was chosen on, beside the paper's
    numbers. A model that has learned from a judged subject is refused. As in the paper by default: 100
    images, 1000 steps, most of an hour of one core a slice; fewer of both take minutes. `mrharmony paper`
    also trains the model.
    """
    from mrharmony.benchmark.paper.study import evaluate_paper
    from mrharmony.weights import shipped_model

    request = options.request(bids_dir, model or shipped_model(), _fitted(fitted or ()))
    _show_paper(evaluate_paper(request), as_json)


@app.command("paper", ended=GO_ON)
@with_groups
def whole_paper(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS data set with participants.tsv, two domains.")],
    base: Annotated[
        str,
        typer.Option(
            help="A Stable Diffusion v1.x model, such as v1.5: a directory in diffusers' layout, or an id on "
            "the Hub."
        ),
    ],
    options: PaperOptions,
    preset: Annotated[
        str, typer.Option(help="Of the training: paper, lora, structure, or a YAML file.")
    ] = "paper",
    download: Annotated[bool, flag("--download", "The base may be fetched from the Hub.")] = False,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this rival; may be repeated. none, histogram, population, diffusion if not given."
        ),
    ] = None,
    cost: Annotated[bool, flag("--cost", "Only say what it costs: slices, steps, time, memory.")] = False,
    as_json: Json = False,
) -> None:
    """Do the paper's experiment: prepare, split, train, fit rivals, translate; Table 2, Figures 1 and 2.

    Stable Diffusion learns both domains (DreamBooth) from the training half of the subjects: those that
    `participants.tsv` calls `train` in its column `split`, else four fifths. Others are translated and
    scored, beside rivals that were fitted on the same training half. The base is checked, and the cost said,
    before any work. If it was interrupted, the same call resumes it. `--seed` is of slices and images; the
    training has its seed from `--preset`.

    Writes `paper.md`, `paper.json`, `figure-1.png`, `figure-2.png`, `search.png`, and the model to
    `OUTPUT/model`. Example: `mrharmony paper BIDS_DIR --base stable-diffusion-v1-5 --from A --to B --output
    OUT`
    """
    from mrharmony.benchmark.paper.recipe import RIVALS, PaperRecipe, plan_recipe, run_recipe
    from mrharmony.networks.settings import DreamBoothSettings

    recipe = PaperRecipe(
        options.request(bids_dir, options.output / "model", {}),
        base,
        DreamBoothSettings.preset(preset),
        download,
        tuple(method or RIVALS),
    )
    if cost:
        _, figures = plan_recipe(recipe)
        echo_json(figures) if as_json else typer.echo(figures["text"])
    else:
        _show_paper(run_recipe(recipe, partial(typer.echo, err=True)), as_json)


def _show_paper(record: dict[str, Any], as_json: bool) -> None:
    for method, reason in record["left_out"].items():
        typer.echo(f"{method}: left out. {in_options(reason)}", err=True)
    _print(record, as_json, Markdown(record["table"]))


@app.command(ended=GO_ON)
@with_groups
def benchmark(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS data set of several domains, or a virtual cohort.")],
    output: Annotated[Path, typer.Option(help="Folder for the tables and the figure; resumed if begun.")],
    data: DataOptions,
    to: Annotated[
        str | None,
        typer.Option(
            help="Domain that the cohort is brought to; the one with most training scans otherwise."
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Only this method; may be repeated. All but cyclegan if not given."),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare all methods on a data set: same preparation, same splits by subject, one table, one figure.

    Where subjects travelled (virtual cohorts of `mrharmony simulate --recipe`) every direction is scored
    against the true scan. Everywhere: retrained site classifiers, distances of the sites, drift of the
    anatomy, biology, seconds and memory. Methods are fitted on training subjects only: those that
    `participants.tsv` calls `train` in its column `split`, else in up to five folds.

    If it was interrupted, the same call resumes it. Writes `benchmark.md`, `.csv`, `.json` and `.png`.
    Example: `mrharmony benchmark COHORT --domain-column session --output RESULTS`
    """
    from mrharmony.benchmark.contenders import DEFAULT_METHODS
    from mrharmony.benchmark.run import BenchmarkRequest, run_benchmark
    from mrharmony.benchmark.table import terminal_table

    request = BenchmarkRequest(
        bids_dir,
        output,
        shlex.join(["mrharmony", *sys.argv[1:]]),
        data.domain_column,
        to,
        tuple(data.only or ()),
        tuple(method or DEFAULT_METHODS),
        seed,
        data.prepared,
    )
    result = run_benchmark(request)
    if as_json:
        echo_json({"output": str(output), "rows": result.rows, "refused": result.refused})
    else:
        terminal().print(terminal_table(result.rows))
        typer.echo(f"All figures, explained: {output / 'benchmark.md'} (.csv, .json, .png).")
    for name, reason in result.refused.items():
        print(f"refused: {name}: {in_options(reason)}", file=sys.stderr)
    leave(result.refused)


def _fitted(given: Sequence[str]) -> dict[str, Path]:
    """Return the directories of METHOD=DIR."""
    directories = {}
    for one in given:
        method, _, folder = one.partition("=")
        if not (method and folder):
            raise MrharmonyError(f"--fitted {one}: say METHOD=DIR, such as combat=fits/combat.")
        directories[method] = Path(folder)
    return directories


def _show(record: dict[str, Any], as_json: bool) -> None:
    """Print a record as JSON, or as a table with a line a figure."""
    table = Table("figure", "value")
    for name, value in _flat({key: value for key, value in record.items() if key != "refused"}):
        shown = "n/a" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
        table.add_row(name, shown)
    _print(record, as_json, table)


def _print(record: dict[str, Any], as_json: bool, table: Table | Markdown) -> None:
    """Print a record as JSON or in words, and what was refused; that also makes the status."""
    if as_json:
        echo_json(_without_infinities(record))
    else:
        terminal().print(table)
    refused = record.get("refused", {})
    for name, reason in refused.items():
        typer.echo(f"{name}: refused and left out. {in_options(reason)}", err=True)
    leave(refused)


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

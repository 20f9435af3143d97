"""Commands on models: domains, train, adapt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from mrharmony.cli.app import (
    OK,
    REFUSED,
    Device,
    DomainColumn,
    Json,
    Model,
    Prepared,
    Seed,
    TrainedMethod,
    app,
)
from mrharmony.core.findings import MrharmonyError

if TYPE_CHECKING:
    from mrharmony.jobs.adapting import AdaptationReport
    from mrharmony.jobs.training import TrainingReport


@app.command()
def domains(model: Model = None, as_json: Json = False) -> None:
    """List the domains that a model knows: what `--to` and `--from` accept."""
    from mrharmony.networks.diffusion.model import read_card
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
        str | None,
        typer.Option(
            help="Configuration: quick (if not given), shipped, or a YAML file; of cyclegan published, or "
            "a YAML file.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        TrainedMethod,
        typer.Option(
            help="synthesis fits the contrast models that harmonize uses by default; diffusion trains the "
            "latent diffusion model too (minutes to hours); cyclegan trains a network a pair; the others are "
            "fitted in seconds. All prepare the scans first."
        ),
    ] = "diffusion",
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Of cyclegan: two domains. Each call adds a pair to the output.", show_default=False
        ),
    ] = None,
    prepared: Prepared = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Everything random comes from this number; from the preset's if not given."),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a compact model from scratch on the scans of several domains, or fit a simple method.

    Prepares every scan, trains the autoencoder, then the denoiser. Killed and called again with the same
    arguments it goes on where it was: what is not finished lies in `MODEL.training`, TensorBoard logs too.
    `--preset quick` takes at most 20 minutes on 2 cores. Next: `mrharmony harmonize SCAN --model MODEL ...`.
    """
    from mrharmony.jobs.cyclegan import train_pairs_on_bids
    from mrharmony.jobs.training import fit_on_bids, train_on_bids
    from mrharmony.methods.registry import method_named
    from mrharmony.networks.cyclegan.networks import CycleGanSettings
    from mrharmony.networks.settings import TrainingSettings

    entry = method_named(method)
    if pair and not entry.options.pairs:
        raise MrharmonyError(
            f"{method}: knows all domains at once. Leave --pair out, or say --method cyclegan."
        )
    seeded = {} if seed is None else {"seed": seed}
    if entry.needs.training == "scans":
        report = fit_on_bids(bids_dir, output, method, domain_column, only, prepared)
    elif not entry.options.pairs:
        settings = TrainingSettings.preset(preset or "quick").model_copy(update=seeded)
        report = train_on_bids(bids_dir, output, domain_column, only, settings, device, prepared)
    else:
        if only:
            raise MrharmonyError("cyclegan takes its domains from --pair. Leave --domain out.")
        of_pairs = CycleGanSettings.preset(preset) if preset else CycleGanSettings()
        of_pairs = of_pairs.model_copy(update=seeded)
        pairs = [pair] if pair else []
        report = train_pairs_on_bids(bids_dir, output, pairs, domain_column, of_pairs, device, prepared)
    _finish(report, as_json)


@app.command()
def adapt(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS data set with participants.tsv.")],
    output: Annotated[Path, typer.Option(help="New model directory to write.")],
    base: Annotated[
        str | None,
        typer.Option(
            help="Model to start from: a directory, or a Stable Diffusion v1.x model as a directory in "
            "diffusers' layout or an id on the Hub; the model that ships with mrharmony if not given.",
            show_default=False,
        ),
    ] = None,
    domain_column: DomainColumn = "site",
    only: Annotated[
        list[str] | None,
        typer.Option("--domain", help="Teach this domain only; may be repeated. All that are new otherwise."),
    ] = None,
    all_weights: Annotated[
        bool,
        typer.Option(
            "--all-weights", metavar="", help="Fine-tune the whole denoiser instead of LoRA on its attention."
        ),
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps, 300 if not given.", show_default=False)
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Of Stable Diffusion: paper (if not given), lora, structure, or a YAML file of settings.",
            show_default=False,
        ),
    ] = None,
    download: Annotated[
        bool,
        typer.Option(
            "--download", metavar="", help="Stable Diffusion's weights may be fetched from the Hub."
        ),
    ] = False,
    prepared: Prepared = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Teach a model new sites from 1 to 20 scans each; the sites that it knows stay.

    Takes the domains of the data set that the base does not know, at most 20 scans of each. Fits the contrast
    models
    of these domains (seconds a scan) and copies those of known ones: the default method, `synthesis`, uses
    these alone. Also teaches the latent diffusion model (DreamBooth, minutes): tokens and LoRA, `--steps`,
    `--all-weights` and the drift that is told at the end, how far the looks of known domains moved, concern
    `--method diffusion` and `img2img` only. A model from a Stable Diffusion `--base` has no contrast models.

    The new model knows the old and the new domains, and is used like any other. Killed and called again with
    the same arguments it goes on where it was: what is not finished lies in `MODEL.training`.

    Example: `mrharmony adapt BIDS_DIR --output my-model`, then
    `mrharmony harmonize SCAN --to MY-SITE --model my-model --output harmonized/`
    """
    from mrharmony.jobs.adapting import adapt_on_bids, is_pipeline, require_new
    from mrharmony.networks.settings import AdaptationSettings
    from mrharmony.weights import shipped_model

    require_new(output)
    if base and is_pipeline(base):
        if steps or all_weights or seed:
            raise MrharmonyError(f"{base}: steps, weights and seed are set by --preset; name a YAML file.")
        _adapt_pipeline(
            bids_dir,
            output,
            base,
            preset or "paper",
            domain_column,
            only,
            device,
            download,
            prepared,
            as_json,
        )
        return
    if preset or download:
        raise MrharmonyError("--preset and --download belong to a Stable Diffusion --base.")
    settings = AdaptationSettings(steps=steps or 300, all_weights=all_weights, seed=seed)
    report = adapt_on_bids(
        bids_dir,
        Path(base) if base else shipped_model(),
        output,
        domain_column,
        only,
        settings,
        device,
        prepared=prepared,
    )
    _finish(report, as_json)


def _adapt_pipeline(
    bids_dir: Path,
    output: Path,
    base: str,
    preset: str,
    domain_column: str,
    only: list[str] | None,
    device: str,
    download: bool,
    prepared: Path | None,
    as_json: bool,
) -> None:
    """Teach Stable Diffusion the domains of a data set: the paper's system."""
    from mrharmony.jobs.stable import AdaptationJob, adapt_on_bids
    from mrharmony.networks.stable.settings import DreamBoothSettings

    settings = DreamBoothSettings.preset(preset)
    job = AdaptationJob(bids_dir, output, base, settings, domain_column, only, device, download, prepared)
    report = adapt_on_bids(job)
    _finish(report, as_json)


def _finish(report: TrainingReport | AdaptationReport, as_json: bool) -> NoReturn:
    """Print what was done, and end with the status that tells whether scans were refused."""
    typer.echo(json.dumps(report.record(), indent=2) if as_json else report.text())
    raise typer.Exit(REFUSED if report.refused else OK)

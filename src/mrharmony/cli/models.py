"""Commands on models: domains, train, adapt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from mrharmony.cli.app import app, echo_json, in_options, leave, one_of
from mrharmony.cli.options import DataOptions, Device, Json, Model, Seed, flag, with_groups
from mrharmony.core.ending import GO_ON
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.wording import count_of
from mrharmony.methods.registry import DEFAULT_METHOD, METHODS

if TYPE_CHECKING:
    from mrharmony.jobs.adapting import AdaptationReport
    from mrharmony.jobs.training import TrainingReport

_TRAINED = [method.name for method in METHODS if method.needs.training]
_ADAPTED = [DEFAULT_METHOD, "img2img"]
BidsDir = Annotated[Path, typer.Argument(help="BIDS data set with participants.tsv.")]


@app.command()
def domains(model: Model = None, as_json: Json = False) -> None:
    """List the domains that a model knows: what `--to` and `--from` accept, beside protocols.

    A domain is known by its scans. A T1w protocol needs none: its contrast follows from the signal equations.

    Example: `mrharmony harmonize SCAN --to "mprage 3T TR=2300 TI=900 TE=3 FA=9" --output out/`, or
    `--to protocol.json`, the BIDS sidecar of a scan
    """
    from mrharmony.networks.card import read_card
    from mrharmony.simulate.protocol import EXAMPLE
    from mrharmony.weights import shipped_model

    card = read_card(model or shipped_model())
    if as_json:
        echo_json([domain.model_dump() for domain in card.domains])
        return
    for domain in card.domains:
        typer.echo(
            f"{domain.name:16s} {count_of(domain.scans, 'scan') if domain.scans else 'simulated scanner'}"
        )
    typer.echo(f"or a T1w protocol, of which no scans are needed: protocol.json, '{EXAMPLE}'")


@app.command(ended=GO_ON)
@with_groups
def train(
    bids_dir: BidsDir,
    output: Annotated[Path, typer.Option(help="Model directory to write.")],
    data: DataOptions,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Of img2img: quick (if not given), shipped, or a YAML file; of cyclegan published, or a "
            "YAML file."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            parser=one_of(_TRAINED),
            metavar="METHOD",
            help="diffusion, which harmonize uses by default, fits a contrast model to each domain's scans; "
            "img2img also trains the paper's latent diffusion model, in a compact size (minutes to hours); "
            "cyclegan trains a network a pair; the others are fitted in seconds. All prepare first.",
        ),
    ] = DEFAULT_METHOD,
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="DOMAIN DOMAIN",
            help="Of cyclegan: two domains. Each call adds a pair to the output.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Of networks: everything random comes from it; from the preset's if not given."
        ),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Fit a method to the scans of several domains, or train its networks from scratch.

    Prepares every scan first; where participants.tsv has a column `split`, only its half `train` is used. If
    it was interrupted, the same call resumes it: unfinished work lies in `MODEL.training`, with logs.
    `--method img2img --preset quick` takes at most 20 minutes on 2 cores. Next:
    `mrharmony harmonize SCAN --model MODEL ...`.

    Networks alone (`img2img`, `cyclegan`) use `--seed` and `--device`: all else is fitted on the CPU, always
    alike.
    """
    from mrharmony.jobs.training import fit_on_bids, train_on_bids, train_pairs_on_bids
    from mrharmony.methods.registry import method_named
    from mrharmony.networks.cyclegan.networks import CycleGanSettings
    from mrharmony.networks.settings import TrainingSettings, require_device

    require_device(device)
    entry = method_named(method)
    if pair and not entry.options.pairs:
        raise MrharmonyError(f"{method}: knows all domains. Leave --pair out, or say --method cyclegan.")
    if preset and entry.needs.training == "scans":
        raise MrharmonyError(f"{method}: has no presets. Leave --preset out, or say --method img2img.")
    if data.only and method == "cyclegan":
        raise MrharmonyError("cyclegan takes its domains from --pair. Leave --domain out.")
    scans = data.of(bids_dir)
    seeded = {} if seed is None else {"seed": seed}
    if entry.needs.training == "scans":
        _tell_unused(method, seed, device)
        report = fit_on_bids(scans, output, method)
    elif not entry.options.pairs:
        settings = TrainingSettings.preset(preset or "quick").model_copy(update=seeded)
        report = train_on_bids(scans, output, settings, device)
    else:
        of_pairs = CycleGanSettings.preset(preset) if preset else CycleGanSettings()
        of_pairs = of_pairs.model_copy(update=seeded)
        report = train_pairs_on_bids(scans, output, [pair] if pair else [], of_pairs, device)
    _finish(report, as_json)


@app.command(ended=GO_ON)
@with_groups
def adapt(
    bids_dir: BidsDir,
    output: Annotated[Path, typer.Option(help="New model directory to write.")],
    data: DataOptions,
    method: Annotated[
        str | None,
        typer.Option(
            parser=one_of(_ADAPTED),
            metavar="METHOD",
            help="diffusion (if not given), which harmonize uses by default, fits a contrast model to each "
            "new domain, in seconds a scan; img2img (if its options are given) also teaches the paper's "
            "latent diffusion model, in minutes, and is what a Stable Diffusion --base learns.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="Model to start from: a directory, or a Stable Diffusion v1.x model as a directory in "
            "diffusers' layout or an id on the Hub; the model that ships with mrharmony if not given."
        ),
    ] = None,
    all_weights: Annotated[
        bool,
        flag("--all-weights", "Of img2img: fine-tune the whole denoiser, not LoRA on its attention."),
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of img2img: training steps, 300 if not given.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Of Stable Diffusion: paper (if not given), lora, structure, or a YAML file."),
    ] = None,
    download: Annotated[
        bool, flag("--download", "Stable Diffusion's weights may be fetched from the Hub.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Teach a model new sites from 1 to 20 scans each; the sites that it knows stay.

    Takes the domains of the data set that the base does not know, at most 20 scans of each; where
    participants.tsv has a column `split`, only of its half `train`. Fits the contrast models of these domains
    and copies those of known ones, which is all that the default method, `diffusion`, uses.

    `--method img2img` teaches the compact latent diffusion model too (DreamBooth), and reports how far the
    contrasts of known domains moved. A model from a Stable Diffusion `--base` has no contrast models; it
    learns all domains that the data set has. `mrharmony paper` does the paper's whole experiment.

    Networks alone use `--seed` and `--device`: contrast models are fitted on the CPU, without chance.

    The new model knows the old and the new domains, and is used like any other. If it was
    interrupted, the same call resumes it: unfinished work lies in `MODEL.training`.

    Example: `mrharmony adapt BIDS_DIR --output my-model`, then
    `mrharmony harmonize SCAN --to MY-SITE --model my-model --output harmonized/`
    """
    from mrharmony.jobs.adapting import adapt_on_bids, extend_on_bids, is_pipeline, require_base
    from mrharmony.networks.settings import AdaptationSettings, DreamBoothSettings, require_device
    from mrharmony.weights import shipped_model

    require_device(device)
    report: TrainingReport | AdaptationReport
    if base:
        require_base(base, download=download)
    scans, model = data.of(bids_dir), base or shipped_model()
    if base and is_pipeline(base):
        if method == DEFAULT_METHOD:
            raise MrharmonyError(f"{base}: Stable Diffusion serves --method img2img. Leave --method out.")
        if steps or all_weights or seed:
            raise MrharmonyError(f"{base}: steps, weights and seed are set by --preset; name a YAML file.")
        recipe = DreamBoothSettings.preset(preset or "paper")
        report = adapt_on_bids(scans, base, output, recipe, device, download=download)
    elif preset or download:
        raise MrharmonyError("--preset and --download belong to a Stable Diffusion --base.")
    elif method == "img2img" or (method is None and (steps or all_weights)):
        settings = AdaptationSettings(steps=steps or 300, all_weights=all_weights, seed=seed)
        report = adapt_on_bids(scans, model, output, settings, device)
    elif steps or all_weights:
        raise MrharmonyError(f"--steps and --all-weights are of img2img. Leave --method {method} out.")
    else:
        _tell_unused(DEFAULT_METHOD, seed or None, device)
        report = extend_on_bids(scans, Path(model), output)
    _finish(report, as_json)


def _tell_unused(method: str, seed: int | None, device: str) -> None:
    """Say that a given seed or device changes nothing where a method is fitted on scans, by the CPU."""
    if seed is not None or device != "auto":
        typer.echo(f"{method}: --seed and --device change nothing; --method img2img uses them.", err=True)


def _finish(report: TrainingReport | AdaptationReport, as_json: bool) -> NoReturn:
    """Print what was done, and leave with the status that says whether scans were refused."""
    if as_json:
        echo_json(report.record())
    else:
        typer.echo(in_options(report.text()))
    leave(report.refused)

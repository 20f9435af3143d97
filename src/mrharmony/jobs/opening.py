"""Opening a model and a method once, for all the scans that follow."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast, get_args

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.version import __version__
from mrharmony.domains.contrast import CONTRAST_MODELS
from mrharmony.domains.statistics import load_statistics
from mrharmony.jobs.harmonizing import HarmonizeJob
from mrharmony.methods.cyclegan import CYCLEGAN, CycleGanHarmonizer
from mrharmony.methods.detail import detail_of
from mrharmony.methods.diffusion import DiffusionHarmonizer
from mrharmony.methods.image_to_image import ImageToImageHarmonizer
from mrharmony.methods.protocol import Harmonizer
from mrharmony.methods.registry import load_method
from mrharmony.methods.rendering import Extent, lock_of
from mrharmony.methods.synthesis import SYNTHESIS, SynthesisHarmonizer, load_synthesis
from mrharmony.methods.tone_curves import ClassicalHarmonizer, ClassicalMethod
from mrharmony.networks.devices import choose_device, move_model
from mrharmony.networks.diffusion.model import STATISTICS, load_model, model_hash, read_card
from mrharmony.networks.diffusion.sampling import SamplingSettings
from mrharmony.networks.diffusion.translation import TranslationSettings
from mrharmony.weights import shipped_model

DIFFUSION, IMAGE_TO_IMAGE = "diffusion", "img2img"
LIBRARIES = ("torch", "diffusers", "nibabel", "antspyx", "deepbet", "numpy", "scipy")


def open_job(  # noqa: PLR0913 - everything that the command line lets choose
    model: Path | None,
    method: str,
    source: str | None,
    target: str,
    *,
    seed: int = 0,
    extent: Extent = "brain",
    device: str = "auto",
    assume_ras: bool = False,
    translation: TranslationSettings | None = None,
    sampling: SamplingSettings | None = None,
    lock: bool | None = None,
    detail: bool = False,
) -> HarmonizeJob:
    """Return the job that harmonizes scans from `source` to `target` with a model's method.

    `sampling` belongs to `diffusion` and `translation` to `img2img`; where given, the seed is theirs. `lock`
    belongs to `img2img`, which has it unless it is False, and to `cyclegan`, which has it where it is True.
    `detail`, the transfer of sharpness and noise, belongs to `synthesis`.

    Raises
    ------
    MrharmonyError
        If the model, a domain or the device is not to be had.
    """
    directory = model or shipped_model()
    card = read_card(directory)
    domains = card.domain(source) if source else None, card.domain(target)
    if sampling and method != DIFFUSION:
        raise MrharmonyError(f"{method}: has no looks to sample. Say --method {DIFFUSION}.")
    if method == IMAGE_TO_IMAGE:
        from mrharmony.jobs.stable import open_image_to_image  # noqa: PLC0415 - takes seconds to import

        if extent != "brain":
            raise MrharmonyError(f"{method}: knows only the brain. Leave --extent {extent} out.")
        translating = translation or TranslationSettings(seed=seed)
        seed = translating.seed
        harmonizer: Harmonizer = open_image_to_image(directory, translating, lock is not False, device)
    elif translation or (lock is False and method != CYCLEGAN):
        raise MrharmonyError(f"{method}: has no pictures to set. Say --method {IMAGE_TO_IMAGE}.")
    else:
        harmonizer = open_method(directory, method, seed, extent, device)
        if lock and isinstance(harmonizer, CycleGanHarmonizer):
            harmonizer = replace(harmonizer, lock=lock_of(extent))
        if sampling and isinstance(harmonizer, DiffusionHarmonizer):
            harmonizer, seed = replace(harmonizer, sampling=sampling), sampling.seed
    if detail:
        harmonizer = _with_detail(harmonizer, domains[1])
    provenance = {
        "Model": directory.name,
        "ModelSHA256": model_hash(directory),
        "Seed": seed,
        "Sampling": _sampling_record(harmonizer),
        "DetailTransfer": detail,
        "GeneratedBy": [{"Name": "mrharmony", "Version": __version__}],
        "Versions": {library: version(library) for library in LIBRARIES},
    }
    return HarmonizeJob(harmonizer, *domains, provenance, assume_ras)


def _with_detail(harmonizer: Harmonizer, target: Domain) -> SynthesisHarmonizer:
    if not isinstance(harmonizer, SynthesisHarmonizer):
        raise MrharmonyError(
            f"{harmonizer.name}: cannot transfer detail. Leave --detail out, or say --method {SYNTHESIS}."
        )
    detail_of(harmonizer.details, target)
    return harmonizer.with_detail()


def _sampling_record(harmonizer: Harmonizer) -> dict[str, Any] | None:
    """Return how a diffusion model is sampled, apart from the seed; None for other methods."""
    if isinstance(harmonizer, DiffusionHarmonizer):
        return harmonizer.sampling.model_dump(exclude={"seed"})
    if isinstance(harmonizer, ImageToImageHarmonizer):
        return {"lock": harmonizer.lock is not None, **harmonizer.settings.model_dump(exclude={"seed"})}
    return None


def open_method(
    directory: Path, method: str, seed: int = 0, extent: Extent = "brain", device: str = "auto"
) -> Harmonizer:
    """Return a method, ready to use, with what it needs of a model directory."""
    if method == DIFFUSION:
        model = move_model(load_model(directory), choose_device(device))
        statistics = load_statistics(directory / STATISTICS)
        return DiffusionHarmonizer(model, statistics, SamplingSettings(seed=seed), lock_of(extent), extent)
    if method in get_args(ClassicalMethod):
        return ClassicalHarmonizer(
            cast(ClassicalMethod, method), load_statistics(directory / STATISTICS), extent
        )
    if method == SYNTHESIS and (directory / CONTRAST_MODELS).is_file():
        return load_synthesis(directory, load_statistics(directory / STATISTICS), extent)
    if extent != "brain" and method != SYNTHESIS:
        raise MrharmonyError(f"{method}: knows only the brain. Leave --extent {extent} out.")
    if not (directory / f"{method}.safetensors").is_file():
        pair = " --pair A B" if method == CYCLEGAN else ""
        raise MrharmonyError(
            f"{directory}: {method} is not fitted here. Fit it on your data: "
            f"mrharmony train BIDS_DIR --method {method}{pair} --output DIR, then --model DIR."
        )
    return load_method(method, directory)

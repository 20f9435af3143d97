"""Where a Stable Diffusion v1.x model comes from, and whether its files are all there; reads no weights."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from pydantic import BaseModel

from mrharmony.core.atomic import read_json
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.records import read_record
from mrharmony.networks.card import CARD
from mrharmony.networks.stable.configs import PIPELINE, require_configs, require_file

WEIGHTS = {"text_encoder": "model", "vae": "diffusion_pytorch_model", "unet": "diffusion_pytorch_model"}
PARTS = (*WEIGHTS, "tokenizer", "scheduler")
_FILES = [
    PIPELINE,
    *(f"{part}/*.{kind}" for part in PARTS for kind in ("json", "txt")),
    *(f"{part}/{name}.safetensors" for part, name in WEIGHTS.items()),
]
_KINDS = {f"StableDiffusion{kind}Pipeline" for kind in ("", "Img2Img", "InstructPix2Pix")}
_FAMILIES = {"StableDiffusionXL": "SDXL", "StableDiffusion3": "Stable Diffusion 3", "Flux": "FLUX"}
_CONVERT = 'StableDiffusionPipeline.from_single_file("{file}").save_pretrained("DIRECTORY")'


def resolve_source(source: str | Path, network: bool = False) -> Path:
    """Return the directory of a source, with all files that a Stable Diffusion v1.x model consists of.

    Parameters
    ----------
    source
        A directory in diffusers' layout, or the id of a Hub repository such as `owner/name`.
    network
        Whether a repository may be downloaded; without, only what an earlier download left is used.

    Raises
    ------
    MrharmonyError
        If there is no such directory or repository, it may not be downloaded, it is of another family, or a
        file is missing or not safe to open.
    """
    path = Path(source)
    if path.is_file():
        raise _single_file(path)
    directory = path if path.is_dir() else _from_hub(str(source), network)
    require_files(directory)
    return directory


def require_files(directory: Path) -> None:
    """Refuse a directory that is not a Stable Diffusion v1.x model, or that lacks a file of one, by name."""
    _require_pipeline(directory)
    for part in PARTS:
        if not (directory / part).is_dir():
            raise MrharmonyError(
                f"{directory}: the folder {part} is missing. Fetch the model again, with all its folders."
            )
    require_configs(directory)
    for part, name in WEIGHTS.items():
        _require_weights(directory / part, name)
    if not (directory / "tokenizer" / "tokenizer.json").is_file():
        for name in ("vocab.json", "merges.txt"):
            require_file(directory / "tokenizer" / name)


def _require_pipeline(directory: Path) -> None:
    index = directory / PIPELINE
    if not index.is_file():
        if (directory / CARD).is_file():
            raise MrharmonyError(
                f"{directory}: is a model of mrharmony, and no Stable Diffusion v1. Name the directory that "
                f"holds {PIPELINE}, such as that of v1.5."
            )
        for ending in (".safetensors", ".ckpt", ".bin"):
            if single := next(directory.glob(f"*{ending}"), None):
                raise _single_file(single)
        raise MrharmonyError(
            f"{directory}: no Stable Diffusion v1 model in diffusers' layout, {PIPELINE} is missing. "
            f"Name the directory that holds {PIPELINE}."
        )
    kind = (read_json(index) or {}).get("_class_name")
    if not isinstance(kind, str):
        raise MrharmonyError(
            f"{index}: is damaged, or does not say what model this is (_class_name). Fetch the file again."
        )
    if kind not in _KINDS:
        family = next((name for start, name in _FAMILIES.items() if kind.startswith(start)), kind)
        raise MrharmonyError(
            f"{directory}: is {family} ({kind}), which has other networks than Stable Diffusion v1.x. "
            "Name a text-to-image model of v1.x, such as v1.5."
        )


def _require_weights(folder: Path, name: str) -> None:
    whole = folder / f"{name}.safetensors"
    if (adapter := folder / "adapter_config.json").exists():
        raise MrharmonyError(
            f"{adapter}: an adapter would load weights from elsewhere. Merge it into the model."
        )
    _require_own_shards(whole.with_name(f"{whole.name}.index.json"))
    if whole.is_file() or whole.with_name(f"{whole.name}.index.json").is_file():
        return
    if variant := next(folder.glob(f"{name}.*.safetensors"), None):
        raise MrharmonyError(
            f"{variant}: is a variant of the weights, such as half precision, and training needs the full "
            f"ones. Fetch {whole.name} into the same folder."
        )
    if next(folder.glob("*.bin"), None):
        raise MrharmonyError(
            f"{folder}: holds pickled weights only, which can run code and are not loaded. "
            f"Fetch {whole.name} into the same folder."
        )
    raise MrharmonyError(f"{whole}: is missing. Fetch the model again, complete.")


def _require_own_shards(index: Path) -> None:
    """Refuse an index of weights that names anything but safetensors files beside it."""
    if not index.exists():
        return
    shards = read_record(index, _Shards, "an index of weights", "Fetch the model again, complete").weight_map
    for shard in set(shards.values()):
        if Path(shard).name != shard or Path(shard).suffix != ".safetensors":
            raise MrharmonyError(
                f"{index}: names {shard}, no safetensors file beside it. Fetch the model again."
            )


class _Shards(BaseModel):
    """What is read of an index of weights."""

    weight_map: dict[str, str]


def _single_file(file: Path) -> MrharmonyError:
    """Return the advice for a checkpoint in one file, as other programs keep it."""
    if file.suffix == ".safetensors":
        return MrharmonyError(
            f"{file}: is a single file, not a directory in diffusers' layout. Convert it once with "
            f"diffusers, {_CONVERT.format(file=file)}, and name that directory."
        )
    if file.suffix in (".ckpt", ".bin", ".pt", ".pth"):
        return MrharmonyError(
            f"{file}: is a pickled checkpoint, which can run code when it is opened. "
            "Fetch the model as safetensors, best in diffusers' layout, and name its directory."
        )
    return MrharmonyError(f"{file}: is a file, not a model. Name a model directory.")


def _from_hub(source: str, network: bool) -> Path:
    """Return where the Hub's cache holds a repository; its index is looked at before the rest is fetched."""
    try:
        for files in ([PIPELINE], _FILES):
            found = Path(snapshot_download(source, allow_patterns=files, local_files_only=not network))
            _require_pipeline(found)
    except HFValidationError as error:
        raise MrharmonyError(f"{source}: no such directory. Name a Stable Diffusion directory.") from error
    except LocalEntryNotFoundError as error:
        remedy = "Name a directory in diffusers' layout, or allow the download where there is a network."
        reason = "and nothing is downloaded here"
        if network:
            remedy = f"Fetch it where there is one (hf download {source}), copy it, and name its directory."
            reason = "and the Hub cannot be reached: there is no network here"
        raise MrharmonyError(
            f"{source}: neither a directory nor in the local Hub cache, {reason}. {remedy}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise MrharmonyError(
            f"{source}: cannot be downloaded ({type(error).__name__}). "
            "Check its name, whether you accepted its licence, and the network."
        ) from error
    return found

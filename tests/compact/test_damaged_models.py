"""Model directories that are damaged in one way or another, each with its own sentence."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from benchmarks.robustness._mutations.files import replace
from benchmarks.robustness._mutations.models import copied, open_whole
from safetensors.numpy import load_file, save_file

from mrharmony.core.findings import MrharmonyError
from mrharmony.domains.contrast import load_contrast_models, save_contrast_models
from mrharmony.domains.statistics import load_statistics, save_statistics
from mrharmony.networks.card import model_hash
from mrharmony.networks.compact.model import load_model
from mrharmony.preparation import brain_mask


def test_the_model_that_is_damaged_is_sound(tmp_path: Path):
    open_whole(copied(tmp_path))


@pytest.mark.parametrize("part", ["unet", "vae", "prompts"])
def test_a_pickle_is_no_substitute_for_missing_weights(part: str, tmp_path: Path):
    directory = copied(tmp_path)
    weights = directory / part / "diffusion_pytorch_model.safetensors"
    weights.with_suffix(".bin").write_bytes(pickle.dumps({}))
    weights.unlink()
    with pytest.raises(MrharmonyError, match=rf"{part}/diffusion_pytorch_model\.safetensors: .*no such file"):
        load_model(directory)


@pytest.mark.parametrize("scale", [-100.0, 0.0, 1e30, float("nan")])
def test_a_scale_that_no_scanner_has_is_refused(scale: float, tmp_path: Path):
    file = copied(tmp_path) / "statistics.safetensors"
    known = load_statistics(file)
    vars(known["LA"])["scale"] = scale
    save_statistics(file, known)
    with pytest.raises(MrharmonyError, match=r"statistics\.safetensors: .*scale"):
        load_statistics(file)


def test_a_weight_that_is_not_finite_is_refused_by_name(tmp_path: Path):
    directory = copied(tmp_path)
    file = directory / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["encoder.conv_in.bias"] = np.full_like(tensors["encoder.conv_in.bias"], np.nan)
    file.unlink()
    save_file(tensors, file)
    with pytest.raises(MrharmonyError, match=r"encoder\.conv_in\.bias holds numbers"):
        load_model(directory)


def test_the_hash_covers_folders_that_are_links(tmp_path: Path):
    directory = copied(tmp_path)
    before, elsewhere = model_hash(directory), tmp_path / "elsewhere"
    (directory / "unet").rename(elsewhere)
    (directory / "unet").symlink_to(elsewhere)
    (directory / "round").symlink_to(directory)
    assert model_hash(directory) == before
    replace(elsewhere / "diffusion_pytorch_model.safetensors", b"other")
    assert model_hash(directory) != before


def test_only_the_known_networks_of_deepbet_are_opened(tmp_path: Path):
    (tmp_path / "model.pt").write_bytes(b"other")
    for name in ("model.pt", "bbox_model.pt"):
        with pytest.raises(MrharmonyError, match=r"--force-reinstall --no-deps deepbet==1\.0\.2"):
            brain_mask._pinned(tmp_path / name)


@pytest.mark.parametrize(
    ("file", "load", "save"),
    [
        ("statistics.safetensors", load_statistics, save_statistics),
        ("diffusion.safetensors", load_contrast_models, save_contrast_models),
    ],
)
def test_a_file_of_another_model_is_told_before_any_scan(run, file: str, load, save, tmp_path: Path):
    directory = copied(tmp_path)
    others = load(directory / file)
    del others["LA"]
    save(directory / file, others)
    words = ("--to", "LA", "--model", directory, "--output", tmp_path / "out")
    status, _, errors = run("harmonize", "scan.nii.gz", *words)
    assert (status, f"{directory / file}: does not know LA" in errors) == (2, True), errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("part", "method"),
    [
        *((part, "img2img") for part in ("unet", "vae", "prompts", "scheduler")),
        *((f"{part}.safetensors", "diffusion") for part in ("statistics", "diffusion")),
    ],
)
def test_a_part_that_is_gone_is_named(run, part: str, method: str, tmp_path: Path):
    directory = copied(tmp_path)
    (directory / part).rename(tmp_path / "gone")
    words = ("--to", "LA", "--method", method, "--model", directory, "--output", tmp_path / "out")
    status, _, errors = run("harmonize", "scan.nii.gz", *words)
    assert status == 2
    assert re.search(rf"{re.escape(str(directory / part))}.*(is missing|no such file)", errors)

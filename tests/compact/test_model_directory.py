from pathlib import Path

import numpy as np
import pytest
import torch

from mrharmony.core.domain import require_distinct
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.networks.compact.model import DomainCard, LatentModel, load_model, model_hash, save_model
from mrharmony.networks.compact.sampling import encode_brain, sample_contrast


def _nothing_more(_: Path) -> None:
    """A model without statistics."""


@pytest.fixture
def directory(model: LatentModel, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "model", _nothing_more)
    return tmp_path / "model"


def test_a_saved_model_samples_the_same_looks_but_for_half_precision(
    model: LatentModel, brains: np.ndarray, directory: Path
):
    brain = Volume(brains[2].astype(np.float32), model.grid.affine)
    loaded = load_model(directory)
    one, other = (sample_contrast(m, encode_brain(m, brain), m.card.domain("dark")) for m in (model, loaded))
    assert np.abs(one.voxels - other.voxels).max() < 0.01
    assert loaded.denoiser.dtype == torch.float32


def test_the_directory_holds_safetensors_json_and_a_card_only(directory: Path):
    files = {path.name for path in directory.rglob("*") if path.is_file()}
    assert {Path(name).suffix for name in files} == {".json", ".safetensors", ".md"}
    assert {"mrharmony.json", "README.md", "diffusion_pytorch_model.safetensors"} <= files


def test_the_hash_follows_the_weights(directory: Path):
    before = model_hash(directory)
    weights = directory / "prompts" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert model_hash(directory) != before


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: (d / "mrharmony.json").unlink(),
        lambda d: (d / "mrharmony.json").write_text("{"),
        lambda d: (d / "mrharmony.json").write_bytes(b"\xff\xfe"),
        lambda d: (d / "mrharmony.json").write_text("{}"),
        lambda d: (d / "unet" / "config.json").unlink(),
        lambda d: (d / "vae" / "diffusion_pytorch_model.safetensors").unlink(),
        lambda d: (d / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"nonsense"),
    ],
)
def test_a_damaged_model_is_refused_in_one_sentence(directory: Path, damage):
    damage(directory)
    with pytest.raises(MrharmonyError, match=str(directory)):
        load_model(directory)


def test_saving_never_replaces_something_that_is_not_a_model(model: LatentModel, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(MrharmonyError, match="something else"):
        save_model(model, tmp_path, _nothing_more)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_failed_save_leaves_the_older_model_as_it_was(model: LatentModel, directory: Path):
    def fail(_: Path) -> None:
        raise RuntimeError("disk full")

    before = model_hash(directory)
    with pytest.raises(RuntimeError):
        save_model(model, directory, fail)
    assert model_hash(directory) == before
    assert [path.name for path in directory.parent.iterdir()] == ["model"]


def test_a_name_means_its_own_domain_before_one_that_is_like_it(model: LatentModel):
    names = ("S1-2", "S12")
    domains = tuple(DomainCard(name=name, prompt=name, scans=1) for name in names)
    card = model.card.model_copy(update={"domains": domains})
    assert [card.domain(name).name for name in (*names, "s1.2")] == ["S1-2", "S12", "S1-2"]
    with pytest.raises(MrharmonyError, match="S12: cannot be told from S1-2"):
        require_distinct(names)
    require_distinct(("NSK", "LA"))

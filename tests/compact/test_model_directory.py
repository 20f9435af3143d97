from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from mrharmony.core.domain import require_distinct
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.networks.card import DomainCard, model_hash, save_card
from mrharmony.networks.compact.model import LatentModel, load_model, save_model
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


@pytest.mark.parametrize("name", ["thesis.txt", "mrharmony.json"])
def test_saving_never_replaces_what_stands_there(model: LatentModel, tmp_path: Path, name: str):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / name).write_text("precious")
    for output in (taken, taken / name):
        with pytest.raises(MrharmonyError, match="exists already"):
            save_model(model, output, _nothing_more)
    assert [path.read_text() for path in taken.iterdir()] == ["precious"]


def test_methods_are_added_to_methods_alone(model: LatentModel, directory: Path, tmp_path: Path):
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("precious")
    for output, reason in ((tmp_path, "exists already"), (thesis, "exists"), (directory, "a trained model")):
        with pytest.raises(MrharmonyError, match=reason):
            save_card(model.card, output)
    save_card(model.card, tmp_path / "new" / "methods")
    save_card(model.card, tmp_path / "new" / "methods")
    assert thesis.read_text() == "precious"


@pytest.mark.parametrize("failure", [OSError(28, "disk full"), SafetensorError("disk full")])
def test_a_failed_save_leaves_nothing_and_says_why(model: LatentModel, tmp_path: Path, failure: Exception):
    def fail(_: Path) -> None:
        raise failure

    with pytest.raises(MrharmonyError, match="model: cannot be written"):
        save_model(model, tmp_path / "model", fail)
    assert not list(tmp_path.iterdir())


def test_a_name_means_its_own_domain_before_one_that_is_like_it(model: LatentModel):
    names = ("S1-2", "S12")
    domains = tuple(DomainCard(name=name, prompt=name, scans=1) for name in names)
    card = model.card.model_copy(update={"domains": domains})
    assert [card.domain(name).name for name in names] == ["S1-2", "S12"]
    with pytest.raises(MrharmonyError, match=r"s1.2: may mean S1-2 or S12. Write one of these."):
        card.domain("s1.2")
    with pytest.raises(MrharmonyError, match="S12: cannot be told from S1-2"):
        require_distinct(names)
    require_distinct(("NSK", "LA"))

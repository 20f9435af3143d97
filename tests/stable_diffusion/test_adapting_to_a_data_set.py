"""From a BIDS folder to an adapted Stable Diffusion that harmonizes, and on to a second adaptation."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from helpers.claims import held_by_another
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.hashing import file_sha256
from mrharmony.domains.statistics import load_statistics, save_statistics
from mrharmony.jobs.adapting import adapt_on_bids
from mrharmony.jobs.brains import ScanFile, load_brain, prepare_positions
from mrharmony.jobs.data_sets import DataSet
from mrharmony.jobs.training import CLAIMS, TrainingReport, work_folder
from mrharmony.methods.image_to_image import load_image_to_image
from mrharmony.methods.protocol import MethodSettings
from mrharmony.networks.card import CARD, STATISTICS, model_hash, read_card
from mrharmony.networks.compact.model import load_model
from mrharmony.networks.settings import DreamBoothSettings
from mrharmony.networks.translation import TranslationSettings
from mrharmony.preparation.pipeline import prepare_scan
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.scans.reading import read_scan
from mrharmony.space.grid import Grid

GRID = Grid.working(4.0)
TINY = DreamBoothSettings(
    working_zoom=4, steps=1, class_images=1, class_steps=1, prompt="token", slices_per_scan=3
)
QUICK = TranslationSettings(num_inference_steps=1, guidance_scale=1.0)


@pytest.fixture(scope="module")
def adapted(cohort: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, adapted to one of the two scanners of the virtual cohort."""
    output = tmp_path_factory.mktemp("adapted") / "model"
    report = adapt(cohort, output, base)
    assert report.domains == {"spgr15t": 1}
    assert not report.refused
    return output


def adapt(
    cohort: Path,
    output: Path,
    base: Path,
    settings: DreamBoothSettings = TINY,
    prepared: Path | None = None,
) -> TrainingReport:
    data = DataSet(cohort, "session", ["spgr15t"], prepared)
    return adapt_on_bids(data, base, output, settings, "cpu")


def brains(model: Path) -> Path:
    return model.with_name(f"{model.name}.training") / "brains"


def test_each_domain_gets_the_statistics_of_its_own_scans(cohort: Path, base: Path, tmp_path: Path):
    adapt_on_bids(DataSet(cohort, "session"), base, tmp_path / "model", TINY, "cpu")
    one, other = load_statistics(tmp_path / "model" / STATISTICS).values()
    assert one.scale != other.scale


@pytest.mark.parametrize("lock", [True, False])
def test_a_data_set_becomes_a_model_that_harmonizes(adapted: Path, lock: bool):
    card = read_card(adapted)
    assert card.domain("spgr15t").prompt == "<spgr15t>"
    assert card.pipeline == "base"
    method = load_image_to_image(adapted, MethodSettings(device="cpu", lock=lock, translation=QUICK))
    brain = load_brain(next(brains(adapted).iterdir()), GRID)
    native = brain.volume.with_voxels(brain.volume.voxels * np.float32(brain.scale))
    bias = np.ones(native.shape, np.float32)
    scan = PreparedScan(native, brain.mask, bias, np.eye(4), brain.scale, True, ())
    done = method.harmonize(scan, None, card.domain("spgr15t"))
    assert np.isfinite(done.volume.voxels).all()
    assert done.scale == method.statistics["spgr15t"].scale
    assert not np.array_equal(done.volume.voxels, native.voxels)


def test_an_adapted_model_is_the_base_of_the_next_and_keeps_its_domains(
    adapted: Path, cohort: Path, tmp_path: Path
):
    first = Path(shutil.copytree(adapted, tmp_path / "first"))
    card = read_card(first)
    elsewhere = card.domains[0].model_copy(update={"name": "elsewhere", "prompt": "<elsewhere>"})
    (first / CARD).write_text(card.model_copy(update={"domains": (elsewhere,)}).model_dump_json())
    save_statistics(first / STATISTICS, {"elsewhere": load_statistics(first / STATISTICS)["spgr15t"]})
    shutil.copytree(brains(adapted), brains(tmp_path / "second"))

    adapt(cohort, tmp_path / "second", first)
    prompts = {domain.name: domain.prompt for domain in read_card(tmp_path / "second").domains}
    assert prompts == {"elsewhere": "<elsewhere>", "spgr15t": "<spgr15t>"}
    settings = MethodSettings(device="cpu", lock=False, translation=QUICK)
    method = load_image_to_image(tmp_path / "second", settings)
    assert set(method.statistics) == {"elsewhere", "spgr15t"}
    with pytest.raises(MrharmonyError, match="axis coronal"):
        adapt(cohort, tmp_path / "third", first, TINY.model_copy(update={"axis": "axial"}))


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"name": "spgr-15T", "prompt": "<spgr-15t>"}, "spgr15t: cannot be told from spgr-15T"),
        (
            {"name": "東京", "prompt": "<spgr15t>"},
            "spgr15t: makes the same token as 東京, which the base",
        ),
    ],
)
def test_a_domain_that_is_not_told_from_one_of_the_base_is_refused_before_any_work(
    adapted: Path, cohort: Path, tmp_path: Path, known: dict[str, str], said: str
):
    first = Path(shutil.copytree(adapted, tmp_path / "first"))
    card = read_card(first)
    other = card.domains[0].model_copy(update=known)
    (first / CARD).write_text(card.model_copy(update={"domains": (other,)}).model_dump_json(), "utf-8")
    with pytest.raises(MrharmonyError, match=said):
        adapt(cohort, tmp_path / "second", first)
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_the_compact_loader_says_what_the_model_is(adapted: Path):
    with pytest.raises(MrharmonyError, match="img2img"):
        load_model(adapted)


def test_brains_are_taken_from_the_folder_of_preparations_alone(cohort: Path, base: Path, tmp_path: Path):
    with pytest.raises(MrharmonyError, match=f"is not prepared in {tmp_path}"):
        adapt(cohort, tmp_path / "model", base, prepared=tmp_path)


def test_only_the_training_half_is_learned_from_and_the_card_names_it(
    cohort: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = tmp_path / "split"
    rows = ["participant_id\tsite\tsplit"]
    scan = next(cohort.rglob("ses-spgr15t/anat/*_T1w.nii.gz"))
    for name, half in (("one", "train"), ("two", "test"), ("three", "n/a")):
        rows.append(f"sub-{name}\tsomewhere\t{half}")
        path = data / f"sub-{name}" / "anat" / f"sub-{name}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        shutil.copy(scan, path)
    (data / "participants.tsv").write_text("\n".join(rows) + "\n")
    report = adapt_on_bids(DataSet(data), base, tmp_path / "model", TINY, "cpu")
    assert report.domains == {"somewhere": 1}
    assert "left out 2 of 3 scans, not in the split `train`" in capsys.readouterr().err
    (seen,) = read_card(tmp_path / "model").training_scans
    assert (seen.data_set, seen.subject, seen.sha256) == ("split", "one", file_sha256(scan))
    adapt_on_bids(DataSet(data), tmp_path / "model", tmp_path / "again", TINY, "cpu")
    assert read_card(tmp_path / "again").training_scans == (seen,)
    (data / "participants.tsv").write_text("\n".join(rows).replace("train", "test") + "\n")
    with pytest.raises(MrharmonyError, match="nobody of somewhere is in the split `train`"):
        adapt_on_bids(DataSet(data), base, tmp_path / "none", TINY, "cpu")


def test_an_incomplete_base_is_refused_before_any_work(cohort: Path, base: Path, tmp_path: Path):
    cut = Path(shutil.copytree(base, tmp_path / "cut"))
    file = cut / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    lost, _ = tensors.popitem()
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(MrharmonyError, match=lost):
        adapt(cohort, tmp_path / "out", cut)
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


@pytest.mark.parametrize(
    ("layout", "advice"),
    [
        (("v1-5.safetensors",), "Convert it once"),
        (("v1-5.ckpt",), "pickled checkpoint"),
        (("unet/diffusion_pytorch_model.safetensors",), "model_index.json is missing"),
        (("unet/diffusion_pytorch_model.bin",), "model_index.json is missing"),
        ((), "not a model, there is no mrharmony.json"),
    ],
)
@pytest.mark.parametrize("itself", [True, False])
def test_whatever_is_named_as_the_base_gets_its_own_advice(
    run, cohort: Path, tmp_path: Path, layout, advice: str, itself: bool
):
    folder = tmp_path / "base"
    folder.mkdir()
    named = folder
    for name in layout:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
        named = folder / name if itself and "/" not in name else folder
    arguments = ("adapt", cohort, "--output", tmp_path / "out", "--domain-column", "session")
    status, _, errors = run(*arguments, "--base", named)
    assert status == 2
    assert advice in errors
    assert not (tmp_path / "out").exists()


def test_brains_grown_to_the_templates_size_are_kept_apart_from_the_others(cohort: Path, tmp_path: Path):
    scan = next(cohort.rglob("ses-spgr15t/anat/*_T1w.nii.gz"))
    brains = []
    for grown in (False, True):
        files, _ = prepare_positions([[ScanFile(scan, volume_corrected=grown)]], GRID, tmp_path, 1)
        brains.append(load_brain(files[scan], GRID))
    prepared = prepare_scan(read_scan(scan).volume)
    for brain, expected in zip(brains, (False, True), strict=True):
        _, mask = prepared.canonical(GRID, corrected_volume=expected)
        assert np.array_equal(brain.mask, mask)
    ratio = brains[1].mask.sum() / brains[0].mask.sum()
    assert ratio == pytest.approx(prepared.size**-3, rel=0.03)


def test_a_second_run_hears_at_once_that_another_is_at_it(cohort: Path, base: Path, tmp_path: Path):
    output = tmp_path / "model"
    work = work_folder(output)
    work.mkdir()
    told = r"model: another run is making this model\. Let it end"
    with held_by_another(work / CLAIMS, output.name), pytest.raises(MrharmonyError, match=told):
        adapt(cohort, output, base)
    assert [path.name for path in work.iterdir()] == [CLAIMS]


def test_a_model_is_not_made_in_its_base_or_in_a_subjects_folder(cohort: Path, base: Path, tmp_path: Path):
    own = Path(shutil.copytree(base, tmp_path / "own.training"))
    before = model_hash(own)
    (tmp_path / "link").symlink_to(own)
    for output in (own / "new", tmp_path / "link" / "a" / "new", tmp_path / "own"):
        with pytest.raises(MrharmonyError, match=r"lies in .*own.training, which it would change\. Name a"):
            adapt(cohort, output, own)
    (subject, *_) = cohort.glob("sub-*")
    with pytest.raises(MrharmonyError, match=rf"new: lies in the folder of {subject.name}\. Name another"):
        adapt(cohort, subject / "new", own)
    assert model_hash(own) == before


def test_a_missing_base_is_told_before_any_work(cohort: Path, tmp_path: Path):
    data = DataSet(cohort, "session")
    with pytest.raises(MrharmonyError, match="stable-diffusion-v1-5"):
        adapt_on_bids(data, "nowhere/stable-diffusion-v1-5", tmp_path / "out", TINY, "auto")
    assert not list(tmp_path.iterdir())

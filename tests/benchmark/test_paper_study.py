"""The paper's evaluation end to end: files in, table, figures and JSON out; settings from training scans."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from helpers.commands import sentences
from helpers.tiny_latent import ZOOM, axes_of, ball_on, tiny_settings, trained_model
from helpers.virtual_study import travelling
from mrharmony.benchmark.paper.grid import (
    GUIDANCES,
    STRENGTHS,
    Cell,
    DirectionScores,
    best_cell,
)
from mrharmony.benchmark.paper.methods import PictureFolder
from mrharmony.benchmark.paper.slices import Direction, PaperScan, PaperSlices
from mrharmony.benchmark.paper.study import way_back
from mrharmony.core.volume import Volume
from mrharmony.domains.statistics import fit_statistics, save_statistics
from mrharmony.evaluate.paper import SliceScores
from mrharmony.methods.registry import fit_method
from mrharmony.networks.card import STATISTICS
from mrharmony.networks.compact.data import RealSlices
from mrharmony.networks.compact.model import LatentModel, save_model
from mrharmony.networks.translation import TranslationSettings, translate_slices
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.space.grid import Grid

DOMAINS = ("mprage-3t", "spgr-1.5t")
ARGUMENTS = ("--to", "mprage-3t", "--domain-column", "session", "--json", "--workers", "1")
FEW = ("--from", "spgr-1.5t", "--slices", "1", "--images", "2", "--steps", "2")


@pytest.fixture(scope="module")
def brains() -> list[CanonicalBrain]:
    """A brighter and a darker ball."""
    grid = Grid.working(ZOOM)
    axes, ball = axes_of(grid), ball_on(grid)
    tones = (0.5 + 0.5 * (np.sin(5 * axes[0]) * np.cos(6 * axes[2]) + 1) / 2) * ball
    return [
        CanonicalBrain(Volume((level * tones).astype(np.float32), grid.affine), ball, 1.0)
        for level in (1.0, 0.6)
    ]


@pytest.fixture(scope="module")
def model(brains: list[CanonicalBrain], tmp_path_factory: pytest.TempPathFactory) -> LatentModel:
    voxels = np.stack([brain.volume.voxels for brain in brains]).astype(np.float16)
    folder = tmp_path_factory.mktemp("training")
    return trained_model(RealSlices(voxels, [*DOMAINS]), tiny_settings(steps=4), folder)


@pytest.fixture(scope="module")
def directory(
    model: LatentModel, brains: list[CanonicalBrain], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The model on disk, with statistics: it knows `none` and `histogram`, not `diffusion`."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    statistics = fit_statistics({name: [brain] for name, brain in zip(DOMAINS, brains, strict=True)})
    save_model(model, folder, lambda staging: save_statistics(staging / STATISTICS, statistics))
    return folder


@pytest.fixture(scope="module")
def nyul(brains: list[CanonicalBrain], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted method's directory."""
    folder = tmp_path_factory.mktemp("nyul")
    fit_method("nyul", {name: [brain] for name, brain in zip(DOMAINS, brains, strict=True)}).save(folder)
    return folder


@pytest.fixture(scope="module")
def blind(brains: list[CanonicalBrain], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted method that does not know the target."""
    folder = tmp_path_factory.mktemp("blind")
    fit_method("zscore", {DOMAINS[1]: [brains[1]]}).save(folder)
    return folder


@pytest.fixture(scope="module")
def study(two_sites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual head to train on and one to judge, each through the same two scanners, 4 mm."""
    folder = travelling(two_sites, tmp_path_factory.mktemp("study") / "BIDS", 2)
    head, *rows = (folder / "participants.tsv").read_text().splitlines()
    lines = [f"{line}\t{word}" for line, word in zip([head, *rows], ("split", "train", "test"), strict=True)]
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    return folder


def strict(output: str) -> dict:
    """Read JSON that may hold no NaN and no infinity."""

    def never(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(output, parse_constant=never)


@pytest.fixture
def evaluate(run, study: Path, directory: Path, nyul: Path, blind: Path):
    """Run the command on the study, with two more methods, of which one cannot do it."""

    def evaluate(output: Path) -> dict:
        fitted = ("--fitted", f"nyul={nyul}", "--fitted", f"zscore={blind}")
        places = ("--model", directory, "--output", output)
        status, text, errors = run("evaluate", "paper", study, *ARGUMENTS, *FEW, *fitted, *places)
        assert status == 0, errors
        assert f"diffusion: left out. {directory}: has no diffusion of its own. Fit one" in errors
        assert "name it: --fitted diffusion=DIR." in errors
        assert "zscore, spgr15t to mprage3t: left out. mprage3t: zscore does not know this domain." in errors
        return strict(text)

    return evaluate


def test_the_whole_evaluation_and_a_second_one_with_other_judged_scans(evaluate, study: Path, tmp_path: Path):
    output = tmp_path / "out"
    record = evaluate(output)
    expected = ["none", "histogram", "nyul", "autoencoder round trip"]
    expected += ["image-to-image, the paper's settings", "image-to-image, best settings"]
    rows = {(row["direction"], row["method"]): row for row in record["rows"]}
    between, within = "spgr15t to mprage3t", "mprage3t to mprage3t"
    assert list(rows) == [(way, method) for way in (between, within) for method in expected]
    nothing = rows[between, "none"]["scores"]
    assert (nothing["to_input"]["ssim"], nothing["to_input"]["mse"]) == pytest.approx((1, 0), abs=1e-6)
    assert 0 < nothing["to_truth"]["ssim"] < 1
    assert rows[within, "none"]["scores"]["to_truth"]["mse"] == pytest.approx(0, abs=1e-9)
    for method in expected[-2:]:
        scores = rows[between, method]["scores"]["to_input"]
        (own,) = rows[between, method]["slices"].values()
        assert scores["images"] == own["images"] == 2
        assert scores == own
    assert rows[between, "autoencoder round trip"]["scores"]["to_input"]["images"] == 1
    _the_best_is_the_least_estimate_on_other_subjects(record)
    assert "0.581 (± 0.046) | 0.652" in record["table"]
    assert (
        "2 steps and 2 images a slice; the paper has 1000 and 100. Best settings: strength" in record["table"]
    )
    assert "does not say whom it was trained on" in record["table"]
    assert strict((output / "paper.json").read_text()) == record
    assert (output / "paper.md").read_text() == record["table"]
    for figure in ("figure-1.png", "figure-2.png", "search.png"):
        assert 5_000 < (output / figure).stat().st_size < 300_000
    _judged_scans_have_no_say_and_nothing_is_made_twice(evaluate, study, output, record)


def _the_best_is_the_least_estimate_on_other_subjects(record: dict) -> None:
    cells = record["search"]
    settings = {(cell["strength"], cell["guidance"]) for cell in cells}
    assert settings == {(strength, guidance) for strength in STRENGTHS for guidance in GUIDANCES}
    least = min(cells, key=lambda cell: cell["within"]["to_input"]["mse"] + cell["between"]["tone"] ** 2)
    assert (record["best"]["strength"], record["best"]["guidance"]) == (least["strength"], least["guidance"])
    judged, searched = (
        {name.split("_")[0] for names in record["about"][key].values() for name in names}
        for key in ("slices", "searched_on")
    )
    assert judged
    assert searched
    assert not judged & searched


def _judged_scans_have_no_say_and_nothing_is_made_twice(
    evaluate, study: Path, output: Path, before: dict
) -> None:
    """Give the judged subject another tone: the search is the same, the scores are not."""
    times = {file: file.stat().st_mtime_ns for file in (output / "work").rglob("*.npz")}
    images = list((output / "work" / "images").iterdir())
    name = before["about"]["slices"]["spgr15t to mprage3t"][0].split("_")[0]
    for file in (study / name).rglob("*_T1w.nii.gz"):
        image = nib.load(file)
        voxels = image.get_fdata(dtype=np.float32)
        nib.save(nib.Nifti1Image(voxels * voxels, image.affine), file)
    after = evaluate(output)
    assert after["search"] == before["search"]
    assert after["best"] == before["best"]
    assert after["rows"] != before["rows"]
    assert {file: file.stat().st_mtime_ns for file in times} == times
    assert len(list((output / "work" / "images").iterdir())) < len(images) + 2 * 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", "elsewhere"), "elsewhere: no such domain here. Choose from: "),
        (("--from", "mprage3t"), "needs two domains"),
        (("--from", "spgr-1.5t", "--fitted", "nyul"), "say METHOD=DIR"),
        (("--from", "spgr-1.5t", "--model", "{folder}"), "model"),
        (("--from", "spgr-1.5t", "--fitted", "soup={folder}"), "Unknown method soup"),
        (("--from", "spgr-1.5t", "--fitted", "nyul={folder}"), "name it: --fitted nyul=DIR."),
    ],
)
def test_mistakes_end_in_one_sentence(run, study: Path, tmp_path: Path, arguments, message: str):
    given = [argument.format(folder=tmp_path) for argument in arguments]
    status, _, errors = run("evaluate", "paper", study, *ARGUMENTS, *given, "--output", tmp_path / "out")
    assert status == 2
    assert message in errors
    assert len(sentences(errors)) == 1


def test_a_file_of_somebody_else_is_not_replaced(run, study: Path, tmp_path: Path):
    mine = tmp_path / "out" / "paper.md"
    mine.parent.mkdir()
    mine.write_text("mine")
    (mine.parent / "work").mkdir()  # a usual name: no proof that the folder is ours
    to = ("--from", "spgr-1.5t", "--output", mine.parent)
    status, _, errors = run("evaluate", "paper", study, *ARGUMENTS, *to)
    assert (status, f"{mine}: mrharmony did not write it, and would replace it" in errors) == (2, True)
    assert mine.read_text() == "mine"
    assert sorted(file.name for file in mine.parent.rglob("*")) == ["paper.md", "work"]


def test_parts_made_apart_are_the_images_made_together(
    model: LatentModel, brains: list[CanonicalBrain], tmp_path: Path
):
    slices = PaperSlices.draw([PaperScan("ball", brain) for brain in brains], 1, 3, seed=0)
    settings = TranslationSettings(num_inference_steps=3, num_images_per_prompt=6, seed=5, select="all")
    made = PictureFolder(tmp_path, model, model.card, "sha").translate(slices, "mprage3t", settings)
    given = torch.from_numpy(slices.inputs)[:, None]
    together = translate_slices(model, given, slices.positions(), "mprage-3t", settings)
    assert made.images.shape == (6, 3, *together.shape[-2:])
    assert np.allclose(made.images, together[:, :, 0].numpy(), atol=2e-3)
    assert len(list(tmp_path.glob("*.npz"))) == 2
    assert made.seconds > 0


def test_slices_are_spread_over_scans_and_cut_where_they_lie(brains: list[CanonicalBrain]):
    scans = [PaperScan(name, brain, brain) for name, brain in zip("ab", brains, strict=True)]
    slices = PaperSlices.draw(scans, 1, 3, seed=0)
    assert slices.owners.tolist() == [0, 0, 1]
    for number, (owner, place) in enumerate(zip(slices.owners, slices.places, strict=True)):
        assert np.array_equal(slices.inputs[number], brains[owner].volume.voxels[:, place])
    assert np.array_equal(slices.truths, slices.inputs)
    assert PaperSlices.draw([*scans, PaperScan("c", brains[0])], 1, 3, seed=0).truths is None
    assert len(PaperSlices.draw(scans, 1, 1, seed=0).scans) == 1


def test_the_way_back_ends_at_the_sources_own_scan(brains: list[CanonicalBrain]):
    source, target = brains
    tones = np.zeros((2, 33))
    there = PaperSlices.draw([PaperScan("head_a", source, target)], 1, 2, seed=0)
    within = PaperSlices.draw([PaperScan("head_b", target, target)], 1, 2, seed=0)
    back = way_back(Direction("a", "b", there, tones), Direction("b", "b", within, tones))
    assert back.name == "b to a"
    assert np.array_equal(back.slices.inputs[0], target.volume.voxels[:, back.slices.places[0]])
    assert np.array_equal(back.slices.truths[0], source.volume.voxels[:, back.slices.places[0]])
    alone = PaperSlices.draw([PaperScan("else_a", source)], 1, 2, seed=0)
    assert (
        way_back(Direction("a", "b", alone, tones), Direction("b", "b", within, tones)).slices.truths is None
    )


def test_the_estimate_weighs_anatomy_within_and_tone_between():
    def cell(strength: float, mse_within: float, tone: float) -> Cell:
        within, any_ = (SliceScores(0.5, 0, 0.5, mse, 0, mse, 1) for mse in (mse_within, 9.0))
        return Cell(
            strength, 1.0, DirectionScores(any_, None, tone), DirectionScores(within, within, 9.0), 0.1
        )

    weak, middle, strong = cell(0.1, 0.001, 0.2), cell(0.4, 0.01, 0.1), cell(0.8, 0.05, 0.01)
    assert [one.error for one in (weak, middle, strong)] == pytest.approx([0.041, 0.02, 0.0501])
    assert best_cell([strong, weak, middle]) is middle
    assert best_cell([cell(0.8, 0.01, 0.1), middle]) is middle

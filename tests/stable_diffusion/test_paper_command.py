"""`mrharmony paper` end to end on a tiny Stable Diffusion: cost, table, figures; killed and resumed."""

import json
import multiprocessing
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from helpers.site_people import person
from mrharmony.benchmark.paper import recipe as experiment
from mrharmony.benchmark.paper.recipe import PaperRecipe, plan_recipe, run_recipe
from mrharmony.benchmark.paper.slices import PaperRequest, StudyPlan
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.networks.card import CARD, read_card
from mrharmony.networks.settings import DreamBoothSettings
from mrharmony.preparation import pipeline
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.quality import MaskQuality
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import scan_head
from mrharmony.space.intensity import intensity_scale

DOMAINS = ("mprage-3t", "spgr-1.5t")
SIZE = 0.95  # of each head
SOUND = MaskQuality(1.0, 0.95, 1.0, 1.0, 1.0, 0.95, 0.95, 1.4, 0.8, None, 5.0)
WAYS = ("--from", "spgr-1.5t", "--to", "mprage-3t", "--domain-column", "session", "--workers", 1)
FEW = ("--slices", 1, "--images", 2, "--steps", 2, "--device", "cpu", "--json")
RIVALS = ("--method", "none", "--method", "population")
PRESET = """
{working_zoom: 4, volume_corrected: true, slices_per_scan: 2, epochs: 2, batch: 2,
precision: auto, class_images: 1, class_steps: 1, checkpoint_every: 1, validate_every: null}
"""


@pytest.fixture(scope="module", autouse=True)
def _already_prepared() -> Iterator[None]:
    """Every scan lies on the template's grid, skull-stripped: preparing it takes no ten seconds here."""

    def at_rest(volume: Volume, **_: object) -> tuple[PreparedScan, MaskQuality]:
        mask = volume.voxels > 0
        scale, bias = intensity_scale(volume.voxels[mask]), np.ones(mask.shape, np.float32)
        return PreparedScan(volume, mask, bias, np.eye(4), scale, True, (), SIZE), SOUND

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "prepare_with_quality", at_rest)
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual head to train on and one to judge, each through the same two scanners, 4 mm."""
    folder = tmp_path_factory.mktemp("study") / "BIDS"
    for number in (1, 2):
        head = person(number)
        for domain in DOMAINS:
            image = scan_head(head, load_scanners()[domain], np.random.default_rng(number))
            session = domain.replace("-", "").replace(".", "")
            name = f"sub-{number}_ses-{session}_T1w.nii.gz"
            path = folder / f"sub-{number}" / f"ses-{session}" / "anat" / name
            path.parent.mkdir(parents=True)
            voxels = np.where(head.brain_mask, image.voxels, 0).astype(np.float32)
            nib.save(nib.Nifti1Image(voxels, image.affine), path)
    (folder / "participants.tsv").write_text("participant_id\nsub-1\nsub-2\n")
    split(folder, ("train", "test"))
    return folder


def split(folder: Path, words: tuple[str, str]) -> None:
    head, *rows = (folder / "participants.tsv").read_text().splitlines()
    columns = head.split("\t")
    kept = [n for n, name in enumerate(columns) if name != "split"]
    lines = ["\t".join(line.split("\t")[n] for n in kept) for line in (head, *rows)]
    table = [f"{line}\t{word}" for line, word in zip(lines, ("split", *words), strict=True)]
    (folder / "participants.tsv").write_text("\n".join(table) + "\n")


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("preset") / "tiny.yaml"
    file.write_text(PRESET)
    return file


def times(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiment") / "out"


@pytest.fixture(scope="module")
def outcomes() -> list[tuple[int, str, str]]:
    """Status, output and errors of the whole experiment, once it was done."""
    return []


@pytest.fixture
def finished(run, study: Path, base: Path, preset: Path, place: Path, outcomes) -> Path:
    """The folder of the whole experiment, done by whichever test of this process comes first."""
    if not outcomes:
        command = ("paper", study, "--base", base, "--output", place, "--preset", preset)
        outcomes.append(run(*command, *WAYS, *FEW, *RIVALS))
    return place


@pytest.fixture
def evaluated(finished: Path, monkeypatch: pytest.MonkeyPatch) -> list[PaperRequest]:
    """Leave the evaluation of what follows out, which has tests of its own; the requests for it."""
    requests: list[PaperRequest] = []

    def evaluate(request: PaperRequest) -> dict:
        requests.append(request)
        return {"left_out": {}, "table": ""}

    monkeypatch.setattr(experiment, "evaluate_study", evaluate)
    return requests


@pytest.mark.timeout(900)  # 20 s of processor
def test_the_whole_experiment(finished: Path, outcomes: list[tuple[int, str, str]]):
    ((status, text, errors),) = outcomes
    assert status == 0, errors
    record = json.loads(text)
    between, within = "spgr15t to mprage3t", "mprage3t to mprage3t"
    methods = ["none", "population", "autoencoder round trip"]
    methods += ["image-to-image, the paper's settings", "image-to-image, best settings"]
    rows = [(row["direction"], row["method"]) for row in record["rows"]]
    assert rows == [(way, method) for way in (between, within) for method in methods]
    assert not record["left_out"]
    assert "left out" not in errors
    assert not record["refused"]
    assert "0.581 (± 0.046)" in (finished / "paper.md").read_text()
    for figure in ("figure-1.png", "figure-2.png", "search.png"):
        assert (finished / figure).stat().st_size > 5_000
    assert (finished / "prepared" / "index.html").is_file()
    _the_cost_was_said_first(errors)
    _the_training_half_alone_was_seen(finished / "model", record)


def test_what_is_finished_is_not_done_again(run, study: Path, base: Path, preset: Path, finished, evaluated):
    folders = [finished / name for name in ("prepared", "model", "fitted")]
    before = {file: time for folder in folders for file, time in times(folder).items()}
    command = ("paper", study, "--base", base, "--output", finished, "--preset", preset, *WAYS, *FEW, *RIVALS)
    status, _, errors = run(*command)
    assert status == 0, errors
    assert "The model is trained already" in errors
    (asked,) = evaluated
    assert asked.fitted == {name: finished / "fitted" / name for name in ("none", "population")}
    assert asked.prepared == finished / "prepared"
    changed = {file for file, time in before.items() if file.stat().st_mtime_ns != time}
    assert {file.parent for file in changed} <= {finished / "prepared"}  # its index and description


def _the_cost_was_said_first(errors: str) -> None:
    """Two scans of two slices, four steps of two: each slice twice."""
    said = errors.index(
        "2 scans, at most 4 slices as pictures of 40x40 pixels; 4 steps, which show each slice 2"
    )
    assert said < errors.index("Preparing") < errors.index("Training: /") < errors.index("Rivals")
    assert "GiB for weights and training" in errors
    assert "an evaluation of the U-Net" in errors


def _the_training_half_alone_was_seen(model: Path, record: dict) -> None:
    card = read_card(model)
    seen = {scan.subject for scan in card.training_scans}
    judged = {
        name.split("_")[0].removeprefix("sub-")
        for names in record["about"]["slices"].values()
        for name in names
    }
    assert len(seen) == len(judged) == 1
    assert not seen & judged
    assert [(domain.name, domain.scans) for domain in card.domains] == [("spgr15t", 1), ("mprage3t", 1)]
    assert card.dreambooth is not None and card.dreambooth.steps == 4
    assert record["about"]["volume_corrected"]
    assert record["about"]["subjects_of_its_training"] == sorted(seen)


def test_a_model_is_not_judged_on_whom_it_was_trained_on(run, study: Path, finished: Path, tmp_path: Path):
    """By the subject's label in the same data set, or by the content of a scan wherever it lies."""
    copy = Path(shutil.copytree(study, tmp_path / "elsewhere"))
    split(copy, ("test", "train"))
    given = ("--model", finished / "model", "--output", tmp_path / "out", *WAYS, *FEW)
    status, _, errors = run("evaluate", "paper", copy, *given)
    assert status == 2
    assert "has learned from sub-" in errors
    (tmp_path / "parent").mkdir()
    renamed = copy.rename(tmp_path / "parent" / study.name)
    for scan in renamed.rglob("*_T1w.nii.gz"):
        scan.write_bytes(scan.read_bytes() + b"\0")
    assert "has learned from sub-" in run("evaluate", "paper", renamed, *given)[2]
    assert not (tmp_path / "out").exists()


def test_another_experiment_does_not_go_on_in_the_same_folder(
    run, study: Path, base: Path, preset: Path, finished: Path, tmp_path: Path
):
    longer = tmp_path / "longer.yaml"
    longer.write_text(PRESET.replace("epochs: 2", "epochs: 3"))
    arguments = ("paper", study, "--base", base, "--output", finished, *WAYS, *FEW)
    status, _, errors = run(*arguments, "--preset", longer)
    assert status == 2
    assert (
        "an experiment whose settings was another" in errors
        or "holds another experiment (settings)" in errors
    )


def test_a_folder_whose_record_is_damaged_is_not_taken_for_any_experiment(
    run, study: Path, base: Path, preset: Path, finished: Path
):
    record = finished / experiment.STUDY
    whole = record.read_bytes()
    record.write_bytes(whole[:20])
    try:
        arguments = ("paper", study, "--base", base, "--output", finished, *WAYS, *FEW, "--preset", preset)
        status, _, errors = run(*arguments)
        assert (status, f"{record}: is damaged, and says no longer which" in errors) == (2, True)
        assert record.read_bytes() == whole[:20]
    finally:
        record.write_bytes(whole)


def test_a_training_scan_that_changed_is_another_experiment(
    run, study: Path, base: Path, preset: Path, finished: Path, tmp_path: Path
):
    changed = Path(shutil.copytree(study, tmp_path / "parent" / study.name))
    scan = next(changed.glob("sub-1/*/anat/*_T1w.nii.gz"))
    scan.write_bytes(scan.read_bytes() + b"\0")
    command = ("paper", changed, "--base", base, "--output", finished, "--preset", preset, *WAYS, *FEW)
    status, _, errors = run(*command)
    assert (status, "holds another experiment (training scans)" in errors) == (2, True), errors


def test_a_folder_without_its_record_is_no_experiment(
    run, study: Path, base: Path, preset: Path, finished: Path, tmp_path: Path
):
    output = Path(shutil.copytree(finished, tmp_path / "out"))
    (output / experiment.STUDY).unlink()
    before = times(output)
    command = ("paper", study, "--base", base, "--output", output, "--preset", preset, *WAYS, *FEW)
    status, _, errors = run(*command)
    assert (status, f"{output}: is not empty and holds no experiment." in errors) == (2, True), errors
    assert times(output) == before


@pytest.mark.parametrize(
    ("inside", "said"), [("", "holds the scans"), ("sub-1/out", "lies in the folder of sub-1")]
)
def test_an_experiment_is_not_written_among_the_scans(
    run, study: Path, base: Path, preset: Path, finished: Path, inside: str, said: str
):
    before = times(study)
    for command in (
        ("paper", study, "--base", base, "--preset", preset),
        ("evaluate", "paper", study, "--model", finished / "model"),
    ):
        status, _, errors = run(*command, "--output", study / inside, *WAYS, *FEW)
        assert (status, said in errors) == (2, True), errors
    assert times(study) == before


def test_an_experiment_is_not_written_into_its_base(run, study: Path, base: Path, preset: Path):
    before = times(base)
    command = ("paper", study, "--base", base, "--output", base / "out", "--preset", preset, *WAYS, *FEW)
    status, _, errors = run(*command, "--cost")
    assert (status, f"lies in {base}, which it would change" in errors) == (2, True), errors
    assert times(base) == before


def test_a_link_that_leads_to_itself_holds_no_experiment(
    run, study: Path, base: Path, preset: Path, tmp_path: Path
):
    (tmp_path / "loop").symlink_to("loop")
    command = ("paper", study, "--base", base, "--output", tmp_path / "loop", "--preset", preset, *WAYS, *FEW)
    status, _, errors = run(*command)
    assert (status, f"{tmp_path / 'loop'} is a link that leads to itself" in errors) == (2, True), errors


def test_a_copy_of_a_training_scan_judges_nothing(run, study: Path, base: Path, preset: Path, tmp_path: Path):
    copy = Path(shutil.copytree(study, tmp_path / "copy"))
    learned, judged = (sorted(copy.glob(f"sub-{number}/ses-spgr15t/anat/*.nii.gz"))[0] for number in (1, 2))
    shutil.copy(learned, judged)
    command = ("paper", copy, "--base", base, "--output", tmp_path / "out", "--preset", preset, *WAYS, *FEW)
    status, _, errors = run(*command)
    assert (status, f"{judged}: is a copy of {learned}" in errors) == (2, True), errors
    assert not (tmp_path / "out").exists()


def test_a_rival_that_has_learned_from_the_judged_is_refused(
    run, study: Path, finished: Path, tmp_path: Path
):
    swapped = Path(shutil.copytree(study, tmp_path / "parent" / study.name))
    split(swapped, ("test", "train"))
    output = tmp_path / "out"
    given = ("--output", output, "--fitted", f"population={finished / 'fitted' / 'population'}", *WAYS, *FEW)
    status, _, errors = run("evaluate", "paper", swapped, *given)
    assert status == 2
    assert "fitted/population: has learned from sub-1" in errors
    assert not output.exists()


def test_the_table_says_which_scans_it_is_of(finished: Path):
    table = (finished / "paper.md").read_text()
    assert "- spgr15t to mprage3t: sub-2_spgr15t (1 slice)" in table
    assert "Left out" not in table
    assert "not said whom it was fitted on" not in table


def test_an_evaluation_does_not_replace_the_table_of_an_experiment(run, study: Path, finished: Path):
    before = times(finished)
    status, _, errors = run("evaluate", "paper", study, "--output", finished, *WAYS, *FEW)
    assert (status, "holds an experiment of `mrharmony paper`" in errors) == (2, True), errors
    assert times(finished) == before


def recipe(study: Path, base: Path, output: Path, **changes: object) -> PaperRecipe:
    request = PaperRequest(
        study,
        "spgr-1.5t",
        "mprage-3t",
        output,
        output / "model",
        domain_column="session",
        images=1,
        steps=1,
        device="cpu",
        workers=1,
    )
    settings = {"working_zoom": 4, "slices_per_scan": 2, "epochs": 4, "class_images": 1, "class_steps": 1}
    own = DreamBoothSettings.model_validate(
        settings | {"checkpoint_every": 1, "validate_every": None} | changes
    )
    return PaperRecipe(request, str(base), own, rivals=("none",))


def copied(finished: Path, asked: PaperRecipe) -> Path:
    """Copy a finished experiment as if it had been the one that is asked for."""
    output = Path(shutil.copytree(finished, asked.request.output))
    record = experiment._study(asked, StudyPlan.make(asked.request))
    (output / experiment.STUDY).write_text(json.dumps(record))
    return output


def test_killed_in_the_middle_of_training_it_goes_on(
    study: Path, base: Path, finished: Path, tmp_path: Path, evaluated: list[PaperRequest]
):
    output = tmp_path / "out"
    output.mkdir()
    shutil.copytree(finished / "prepared", output / "prepared")
    asked = recipe(study, base, output)
    process = multiprocessing.get_context("fork").Process(target=run_recipe, args=(asked, print))
    process.start()
    work = output / "model.training"
    while not list(work.glob("dreambooth-*.safetensors")) and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    assert not (output / "model").exists()
    (brain, *_) = (work / "brains").iterdir()
    before = brain.stat().st_mtime_ns
    said: list[str] = []
    run_recipe(asked, said.append)
    assert brain.stat().st_mtime_ns == before
    assert read_card(output / "model").training_scans
    assert [request.fitted for request in evaluated] == [{"none": output / "fitted" / "none"}]


def test_killed_while_rivals_are_fitted_it_goes_on(
    study: Path, base: Path, finished: Path, tmp_path: Path, evaluated: list[PaperRequest]
):
    asked = recipe(study, base, tmp_path / "out")
    output = copied(finished, asked)
    shutil.rmtree(output / "fitted")
    (output / "fitted" / ".none").mkdir(parents=True)
    (output / "fitted" / ".none" / "half").write_text("")
    run_recipe(asked, print)
    assert not (output / "fitted" / "none" / "half").exists()
    assert len(evaluated) == 1


def test_the_cost_alone_leaves_nothing(run, study: Path, base: Path, preset: Path, tmp_path: Path):
    output = tmp_path / "out"
    command = ("paper", study, "--base", base, "--output", output, "--preset", preset, *WAYS, *FEW)
    status, text, errors = run(*command, "--cost")
    assert status == 0, errors
    cost = json.loads(text)
    assert (cost["scans"], cost["slices"], cost["steps"], cost["seen"]) == (2, 4, 4, 2)
    assert cost["training"] > cost["evaluation"] > 0
    assert cost["memory"] > 0
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--base", "{folder}/v1-5.safetensors"), "Convert it once"),
        (("--base", "{folder}/v1-5.ckpt"), "pickled checkpoint"),
        (("--base", "{folder}/sd3"), "is Stable Diffusion 3"),
        (("--base", "{folder}/odd"), "vae/config.json: not an autoencoder"),
        (
            ("--base", "{folder}/odd", "--cost"),
            "vae/config.json: not an autoencoder",
        ),
        (("--base", "someone/some-model"), "neither a directory nor in the local Hub cache"),
        (("--base", "{base}", "--method", "soup"), "Unknown method soup"),
        (("--base", "{base}", "--method", "img2img"), "img2img: is not fitted"),
        (("--base", "{base}", "--from", "elsewhere"), "elsewhere: no such domain here. Choose from: "),
    ],
)
def test_mistakes_are_told_before_anything_is_prepared(
    run, study: Path, base: Path, tmp_path: Path, arguments, message: str
):
    (tmp_path / "v1-5.safetensors").write_bytes(b"")
    (tmp_path / "v1-5.ckpt").write_bytes(b"")
    (tmp_path / "sd3").mkdir()
    (tmp_path / "sd3" / "model_index.json").write_text('{"_class_name": "StableDiffusion3Pipeline"}')
    numbers = shutil.copytree(base, tmp_path / "odd") / "vae" / "config.json"
    numbers.write_text(numbers.read_text().replace("0.18215", "0"))
    given = [argument.format(folder=tmp_path, base=base) for argument in arguments]
    status, _, errors = run(
        "paper", study, "--output", tmp_path / "out", *(WAYS[2:] if "--from" in given else WAYS), *FEW, *given
    )
    assert status == 2
    assert message in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_without_a_column_four_fifths_are_for_training(base: Path, tmp_path: Path):
    rows = ["participant_id\tsite"]
    for number in range(10):
        subject = f"sub-{number}"
        rows.append(f"{subject}\t{'ab'[number % 2]}")
        scan = tmp_path / "BIDS" / subject / "anat" / f"{subject}_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        scan.write_text(subject)
    (tmp_path / "BIDS" / "participants.tsv").write_text("\n".join(rows) + "\n")
    output = tmp_path / "out"
    request = PaperRequest(
        tmp_path / "BIDS", "a", "b", output, output / "model", device="cpu", steps=1, images=1
    )
    settings = DreamBoothSettings(working_zoom=4, epochs=3, batch=2)
    plan, cost = plan_recipe(PaperRecipe(request, str(base), settings))
    assert [len(plan.training_of(name)) for name in "ab"] == [4, 4]
    assert not {s.subject for s in plan.training} & {s.subject for s in plan.testing}
    assert cost["slices"] == 80
    assert cost["steps"] == 120


def test_the_base_is_needed_no_more_once_the_model_is_trained(study: Path, finished: Path, tmp_path: Path):
    asked = recipe(study, tmp_path / "gone", tmp_path / "out")
    output = copied(finished, asked)
    assert (output / "model" / CARD).is_file()
    plan_recipe(asked)
    shutil.rmtree(output / "model")
    with pytest.raises(MrharmonyError, match="gone"):
        plan_recipe(asked)


def test_a_base_that_has_seen_a_judged_subject_is_refused_before_any_work(
    study: Path, finished: Path, tmp_path: Path
):
    swapped = Path(shutil.copytree(study, tmp_path / "swapped"))
    split(swapped, ("test", "train"))
    output = tmp_path / "out"
    with pytest.raises(MrharmonyError, match="has learned from sub-1"):
        plan_recipe(recipe(swapped, finished / "model", output, volume_corrected=True))
    with pytest.raises(MrharmonyError, match=r"was adapted with .*volume_corrected True"):
        plan_recipe(recipe(study, finished / "model", output))
    plan_recipe(recipe(study, finished / "model", output, volume_corrected=True))

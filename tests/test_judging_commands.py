"""The commands that judge, on real files: a table for people, JSON for programs, a sentence for mistakes."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer

from helpers.commands import sentences
from helpers.virtual_study import travelling
from mrharmony.cli.evaluating import _show, evaluate
from mrharmony.core.hashing import file_sha256
from mrharmony.jobs.evaluation_scans import scan_files
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.names import way_to
from mrharmony.scans.reading import read_scan
from mrharmony.scans.sidecar import OTHER_IMAGE, HarmonizedSidecar
from mrharmony.scans.writing import write_scan

COMMANDS = [command.name or command.callback.__name__ for command in evaluate.registered_commands]
TRUE_BRAIN = "derivatives/truth/sub-001/anat/sub-001_dseg.nii.gz"

NOTE = HarmonizedSidecar(
    schema_version=1,
    target="mprage3t",
    method="none",
    intensity_scale=500.0,
    sources=(),
    drift={},
    verdict="pass",
)


@pytest.fixture(scope="module")
def study(two_sites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three virtual heads, each through the same two scanners, 4 mm."""
    return travelling(two_sites, tmp_path_factory.mktemp("judged") / "study", 3)


@pytest.fixture(scope="module")
def raw(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, with a second run of the last scan."""
    folder = tmp_path_factory.mktemp("raw") / "raw"
    shutil.copytree(study, folder)
    *_, last = sorted(folder.glob("sub-*/ses-*/anat/*_T1w.nii.gz"))
    shutil.copy(last, last.with_name(last.name.replace("_T1w", "_run-2_T1w")))
    return folder


@pytest.fixture(scope="module")
def harmonized(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as if harmonized: 500 times canonical intensities; the file of the second run is broken."""
    folder = tmp_path_factory.mktemp("harmonized")
    for scan in raw.glob("sub-*/ses-*/anat/*_T1w.nii.gz"):
        copy = folder / scan.relative_to(raw).with_name(scan.name.replace("_T1w", "_desc-harmonized_T1w"))
        read = read_scan(scan)
        bright = np.percentile(read.volume.voxels[read.volume.voxels > 0], 90)
        write_scan(copy, read.volume.voxels * np.float32(500 / bright), read, NOTE.record())
    (broken,) = folder.rglob("*_run-2_desc-harmonized_T1w.nii.gz")
    broken.write_bytes(broken.read_bytes()[:1000])
    return folder


def test_results_are_not_taken_for_the_scans_before_harmonization(run, raw: Path, harmonized: Path):
    options = ("--domain-column", "session", "--json")
    for data in (raw, harmonized):
        status, _, errors = run("evaluate", "sites", data, "--raw", harmonized, *options)
        assert (status, f"{harmonized}: holds results of mrharmony, such as sub-" in errors) == (2, True), (
            errors
        )


@pytest.mark.parametrize("command", [("sites",), ("biology", "--to", "mprage3t", "--factor", "age")])
def test_results_of_several_targets_are_not_judged_together(
    run, harmonized: Path, tmp_path: Path, command: tuple[str, ...]
):
    mixed = shutil.copytree(harmonized, tmp_path / "mixed")
    note, *_ = sorted(mixed.rglob("*_desc-harmonized_T1w.json"))
    note.write_text(note.read_text().replace('"Target": "mprage3t"', '"Target": "NSK"'))
    name, *options = command
    status, _, errors = run("evaluate", name, mixed, *options, "--domain-column", "session")
    assert (status, "several targets (NSK, mprage3t)" in errors) == (2, True), errors
    assert "without --name-target" in errors


def test_a_scan_with_a_damaged_sidecar_of_ours_is_refused_alone(raw: Path, tmp_path: Path):
    scans = BidsIndex.open(raw, "session").scans[:2]
    spoiled = shutil.copytree(scans[0].path.parent, tmp_path / "sub-001" / "ses-a" / "anat")
    path = spoiled / scans[0].path.name
    path.with_name("sub-001_ses-mprage3t_T1w.json").write_text(json.dumps(NOTE.record() | {"Drift": 1}))
    spoilt = replace(scans[0], path=path)
    files, refused = scan_files(raw, [spoilt, scans[1]])
    assert list(files) == [scans[1].path]
    assert "Drift: " in refused[path]


def test_a_scan_that_was_made_of_one_of_another_name_is_told(raw: Path, tmp_path: Path, capsys):
    (scan, *_) = BidsIndex.open(raw, "session").scans
    folder = shutil.copytree(scan.path.parent, tmp_path / "sub-001" / "ses-a" / "anat")
    own = replace(scan, path=folder / scan.path.name)
    for sources, told in (
        (("bids:raw:sub-001/ses-mprage3t/anat/sub-001_ses-mprage3t_T1w.nii.gz",), False),
        (("bids:raw:sub-002/ses-mprage3t/anat/sub-002_ses-mprage3t_T1w.nii.gz",), True),
    ):
        note = NOTE.model_copy(update={"sources": sources, "image_sha256": None})
        own.path.with_name("sub-001_ses-mprage3t_T1w.json").write_text(json.dumps(note.record()))
        scan_files(raw, [own])
        assert ("made of sub-002_ses-mprage3t_T1w.nii.gz" in capsys.readouterr().err) == told


@pytest.fixture
def pair(cohort: Path) -> tuple[Path, Path]:
    """One head on two scanners."""
    one, other = sorted(cohort.glob("sub-*/ses-*/anat/*_T1w.nii.gz"))
    return one, other


@pytest.mark.parametrize("command", COMMANDS)
def test_every_evaluator_has_a_help(run, command: str):
    status, output, _ = run("evaluate", command, "--help")
    assert status == 0
    assert "Usage" in output


def test_a_scan_scores_perfectly_against_its_copy_only(
    run, cohort: Path, pair: tuple[Path, Path], tmp_path: Path
):
    one, other = pair
    mask, copy = cohort / TRUE_BRAIN, Path(shutil.copy(other, tmp_path / "copy.nii.gz"))
    options = ("--source", one, "--mask", mask, "--json")
    status, output, errors = run("evaluate", "paired", copy, other, *options)
    perfect = json.loads(output)
    assert (status, f"{copy}: is equal to {other} in the brain" in errors) == (0, True)
    assert perfect["output"]["mse"] == 0
    assert perfect["output"]["psnr"] is None  # infinite
    assert perfect["leaked_noise"] > 0.9
    nothing = json.loads(run("evaluate", "paired", one, other, *options)[1])
    assert nothing["gain_db"] == 0
    assert nothing["output"] == nothing["nothing"]
    assert nothing["truth-fitted lock"]["psnr"] > nothing["nothing"]["psnr"] + 3


def test_an_output_of_ours_is_scored_with_its_own_brightness(
    run, cohort: Path, pair: tuple[Path, Path], tmp_path: Path
):
    one, other = pair
    output, mask = tmp_path / "made.nii.gz", cohort / TRUE_BRAIN
    arguments = ("--to", "spgr-1.5t", "--method", "histogram", "--mask", mask, "--output", output)
    assert run("harmonize", one, *arguments)[0] == 0

    def psnr() -> float:
        record = json.loads(run("evaluate", "paired", output, other, "--mask", mask, "--json")[1])
        return record["output"]["psnr"]

    right = psnr()
    image = nib.load(output)
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32) * 1.3, image.affine, image.header), output)
    status, _, errors = run("evaluate", "paired", output, other, "--mask", mask)
    assert status == 2
    assert f"{output}: {OTHER_IMAGE}" in errors
    sidecar = output.with_name("made.json")
    record = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({key: value for key, value in record.items() if key != "ImageSHA256"}))
    assert run("evaluate", "paired", output, other, "--mask", mask)[0] == 2
    sidecar.write_text(json.dumps(record | {"ImageSHA256": file_sha256(output)}))
    assert psnr() < right - 5
    sidecar.unlink()  # as from another program: prepared, which takes the gain away
    assert psnr() > right - 2


def test_anatomy_of_a_scan_and_its_copy_does_not_drift_and_an_image_as_mask_is_told(
    run, cohort: Path, pair: tuple[Path, Path], tmp_path: Path
):
    scan, truth, mask = pair[0], nib.load(cohort / TRUE_BRAIN), tmp_path / "probability.nii.gz"
    values = np.linspace(0.5, 1, truth.shape[0], dtype=np.float32)[:, None, None]
    nib.save(nib.Nifti1Image((truth.get_fdata() > 0) * values, truth.affine), mask)
    copy = shutil.copy(scan, tmp_path / "copy.nii.gz")
    _, output, errors = run("evaluate", "anatomy", scan, copy, "--mask", mask, "--json")
    assert errors.count("The brain mask probability.nii.gz holds many different values") == 1
    record = json.loads(output)
    assert set(record["volume_drift_percent"].values()) == {0.0}
    assert record["edge_correspondence"] == pytest.approx(1)


@pytest.fixture
def result(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    """A result that was made of the first scan of the pair."""
    path, scan = tmp_path / "made.nii.gz", read_scan(pair[0])
    note = NOTE.model_copy(update={"sources": (way_to(pair[0], tmp_path),)})
    write_scan(path, scan.volume.voxels, scan, note.record())
    return path


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("paired", "SCAN", "RESULT"), "RESULT: is a result of mrharmony, and no true scan"),
        (("paired", "SCAN", "SCAN"), "SCAN: is the same file as SCAN"),
        (("paired", "RESULT", "SCAN", "--source", "SCAN"), "SCAN: is the same file as SCAN"),
        (("anatomy", "RESULT", "SCAN"), "RESULT: was made of SCAN. Name the scan before harmonization first"),
        (("anatomy", "SCAN", "SCAN"), "SCAN: is the same file as SCAN"),
        (("repeat", "SCAN", "RESULT"), "RESULT: is a result of mrharmony, and no rescan"),
    ],
)
def test_images_that_are_exchanged_or_given_twice_are_refused(
    run, pair: tuple[Path, Path], result: Path, command: tuple[str, ...], said: str
):
    places = {"SCAN": str(pair[0]), "RESULT": str(result)}
    status, _, errors = run("evaluate", *(places.get(word, word) for word in command))
    for name, path in places.items():
        said = said.replace(name, path)
    assert (status, said in errors) == (2, True), errors
    assert len(sentences(errors)) == 1


def test_scans_on_different_grids_are_refused_in_one_sentence(
    run, pair: tuple[Path, Path], study: Path, cohort: Path
):
    elsewhere = next(study.glob("sub-002/ses-*/anat/*_T1w.nii.gz"))
    status, _, errors = run("evaluate", "repeat", pair[0], elsewhere)
    assert status == 2
    assert "another grid" in errors
    assert len(sentences(errors)) == 1


@pytest.mark.parametrize("kind", ["link", "copy", "stored otherwise"])
def test_a_scan_and_itself_are_no_scan_and_rescan(run, pair: tuple[Path, Path], tmp_path: Path, kind: str):
    copy = tmp_path / "copy.nii.gz"
    if kind == "link":
        copy.symlink_to(pair[0])
    elif kind == "copy":
        shutil.copy(pair[0], copy)
    else:
        nib.save(nib.load(pair[0]), copy.with_name("copy.nii"))
        copy.write_bytes(gzip.compress(copy.with_name("copy.nii").read_bytes(), 1))
    status, _, errors = run("evaluate", "repeat", pair[0], copy)
    assert (status, f"{copy}: has the same voxels as {pair[0]}" in errors) == (2, True), errors
    status, _, errors = run("evaluate", "repeat", tmp_path, tmp_path)
    assert (status, "This is a folder" in errors) == (2, True), errors


def test_a_file_that_is_given_twice_counts_once(run, pair: tuple[Path, Path], tmp_path: Path):
    link = tmp_path / "link.nii.gz"
    link.symlink_to(pair[0])
    arguments = ("--domain", "mprage-3t", "--method", "none", "--json")
    status, output, errors = run("evaluate", "identity", pair[0], link, pair[0], *arguments)
    assert (status, json.loads(output)["scans"]) == (0, 1)
    assert [line for line in sentences(errors) if "counts once" in line] == [
        f"{path}: this file is given already, and counts once." for path in (link, pair[0])
    ]


def test_identity_is_exact_for_population_curves_and_not_for_histogram_matching(run, pair: tuple[Path, Path]):
    arguments = ("evaluate", "identity", pair[0], "--domain", "mprage-3t", "--json", "--method")
    histogram = json.loads(run(*arguments, "histogram")[1])
    assert histogram["mean_mse"] > 1e-6
    regional = json.loads(run(*arguments, "regional")[1])
    assert regional["mean_ssim"] == pytest.approx(1)


def test_identity_says_which_scan_does_not_look_like_the_domain(run, pair: tuple[Path, Path]):
    own, other = (
        run("evaluate", "identity", pair[0], "--domain", name) for name in ("mprage-3t", "spgr-1.5t")
    )
    assert (own[0], own[2]) == (0, "")
    assert other[0] == 0
    assert f"{pair[0]}: The scan does not look like spgr-1.5t: " in other[2]


def test_identity_takes_a_harmonized_scan_with_the_preparation_of_its_source(
    run, cohort: Path, pair: tuple[Path, Path], tmp_path: Path
):
    saved, made = tmp_path / "saved", tmp_path / "made"
    run("prepare", cohort, saved, "--workers", "1")
    how = ("--method", "population", "--prepared", saved)
    run("harmonize", pair[0], "--to", "mprage-3t", *how, "--output", made)
    (scan,) = made.glob("*.nii.gz")
    status, output, errors = run("evaluate", "identity", scan, "--domain", "mprage-3t", *how, "--json")
    assert status == 0, errors
    assert json.loads(output)["mean_ssim"] == pytest.approx(1)


def test_sites_are_told_apart_without_the_scan_that_is_broken(run, raw: Path, harmonized: Path):
    arguments = ("--raw", raw, "--domain-column", "session", "--workers", "1", "--json")
    status, output, errors = run("evaluate", "sites", harmonized, *arguments)
    assert status == 3, errors
    record = json.loads(output)
    (broken,) = record["refused"]
    assert broken == "sub-003_ses-spgr15t_run-2_desc-harmonized_T1w.nii.gz"
    assert broken in errors
    assert record["scans"] == {"mprage3t": 3, "spgr15t": 3}
    assert record["chance"] == 0.5
    assert record["linear probe, retrained"] == record["linear probe, frozen"] == 1
    assert record["distances"]["wasserstein"]["white"] > 0


@pytest.mark.parametrize(
    ("sites", "message"),
    [("AAA", "All scans come from one site"), ("AAB", "Site B has scans of one subject only")],
)
def test_what_the_table_shows_of_sites_is_told_before_any_scan_is_opened(
    run, tmp_path: Path, sites: str, message: str
):
    """The scans are empty files: whoever opens one says that."""
    rows = ["participant_id\tsite"]
    for number, site in enumerate(sites):
        rows.append(f"sub-{number}\t{site}")
        scan = tmp_path / f"sub-{number}" / "anat" / f"sub-{number}_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        scan.touch()
    (tmp_path / "participants.tsv").write_text("\n".join(rows) + "\n")
    status, _, errors = run("evaluate", "sites", tmp_path, "--workers", "1")
    assert (status, message in errors) == (2, True), errors


def test_harmonized_scans_without_their_raw_ones_are_refused(run, harmonized: Path, cohort: Path):
    arguments = ("--raw", cohort, "--domain-column", "session")
    status, _, errors = run("evaluate", "sites", harmonized, *arguments)
    assert status == 2
    assert "has no scan sub-002_ses-mprage3t_T1w" in errors


def test_ventricles_grow_with_their_factor(run, study: Path):
    arguments = ("--to", "mprage3t", "--factor", "ventricle_scale", "--domain-column", "session", "--json")
    status, output, _ = run(
        "evaluate", "biology", study, *arguments, "--domain", "mprage3t", "--workers", "1"
    )
    record = json.loads(output)
    assert status == 0
    assert (record["scans"], record["people"]) == (3, 3)
    assert record["refused"] == {}
    assert record["slope"]["value"] > 0
    assert record["remark"].startswith("3 persons: too few. What fewer than 12 show is mostly chance")


def test_people_whose_factor_is_not_known_are_named_and_codes_for_missing_ones_told(
    run, study: Path, tmp_path: Path
):
    cohort = shutil.copytree(study, tmp_path / "cohort")
    more = "sub-004/ses-mprage3t/anat/sub-004_ses-mprage3t_T1w.nii.gz"
    (cohort / more).parent.mkdir(parents=True)
    shutil.copy(cohort / more.replace("004", "001"), cohort / more)
    head, *rows = (cohort / "participants.tsv").read_text().splitlines()
    scores = [f"{row}\t{score}" for row, score in zip(rows, ("1", "2", "-999"), strict=True)]
    (cohort / "participants.tsv").write_text("\n".join([f"{head}\tscore", *scores, ""]))
    options = ("--domain-column", "session", "--domain", "mprage3t", "--workers", "1", "--json")
    arguments = (cohort, "--to", "mprage3t", "--factor", "score", *options)
    status, output, errors = run("evaluate", "biology", *arguments)
    assert (status, json.loads(output)["scans"]) == (0, 3)
    assert "has no score of sub-004, left out with 1 scan. Fill" in errors
    assert "score is -999 in some rows, which is taken as a number. If it stands for a missing" in errors


def test_a_figure_that_does_not_exist_is_not_available_in_the_table(capsys):
    with pytest.raises(typer.Exit):
        _show({"slope": {"value": 0.5}, "group_difference": None, "refused": {}}, as_json=False)
    *_, slope, groups, _ = capsys.readouterr().out.replace("│", " ").splitlines()
    assert slope.split() == ["slope", "value", "0.5"]
    assert groups.split() == ["group_difference", "n/a"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--factor", "shoe_size"), "no column shoe_size"),
        (("--factor", "empty"), "no column empty, or nothing in it"),
        (("--factor", "word"), "word must hold numbers, not 'old'"),
        (("--factor", "huge"), "huge must hold numbers from -1e+18 to 1e+18, not '1e300'"),
        (("--factor", "joined"), "joined must hold numbers, not '6_5'"),
        (("--factor", "few"), "three heads or more"),
        (("--factor", "ventricle_scale", "--group", "trio"), "must hold two groups, not 3 (a, b, c)"),
        (("--factor", "ventricle_scale", "--to", "elsewhere"), "no scans of elsewhere"),
        (
            ("--factor", "few", "--domain", "mprage-7t"),
            "mprage-7t: no such domain here. Choose from: mprage3t",
        ),
    ],
)
def test_biology_checks_its_columns_before_it_prepares(
    options: tuple[str, ...], message: str, run, study: Path, tmp_path: Path
):
    for scan in study.glob("sub-*/ses-mprage3t/anat/*_T1w.nii.gz"):
        copy = tmp_path / scan.relative_to(study)
        copy.parent.mkdir(parents=True)
        copy.write_bytes(b"never read")
    head, *rows = (study / "participants.tsv").read_text().splitlines()
    more = ["n/a\told\t1\ta\t1e300\t6_5", "n/a\t3\t2\tb\t1\t1", "n/a\t4\tn/a\tc\t2\t2"]
    lines = [f"{head}\tempty\tword\tfew\ttrio\thuge\tjoined", *map("\t".join, zip(rows, more, strict=True))]
    (tmp_path / "participants.tsv").write_text("\n".join(lines) + "\n")
    to = () if "--to" in options else ("--to", "mprage3t")
    arguments = (*to, "--domain-column", "session", *options)
    status, _, errors = run("evaluate", "biology", tmp_path, *arguments)
    assert status == 2
    assert message in errors
    assert errors.count("participants.tsv: ") == errors.count(f"{tmp_path}/participants.tsv: ")
    assert len(sentences(errors)) == 1


def test_a_fitted_method_is_saved_and_reused_on_unseen_scans(
    run, study: Path, pair: tuple[Path, Path], tmp_path: Path
):
    model, one = tmp_path / "nyul", tmp_path / "one"
    shutil.copytree(study, one, ignore=shutil.ignore_patterns("sub-002", "sub-003"))
    arguments = ("--method", "nyul", "--domain-column", "session", "--output", model, "--json")
    status, output, _ = run("train", one, *arguments)
    assert status == 0
    assert json.loads(output)["domains"] == {"mprage3t": 1, "spgr15t": 1}
    harmonized = tmp_path / "out"
    arguments = ("--to", "spgr-1.5t", "--method", "nyul", "--model", model, "--output", harmonized, "--json")
    status, output, _ = run("harmonize", pair[0], *arguments)
    assert status == 0
    assert Path(json.loads(output)[0]["output"]).is_file()


def test_a_method_that_was_never_fitted_says_how_to_fit_it(run, pair: tuple[Path, Path], tmp_path: Path):
    status, _, errors = run("harmonize", pair[0], "--to", "NSK", "--method", "combat", "--output", tmp_path)
    assert status == 2
    assert "mrharmony train BIDS_DIR --method combat" in errors


def test_an_unknown_recipe_names_the_known_ones(run, tmp_path: Path):
    status, _, errors = run("simulate", tmp_path / "out", "--recipe", "soup")
    assert status == 2
    assert "confounded" in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [("--subjects", "2"), ("--scanners", "3")])
def test_a_recipe_is_not_mixed_with_subjects_and_scanners(run, tmp_path: Path, option: tuple[str, str]):
    status, _, errors = run("simulate", tmp_path / "out", "--recipe", "clean", *option)
    assert status == 2
    assert "--recipe brings its own" in errors


def test_zoom_and_seed_take_the_place_of_the_recipes(run, tmp_path: Path):
    recipe = tmp_path / "one.yaml"
    recipe.write_text(
        "{name: one, description: One., scanners: [tfe-3t], training_subjects: 0, test_subjects: 1}"
    )
    out = tmp_path / "out"
    assert run("simulate", out, "--recipe", recipe, "--zoom", "4", "--seed", "7")[0] == 0
    record = json.loads((out / "dataset_description.json").read_text())
    assert '"zoom": 4.0' in json.dumps(record)
    assert '"seed": 7' in json.dumps(record)


def test_anatomies_that_cannot_be_used_are_refused_by_name(run, study: Path, tmp_path: Path):
    shutil.copytree(study / "sub-001", tmp_path / "people" / "sub-001")
    for broken in tmp_path.glob("people/sub-001/ses-*/anat/*_T1w.nii.gz"):
        broken.write_bytes(broken.read_bytes()[:1000])
    status, _, errors = run("simulate", tmp_path / "out", "--anatomy", tmp_path / "people")
    assert status == 2
    assert "none of the scans could be used; " in errors
    assert errors.count("sub-001_ses-mprage3t_T1w.nii.gz: ") == 1
    assert not (tmp_path / "out").exists()


def test_a_site_of_which_there_is_no_anatomy_is_told(run, study: Path, tmp_path: Path):
    shutil.copytree(study / "sub-001", tmp_path / "people" / "sub-001")
    (tmp_path / "people" / "participants.tsv").write_text("participant_id\tsite\nsub-001\tNSK\n")
    sites = ("--domain", "NSK", "--domain", "NKS")
    status, _, errors = run("simulate", tmp_path / "out", "--anatomy", tmp_path / "people", *sites)
    assert status == 2
    assert "NKS: no such domain here. Choose from: NSK." in errors
    assert not (tmp_path / "out").exists()


def test_the_remedy_of_a_scan_that_is_left_out_names_an_option(run, study: Path, tmp_path: Path):
    shutil.copytree(study / "sub-001", tmp_path / "people" / "sub-001")
    first, *_ = tmp_path.glob("people/sub-001/ses-mprage3t/anat/*_T1w.nii.gz")
    nib.save(nib.Nifti1Image(np.asanyarray(nib.load(first).dataobj), None), first)
    arguments = ("--output", tmp_path / "model", "--method", "histogram", "--domain-column", "session")
    status, output, _ = run("train", tmp_path / "people", *arguments)
    assert status == 3
    assert "harmonize it by itself with --assume-ras if" in output

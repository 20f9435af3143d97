"""The Python interface: same results as the command line, scikit-learn's manner, nothing but sentences."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib.figure
import nibabel as nib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline

import mrharmony
from helpers.pages import assert_balanced
from mrharmony import Finding, Harmonizer, MrharmonyError, ScanRefused, Volume

TARGET = "mprage-3t"


def voxels(result: mrharmony.HarmonizedScan) -> np.ndarray:
    return result.harmonized.volume.voxels


@pytest.fixture(scope="module")
def image() -> nib.Nifti1Image:
    """A virtual head that no reference scanner saw, on an oblique grid in PSR order."""
    straight = mrharmony.virtual_scan("flash-1.5t-thick", zoom=4.0)
    turned = straight.as_reoriented(
        nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], [[2, 1], [0, -1], [1, 1]])
    )
    turn = np.array([[0.995, -0.0998, 0, 3], [0.0998, 0.995, 0, -2], [0, 0, 1, 5], [0, 0, 0, 1]])
    return nib.Nifti1Image(np.asarray(turned.dataobj, np.float32), turn @ turned.affine)


@pytest.fixture(scope="module")
def shipped() -> Harmonizer:
    return Harmonizer.from_pretrained()


@pytest.fixture(scope="module")
def result(shipped, image):
    return shipped.harmonize(image, target=TARGET)


def test_the_result_lies_on_the_grid_of_the_image(result, image):
    assert result.image.shape == image.shape
    assert np.array_equal(result.image.affine, image.affine)
    assert nib.aff2axcodes(result.image.affine) == nib.aff2axcodes(image.affine)
    assert np.isfinite(result.image.get_fdata()).all()
    assert result.image.get_data_dtype() == np.float32


def test_a_result_in_another_spelling_keeps_its_json_file(result, tmp_path):
    first = result.save(tmp_path / "b.nii.gz")
    before = (tmp_path / "b.json").read_bytes()
    other = replace(result, job=replace(result.job, source=result.job.target))
    with pytest.raises(MrharmonyError, match=r"b\.json: describes b\.nii\.gz\. .*overwrite=True"):
        other.save(tmp_path / "b.NII.GZ")
    assert ((tmp_path / "b.json").read_bytes(), [*tmp_path.glob("*.NII.GZ")]) == (before, [])
    first.unlink()
    assert other.save(tmp_path / "b.NII.GZ").is_file()


def test_results_equal_those_of_the_command_line_to_the_bit(result, image, run, tmp_path):
    nib.save(image, tmp_path / "scan_T1w.nii.gz")
    run("harmonize", tmp_path / "scan_T1w.nii.gz", "--to", TARGET, "--output", tmp_path / "cli.nii.gz")
    in_python = result.save(tmp_path / "python.nii.gz")
    assert in_python.read_bytes() == (tmp_path / "cli.nii.gz").read_bytes()
    of_cli, of_python = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("cli", "python"))
    differing = {key for key in of_cli.keys() | of_python.keys() if of_cli.get(key) != of_python.get(key)}
    assert differing <= {"Sources", "SourceSHA256"}  # an image in memory has no file


def test_a_path_gives_what_the_image_gives_and_the_same_sidecar_as_the_command_line(
    shipped, result, image, run, tmp_path
):
    nib.save(image, tmp_path / "scan_T1w.nii.gz")
    run("harmonize", tmp_path / "scan_T1w.nii.gz", "--to", TARGET, "--output", tmp_path / "a" / "x.nii.gz")
    done = shipped.harmonize(tmp_path / "scan_T1w.nii.gz", target=TARGET)
    assert np.array_equal(voxels(done), voxels(result))
    done.save(tmp_path / "b" / "x.nii.gz")
    assert (tmp_path / "a" / "x.json").read_bytes() == (tmp_path / "b" / "x.json").read_bytes()


def test_a_volume_and_a_prepared_scan_give_the_same(shipped, result, image):
    volume = Volume(np.asarray(image.dataobj), image.affine)
    assert np.array_equal(voxels(shipped.harmonize(volume, target=TARGET)), voxels(result))
    prepared = mrharmony.prepare(image)
    assert np.array_equal(voxels(shipped.harmonize(prepared, target=TARGET)), voxels(result))


def test_a_scan_that_does_not_say_how_it_lies_is_taken_where_the_caller_vouches_for_it(shipped, image):
    unsaid = nib.Nifti1Image(np.asarray(image.dataobj), None)
    unsaid.header.set_zooms(image.header.get_zooms())
    with pytest.raises(ScanRefused, match="harmonize it by itself with assume_ras=True"):
        shipped.harmonize(unsaid, target=TARGET)
    brain = np.asarray(image.dataobj) > 0
    result = shipped.harmonize(unsaid, target=TARGET, assume_ras=True, brain_mask=brain)
    assert "missing-affine" in {finding.code for finding in result.findings}
    prepared = mrharmony.prepare(unsaid, assume_ras=True, brain_mask=brain)
    assert "missing-affine" in {finding.code for finding in prepared.remarks}
    again = shipped.harmonize(prepared, target=TARGET)
    assert np.array_equal(voxels(again), voxels(result))
    assert again.findings == result.findings
    for take in (mrharmony.load, mrharmony.check, mrharmony.prepare):
        with pytest.raises(MrharmonyError, match=r"^assume_ras: 'False' cannot be taken\."):
            take(image, assume_ras="False")


def test_a_brain_mask_is_taken_as_image_or_array(shipped, image):
    mask = np.asarray(image.dataobj) > 0
    as_array = shipped.harmonize(image, target=TARGET, brain_mask=mask)
    as_image = shipped.harmonize(
        image, target=TARGET, brain_mask=nib.Nifti1Image(mask.astype(np.uint8), image.affine)
    )
    assert np.array_equal(voxels(as_array), voxels(as_image))
    probable = np.where(mask, np.random.default_rng(0).uniform(0.1, 1, mask.shape), 0)
    assert "many-valued-mask" in {one.code for one in mrharmony.prepare(image, brain_mask=probable).findings}
    with pytest.raises(MrharmonyError, match="brain_mask"):
        shipped.harmonize(image, target=TARGET, brain_mask=mask[1:])


def test_it_plots_before_after_and_difference_and_shows_itself_in_a_notebook(result):
    figure = result.plot()
    assert isinstance(figure, matplotlib.figure.Figure)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["before", "after", "after − before"]
    page = result._repr_html_()
    assert result.evidence.verdict in page and "data:image/png;base64," in page
    assert "<script" not in page
    assert_balanced(page)


def test_a_notebook_shows_what_was_found_and_every_drift_figure_with_its_limits(result):
    def page_with(*findings: Finding) -> str:
        return replace(result, harmonized=replace(result.harmonized, findings=findings))._repr_html_()

    page = page_with(Finding("warning", "odd", "The values are < 0.", "Look at it."))
    assert "<ul>" not in page_with()
    assert page.count("<th scope='row'") == 10
    assert "<li><strong>warning</strong>: The values are &lt; 0. Look at it.</li>" in page


def test_images_in_memory_and_prepared_scans_say_what_they_are_in_a_line(result):
    assert repr(result).startswith("HarmonizedScan('(image in memory): unknown source to mprage-3t, ")
    assert repr(result.prepared).startswith(f"PreparedScan({result.scan.volume!r}, brain ")
    assert len(repr(result.prepared).splitlines()) == 1


def test_a_result_that_fails_is_returned_but_saved_only_by_force(result, tmp_path):
    evidence = result.evidence.model_copy(update={"verdict": "fail", "reasons": ("new_structure",)})
    failed = replace(result, harmonized=replace(result.harmonized, evidence=evidence))
    with pytest.raises(MrharmonyError, match=r"verdict is fail.*force=True"):
        failed.save(tmp_path / "x.nii.gz")
    assert list(tmp_path.iterdir()) == []
    assert failed.save(tmp_path / "x.nii.gz", force=True).is_file()
    findings = json.loads((tmp_path / "x.json").read_text())["Findings"]
    assert findings[-1]["code"] == "forced"


@pytest.mark.parametrize("name", ["x.nii.gz", "x.json"])
def test_a_file_of_somebody_else_is_replaced_by_a_result_only_when_asked(result, image, tmp_path, name):
    foreign = tmp_path / name
    if name == "x.json":
        foreign.write_text("{}")
    else:
        nib.save(type(image)(image.get_fdata() + 1, image.affine), foreign)
    before = foreign.read_bytes()
    with pytest.raises(MrharmonyError, match=r"mrharmony did not write it.*overwrite=True"):
        result.save(tmp_path / "x.nii.gz")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]
    result.save(tmp_path / "x.nii.gz", overwrite=True)
    assert foreign.read_bytes() != before
    result.save(tmp_path / "x.nii.gz")  # an earlier result


@pytest.mark.parametrize(
    "given", [Path, nib.load, lambda scan: mrharmony.load(scan).volume, mrharmony.prepare]
)
def test_the_scan_itself_is_never_replaced(shipped, image, tmp_path, given):
    scan = tmp_path / "scan_T1w.nii.gz"
    nib.save(image, scan)
    before = scan.read_bytes()
    done = shipped.harmonize(given(scan), target=TARGET)
    with pytest.raises(MrharmonyError, match=r"would overwrite the scan itself|mrharmony did not write it"):
        done.save(scan)
    with pytest.raises(MrharmonyError, match="would overwrite the scan itself"):
        done.save(scan, overwrite=True)
    assert scan.read_bytes() == before
    (tmp_path / "x.nii.gz").write_bytes(b"no image")
    assert done.save(tmp_path / "x.nii.gz", overwrite=True).is_file()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("a" * 300 + ".nii.gz", "is too long for a file name"),
        ("a/" * 2500 + "b.nii.gz", "is too long for a file name"),
        ("\0.nii.gz", "has a character that no file name can have"),
        ("\ud800.nii.gz", "has a character that no file name can have"),
        *((wrong, f"a value of type {type(wrong).__name__} is no path") for wrong in (3, ["x"], b"x", None)),
    ],
    ids=ascii,
)
def test_what_can_be_the_name_of_nothing_is_refused_by_its_argument(shipped, result, wrong, said):
    for argument, call in (
        ("path", result.save),
        ("directory", shipped.save_pretrained),
        ("model", Harmonizer.from_pretrained),
    ):
        if (argument, wrong) != ("model", None):
            with pytest.raises(MrharmonyError, match=f"^{argument}: ") as refusal:
                call(wrong)
            assert said in str(refusal.value)


@pytest.fixture(scope="module")
def sites(cohort: Path) -> tuple[list[nib.Nifti1Image], list[str]]:
    return [nib.load(scan) for scan in sorted(cohort.glob("sub-*/ses-*/anat/*_T1w.nii.gz"))], ["A", "B"]


@pytest.fixture(scope="module")
def prepared_sites(sites) -> tuple[list[mrharmony.PreparedScan], list[str]]:
    images, domains = sites
    return [mrharmony.prepare(image) for image in images], domains


def test_a_tilde_is_the_home_folder(shipped, result, image, run, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    result.save("~/out.nii.gz")
    nib.save(image, home / "scan.nii.gz")
    assert mrharmony.load("~/scan.nii.gz").volume.shape == image.shape
    arguments = ("--to", "NSK", "--method", "none", "--output=~/named")
    assert run("harmonize", home / "scan.nii.gz", *arguments)[0] == 0
    assert (home / "out.nii.gz").is_file() and list((home / "named").iterdir())
    assert not (tmp_path / "~").exists()


def test_a_pipeline_fits_and_transforms(sites, prepared_sites):
    images, domains = prepared_sites
    pipeline = Pipeline([("harmonize", Harmonizer(method="histogram", target="A"))]).fit(images, domains)
    harmonized = pipeline.transform(images)
    assert [image.shape for image in harmonized] == [image.shape for image in sites[0]]
    own = Harmonizer(method="histogram").fit(images, domains)
    assert own.domains_ == ("A", "B")
    for one, other in zip(harmonized, own.transform(images, target="A"), strict=True):
        assert np.array_equal(one.get_fdata(), other.get_fdata())


def test_a_fitted_method_keeps_the_head_where_that_is_asked_for(prepared_sites):
    scans, domains = prepared_sites
    head = Harmonizer(method="histogram", extent="head").fit(scans, domains).harmonize(scans[1], "A")
    assert head.harmonized.provenance["extent"] == "head"


def test_an_error_notes_which_image_it_is_about(shipped, image):
    empty = nib.Nifti1Image(np.zeros((32, 32, 32), np.float32), np.eye(4))
    with pytest.raises(ScanRefused) as caught:
        Harmonizer(method="histogram").fit([empty], ["A"])
    assert caught.value.__notes__ == ["This is about images[0]."]


def test_parameters_are_those_of_the_constructor_and_a_clone_is_not_fitted(prepared_sites):
    own = Harmonizer(method="histogram", target="A", seed=np.int64(3)).fit(*prepared_sites)
    assert own.get_params() == {
        "method": "histogram", "target": "A", "seed": 3, "extent": "brain", "device": "auto",
    }  # fmt: skip
    assert type(own.provenance_.seed) is int
    fresh = clone(own).set_params(seed=4)
    assert fresh.get_params()["seed"] == 4
    with pytest.raises(NotFittedError, match=r"fit.*from_pretrained") as refusal:
        fresh.harmonize(prepared_sites[0][0], target="A")
    assert isinstance(refusal.value, MrharmonyError)


@pytest.mark.parametrize("method", ["histogram", "diffusion"])
def test_what_is_saved_is_loaded_again_and_serves_the_command_line(method, sites, run, tmp_path):
    images, domains = sites
    own = Harmonizer(method=method).fit(images, domains)
    own.save_pretrained(tmp_path / "my-sites")
    loaded = Harmonizer.from_pretrained(tmp_path / "my-sites", method=method)
    first, second = (one.harmonize(images[1], target="A", source="B") for one in (own, loaded))
    assert np.array_equal(voxels(first), voxels(second))
    nib.save(images[1], tmp_path / "scan.nii.gz")
    model = ("--model", tmp_path / "my-sites", "--method", method)
    run("harmonize", tmp_path / "scan.nii.gz", "--to", "A", "--from", "B", *model, "--output", tmp_path)
    written = nib.load(tmp_path / "scan_desc-harmonized_T1w.nii.gz").get_fdata(dtype=np.float32)
    assert np.array_equal(written, voxels(first))


def test_the_shipped_model_can_be_saved_and_loaded(shipped, result, image, tmp_path):
    shipped.save_pretrained(tmp_path / "copy")
    again = Harmonizer.from_pretrained(tmp_path / "copy").harmonize(image, target=TARGET)
    assert np.array_equal(voxels(again), voxels(result))
    with pytest.raises(MrharmonyError, match="copy"):
        shipped.save_pretrained(tmp_path / "copy")


def test_a_model_that_was_changed_after_it_was_loaded_is_not_saved_for_it(
    prepared_sites, tmp_path, monkeypatch
):
    images, _ = prepared_sites
    for model, domains in (("mine", ["A", "B"]), ("other", ["C", "D"])):
        Harmonizer(method="histogram").fit(images, domains).save_pretrained(tmp_path / model)
    monkeypatch.chdir(tmp_path)
    loaded = Harmonizer.from_pretrained("mine", method="histogram")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "copy").mkdir()
    assert loaded.save_pretrained("copy") == Path("copy")
    assert Harmonizer.from_pretrained("copy", method="histogram").domains_ == ("A", "B")
    with pytest.raises(MrharmonyError, match=r"new: lies in .*mine, which it would change\. Name a place"):
        loaded.save_pretrained(tmp_path / "mine" / "new")
    shutil.rmtree(tmp_path / "mine")
    for _ in ("gone", "replaced"):
        with pytest.raises(MrharmonyError, match=r"mine: is gone, or was changed since.*from_pretrained"):
            loaded.save_pretrained("second")
        assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["copy"]
        shutil.copytree(tmp_path / "other", tmp_path / "mine", dirs_exist_ok=True)
    assert loaded.domains_ == ("A", "B")


def test_bad_arguments_end_in_a_sentence_about_arguments(shipped, image, sites):
    with pytest.raises(MrharmonyError, match="nowhere"):
        shipped.harmonize(image, target="nowhere")
    with pytest.raises(MrharmonyError, match="target"):
        shipped.transform([image])
    with pytest.raises(MrharmonyError, match="no-such-method"):
        Harmonizer(method="no-such-method").fit(*sites)
    with pytest.raises(MrharmonyError, match="domains"):
        Harmonizer(method="histogram").fit(sites[0], ["A"])
    with pytest.raises(ScanRefused):
        shipped.harmonize(nib.Nifti1Image(np.zeros((8, 8, 8, 2), np.float32), np.eye(4)), target=TARGET)
    broken = np.asarray(image.dataobj).copy()
    broken[5, 5, 5] = np.nan
    with pytest.raises(ScanRefused, match="NaN"):
        shipped.harmonize(nib.Nifti1Image(broken, image.affine), target=TARGET)
    for error in (lambda: shipped.harmonize(image, target="nowhere"), lambda: shipped.transform([image])):
        with pytest.raises(MrharmonyError) as caught:
            error()
        assert "--" not in str(caught.value)


def test_what_is_set_after_opening_is_never_ignored(shipped, prepared_sites, image):
    own = clone(shipped).set_params(method="histogram").fit(*prepared_sites)
    own.set_params(target="A").harmonize(prepared_sites[0][0])
    for changed in ({"extent": "head"}, {"seed": 7}, {"method": "none"}, {"device": "cpu"}):
        before = {name: own.get_params()[name] for name in changed}
        with pytest.raises(MrharmonyError, match=f"^{next(iter(changed))}: set after"):
            own.set_params(**changed).harmonize(image)
        own.set_params(**before)
    head = own.set_params(extent="head").fit(*prepared_sites).harmonize(prepared_sites[0][1])
    assert head.harmonized.provenance["extent"] == "head"


def test_a_parameter_that_is_none_is_refused():
    with pytest.raises(MrharmonyError, match=r"^foo: no parameter of a harmonizer\. Choose from: .*target"):
        Harmonizer.from_pretrained(foo=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("extent", "skull"), ("device", "gpu"), ("seed", -1), ("seed", 1.5), ("seed", None), ("seed", 2**64)],
)
def test_impossible_parameters_are_refused_by_name(name, value, prepared_sites):
    with pytest.raises(MrharmonyError, match=f"^{name}: {value!r} "):
        Harmonizer.from_pretrained(**{name: value})
    with pytest.raises(MrharmonyError, match=f"^{name}: {value!r} "):
        Harmonizer("histogram", **{name: value}).fit(*prepared_sites)


def test_a_gpu_that_is_not_there_is_refused_whatever_the_method(
    prepared_sites, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sentence = r"^cuda: no usable GPU on this machine\. Choose the device cpu or auto\.$"
    for method in ("diffusion", "img2img", "none"):
        with pytest.raises(MrharmonyError, match=sentence):
            Harmonizer.from_pretrained(method=method, device="cuda")
    with pytest.raises(MrharmonyError, match=sentence):
        Harmonizer("histogram", device="cuda").fit(*prepared_sites)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    Harmonizer.from_pretrained(device="cuda")


@pytest.mark.parametrize("missing", [None, float("nan"), np.datetime64("NaT"), "", " "])
def test_a_missing_domain_is_no_domain(missing, prepared_sites):
    with pytest.raises(MrharmonyError, match=r"^domains\[1\]: .* names no domain"):
        Harmonizer("histogram").fit(prepared_sites[0], ["A", missing])


def test_domains_are_told_apart_and_may_be_numbers(prepared_sites):
    with pytest.raises(MrharmonyError, match="a1: cannot be told from A-1"):
        Harmonizer("histogram").fit(prepared_sites[0], ["A-1", "a1"])
    assert Harmonizer("histogram").fit(prepared_sites[0], np.array([1, 2])).domains_ == ("1", "2")


def test_composed_letters_and_letters_with_marks_name_one_domain(prepared_sites):
    own = Harmonizer("histogram").fit(prepared_sites[0], ["Z\u00fcrich", "Zu\u0308rich"])
    assert own.domains_ == ("Z\u00fcrich",)
    assert own.harmonize(prepared_sites[0][0], "Zu\u0308rich").job.target.name == "Z\u00fcrich"


@pytest.mark.parametrize("wrong", [np.zeros((9, 9, 9)), [1], b"scan.nii", None, 3, ("a.nii",)], ids=repr)
def test_what_is_no_image_is_refused_in_a_sentence(wrong, shipped, image):
    for call in (
        mrharmony.load,
        mrharmony.check,
        mrharmony.prepare,
        lambda one: shipped.harmonize(one, "LA"),
    ):
        with pytest.raises(MrharmonyError, match=rf"^image: .* {type(wrong).__name__} is no image"):
            call(wrong)
    if not isinstance(wrong, np.ndarray | None):
        with pytest.raises(MrharmonyError, match=r"^brain_mask: .* is no image"):
            mrharmony.prepare(image, brain_mask=wrong)


HALF = np.arange(729.0).reshape(9, 9, 9) > 364


@pytest.mark.parametrize(
    ("voxels", "affine", "sentence"),
    [
        (HALF * 1j, np.eye(4), r"^voxels: holds no real numbers \(complex128\)"),
        (np.ma.masked_array(HALF, HALF), np.eye(4), r"^voxels: has masked entries"),
        (HALF.astype(str), np.eye(4), r"^voxels: holds no real numbers"),
        ([[1, 2], [3]], np.eye(4), r"^voxels: is no array"),
        (HALF[None], np.eye(4), r"^voxels: has the shape \(1, 9, 9, 9\)"),
        (HALF, np.eye(4) * 1j, r"^affine: holds no real numbers"),
        *((HALF, wrong, r"^affine: is no 4×4 matrix") for wrong in (np.eye(3), np.eye(4) * 2, np.eye(4) - 1)),
        (HALF, np.full((4, 4), np.nan), r"^affine: is no 4×4 matrix"),
        (HALF, np.diag([1, 1, 0, 1]), r"^affine: is no 4×4 matrix"),
    ],
)
def test_arrays_of_which_a_part_would_be_dropped_are_no_volume(voxels, affine, sentence):
    with pytest.raises(MrharmonyError, match=sentence):
        Volume(voxels, affine)


@pytest.mark.parametrize("wrong", [HALF * 1j, np.ma.masked_array(HALF, HALF), HALF.astype(str)])
def test_arrays_of_which_a_part_would_be_dropped_are_no_mask(wrong):
    scan = Volume(np.random.default_rng(0).random((9, 9, 9)), np.diag([3.0, 3, 3, 1]))
    with pytest.raises(MrharmonyError, match=r"^brain_mask: (has masked entries|holds no real)"):
        mrharmony.prepare(scan, brain_mask=wrong)


def test_a_mask_in_memory_that_cannot_be_read_is_called_by_its_argument():
    scan = Volume(np.random.default_rng(0).random((9, 9, 9)), np.diag([3.0, 3, 3, 1]))
    holes = Volume(np.where(HALF, np.nan, 1), scan.affine)
    for wrong, sentence in (
        (holes, "Not all voxels are finite"),
        (Volume(HALF[1:], np.eye(4)), "The mask is not on"),
    ):
        with pytest.raises(ScanRefused, match=f"^brain_mask: {sentence}"):
            mrharmony.prepare(scan, brain_mask=wrong)


def test_a_masked_array_without_a_masked_entry_is_an_array():
    assert Volume(np.ma.masked_array(HALF, False), np.eye(4)).voxels.sum() == HALF.sum()


@pytest.mark.parametrize("zoom", [0, -1, 0.1, 50, float("nan"), "2", None])
def test_virtual_scans_have_voxels_of_the_sizes_that_are_documented(zoom):
    with pytest.raises(MrharmonyError, match=r"^zoom: .* Give a number from 0\.7 to 5\."):
        mrharmony.virtual_scan(zoom=zoom)


@pytest.mark.parametrize("wrong", [None, 3, ["mprage-3t"], np.array(["mprage-3t"])], ids=repr)
def test_what_is_no_name_of_a_scanner_is_refused_in_a_sentence(wrong):
    with pytest.raises(MrharmonyError, match=r"no such simulated scanner\. Choose from: .*mprage-3t"):
        mrharmony.virtual_scan(wrong, zoom=4.0)


@pytest.mark.parametrize("wrong", [["NSK"], 3, float("nan"), "", np.array(["NSK", "LA"])], ids=repr)
def test_what_is_no_domain_is_refused_in_a_sentence(wrong, shipped, image):
    with pytest.raises(MrharmonyError, match=r"^target: .* is neither .*NSK"):
        shipped.harmonize(image, wrong)
    with pytest.raises(MrharmonyError, match=r"^source: .* is neither .*NSK"):
        shipped.harmonize(image, "NSK", source=wrong)


def test_one_image_is_no_list_of_images(shipped, prepared_sites, image):
    one = prepared_sites[0][0]
    for single in (
        image,
        "scan.nii.gz",
        Path("scan.nii.gz"),
        one,
        Volume(np.ones((9, 9, 9)), np.eye(4)),
        None,
    ):
        with pytest.raises(MrharmonyError, match=r"^images: a single .* Give a list"):
            shipped.transform(single, "NSK")
        with pytest.raises(MrharmonyError, match=r"^images: a single .* Give a list"):
            Harmonizer("histogram").fit(single, ["A"])
    with pytest.raises(MrharmonyError, match=r"^domains: a single str"):
        Harmonizer("histogram").fit([one, one], "AB")
    with pytest.raises(MrharmonyError, match=r"^sources: a single str"):
        shipped.transform([one, one], "NSK", "LA")


def test_a_sidecar_is_a_target_as_path_too(shipped, image, tmp_path):
    said = {"PulseSequenceType": "mprage", "MagneticFieldStrength": 3, "RepetitionTime": 2.3, "FlipAngle": 9}
    file = tmp_path / "protocol.json"
    file.write_text(json.dumps(said | {"InversionTime": 0.9, "EchoTime": 0.003}))
    names = [shipped._job(target, None).target.name for target in (file, str(file))]
    assert names[0] == names[1]


def test_the_public_names_are_those_that_are_documented():
    assert set(mrharmony.__all__) == {
        "Domain", "Evidence", "Finding", "HarmonizedScan", "Harmonizer", "MrharmonyError", "PreparedScan",
        "Protocol", "Scan", "ScanRefused", "Volume", "__version__", "check", "load", "prepare",
        "read_protocol", "virtual_scan",
    }  # fmt: skip
    for name in mrharmony.__all__:
        assert getattr(mrharmony, name) is not None
    assert set(mrharmony.__all__) <= set(dir(mrharmony))
    with pytest.raises(AttributeError):
        mrharmony.no_such_name  # noqa: B018

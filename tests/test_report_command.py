"""One page on an output folder."""

import base64
import io
import json
import os
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from helpers.pages import assert_balanced
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs import group_images
from mrharmony.jobs.harmonizing import harmonize_scan
from mrharmony.jobs.opening import open_job
from mrharmony.jobs.records import ListedScan, ScanRecord, write_list, write_record
from mrharmony.jobs.reporting import write_report
from mrharmony.jobs.result_names import SUFFIX
from mrharmony.scans.reading import Scan, read_scan
from mrharmony.scans.sidecar import OTHER_IMAGE

PICTURE = re.compile(r"data:image/webp;base64,([A-Za-z0-9+/=]+)")


@pytest.fixture(scope="module")
def harmonized(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study: a copy of the scan and its harmonized version, in folders side by side."""
    study = tmp_path_factory.mktemp("study")
    (study / "raw").mkdir()
    copy = Path(shutil.copy(scan, study / "raw"))
    job = open_job(None, "histogram", "mprage-3t", "spgr-1.5t")
    output = study / "out" / "sub-1" / "anat" / "sub-1_desc-harmonized_T1w.nii.gz"
    assert harmonize_scan(job, copy, output).reason is None
    return study


@pytest.fixture
def study(harmonized: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(harmonized, tmp_path / "study"))


def _note(study: Path) -> Path:
    return study / "out" / "sub-1" / "anat" / "sub-1_desc-harmonized_T1w.json"


def _pictures(page: str) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in PICTURE.findall(page)]


def test_the_page_tells_verdict_drift_and_model_of_every_scan(run, study: Path):
    page = study / "out" / "sub-1" / "anat" / "sub-1_desc-preparation_T1w.html"
    page.write_text(f"<title>{Path(json.loads(_note(study).read_text())['Sources'][0]).name}</title>")
    status, output, _ = run("report", study / "out", "--json")
    note = json.loads(_note(study).read_text())
    assert status == 0
    assert json.loads(output)["verdicts"] == {note["Verdict"]: 1}
    text = (study / "out" / "report.html").read_text("utf-8")
    for wanted in (
        note["Target"],
        note["Source"],
        note["ModelSHA256"],
        f"{note['Drift']['mean_change']:.3f}",
    ):
        assert wanted in text
    assert "href='sub-1/anat/sub-1_desc-preparation_T1w.html'" in text


@pytest.mark.parametrize("name", ["sub-1_desc-preparation_T1w", "sub-1_desc-harmonized_T1w", "sub-1_notes"])
def test_only_pages_that_mrharmony_wrote_are_linked(run, study: Path, name: str):
    foreign = study / "out" / "sub-1" / "anat" / f"{name}.html"
    foreign.write_text("<title>Quality control of sub-1_T1w.nii.gz</title>")
    (study / "out" / "index.html").write_text("<title>My study</title>")
    assert run("report", study / "out")[0] == 0
    text = (study / "out" / "report.html").read_text("utf-8")
    assert foreign.name not in text
    assert "index.html" not in text


def test_the_page_is_sound_and_loads_nothing(study: Path):
    page = write_report(study / "out").page.read_text("utf-8")
    assert "http" not in page
    assert all(source.startswith("data:") for source in re.findall(r"src='([^']*)'", page))
    assert_balanced(page)


def test_source_and_output_are_shown_one_above_the_other(study: Path):
    written = write_report(study / "out")
    (picture,) = _pictures(written.page.read_text("utf-8"))
    assert not written.remarks
    before, after = np.split(picture.astype(float), 2)
    brain = (before > 30) & (after > 30)
    assert brain.mean() > 0.3
    assert 3 < np.abs(before - after)[brain].mean() < 60


def test_a_folder_that_moved_as_a_whole_still_finds_its_sources(study: Path, tmp_path: Path):
    shutil.move(study, tmp_path / "elsewhere")
    assert not write_report(tmp_path / "elsewhere" / "out").remarks


def test_without_its_source_the_output_is_shown_alone_and_told(run, study: Path):
    shutil.rmtree(study / "raw")
    status, output, _ = run("report", study / "out")
    assert status == 0
    assert "not there any more" in output
    page = (study / "out" / "report.html").read_text("utf-8")
    assert len(_pictures(page)) == 1
    assert "not there any more" in page


def test_a_lost_output_is_named_and_has_no_picture(study: Path):
    lost = _note(study).with_name("sub-1_desc-harmonized_T1w.nii.gz")
    lost.unlink()
    written = write_report(study / "out")
    (remark,) = written.remarks.values()
    assert f"{lost}: the image or its JSON file is gone." in remark
    page = written.page.read_text("utf-8")
    assert "1 scan without a result" in page
    assert not _pictures(page)


def test_a_damaged_sidecar_is_named_and_others_are_shown(study: Path):
    _note(study).with_name("sub-2_desc-harmonized_T1w.json").write_text("{")
    odd = _note(study).with_name("sub-3_desc-harmonized_T1w.json")
    odd.write_text(json.dumps(json.loads(_note(study).read_text()) | {"IntensityScale": "bright"}))
    written = write_report(study / "out")
    page = written.page.read_text("utf-8")
    assert "sub-2_desc-harmonized_T1w.json" in page
    assert "sub-3_desc-harmonized_T1w.json" in page
    assert "IntensityScale: " in written.remarks[str(odd.relative_to(study / "out"))]
    assert len(_pictures(page)) == 1


def test_a_result_without_its_sidecar_is_named(run, study: Path):
    lone = _note(study).with_name("sub-2_desc-harmonized_T1w.nii.gz")
    lone.symlink_to("nowhere")
    remarks = json.loads(run("report", study / "out", "--json")[1])["remarks"]
    assert "has no JSON file beside it" in remarks[str(lone.relative_to(study / "out"))]
    _note(study).unlink()
    status, _, errors = run("report", study / "out")
    assert (status, "no harmonized scans with their JSON files here" in errors) == (2, True)


def test_an_image_that_its_sidecar_was_not_written_with_counts_as_damaged(study: Path):
    assert write_report(study / "out").verdicts != {}
    output = _note(study).with_name("sub-1_desc-harmonized_T1w.nii.gz")
    image = nib.load(output)
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32) * 0.5, image.affine), output)
    written = write_report(study / "out")
    assert written.remarks == {"sub-1": OTHER_IMAGE}
    assert written.verdicts == {}
    page = written.page.read_text("utf-8")
    assert "1 scan without a result" in page
    assert f"damaged: {OTHER_IMAGE}" in page


def test_names_are_escaped(study: Path):
    note = json.loads(_note(study).read_text())
    _note(study).write_text(json.dumps(note | {"Target": "<b>bold"}))
    page = write_report(study / "out").page.read_text("utf-8")
    assert "&lt;b&gt;bold" in page
    assert "<b>bold" not in page


def test_a_folder_without_results_is_told(run, tmp_path: Path):
    status, _, errors = run("report", tmp_path)
    assert status == 2
    assert "no harmonized scans" in errors
    with pytest.raises(MrharmonyError, match="not a folder"):
        write_report(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def test_scans_without_a_result_are_read_from_their_records(run, study: Path):
    (study / "out" / "participants.tsv").write_text("participant_id\tsite\nsub-1\tLA\nsub-2\tHH\n")
    names = {person: f"sub-{person}/anat/sub-{person}" for person in ("1", "2")}
    listed = [
        ListedScan(f"{name}_T1w.nii.gz", f"{name}{SUFFIX}", person, None, {"2": "HH"}.get(person))
        for person, name in names.items()
    ]
    write_list(study / "out", listed)
    for scan, status in zip(listed, ("done", "refused"), strict=True):
        reason = "sub-2_T1w.nii.gz: is empty." if status == "refused" else None
        write_record(
            study / "out", ScanRecord(scan=scan.scan, output=scan.output, status=status, reason=reason)
        )
    page = write_report(study / "out").page.read_text("utf-8")
    assert "<strong>sub-2</strong> (HH), refused: sub-2_T1w.nii.gz: is empty." in page
    assert page.count("refused:") == 1
    assert "<td>LA</td>" in page


def test_an_unusable_table_of_participants_is_told(study: Path):
    (study / "out" / "participants.tsv").write_text("who\tsite\n1\tLA\n")
    written = write_report(study / "out")
    assert "no column participant_id" in written.remarks["participants.tsv"]


def test_a_whole_head_has_a_picture_and_is_not_measured(study: Path):
    note = json.loads(_note(study).read_text())
    _note(study).write_text(json.dumps(note | {"Extent": "head"}))
    written = write_report(study / "out")
    assert "does not say where the brain is" in written.remarks["sub-1"]
    assert len(_pictures(written.page.read_text("utf-8"))) == 1


def test_the_group_level_writes_table_page_and_methods_text(run, study: Path):
    options = ("--to", "LA", "--participant-label", "9", "--skip-bids-validation")
    status, output, errors = run("bids", study / "raw", study / "out", "group", *options)
    assert (status, errors.splitlines()[0]) == (
        0,
        "group: --to, --participant-label are of the participant level, and not used.",
    )
    assert output.split() == [str(study / "out" / name) for name in ("group.tsv", "report.html")]
    assert (study / "out" / "report.html").is_file()
    assert "The method histogram" in (study / "out" / "CITATION.md").read_text("utf-8")
    assert (study / "out" / "CITATION.bib").read_text("utf-8").startswith("@misc{mrharmony,")
    (study / "run.toml").write_text('to = "LA"\n')
    assert (
        run("bids", study / "raw", study / "out", "group", "--config", study / "run.toml", "--json")[2] == ""
    )


def _counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list of the images that pages open from now on."""
    opened: list[Path] = []

    def read(path: Path, **options: bool) -> Scan:
        opened.append(path)
        return read_scan(path, **options)

    monkeypatch.setattr(group_images, "read_scan", read)
    return opened


def test_images_that_a_page_has_shown_stay_closed_for_the_next(study: Path, monkeypatch):
    (study / "out" / "logs").mkdir()
    first = write_report(study / "out").page.read_bytes()
    opened = _counted_reads(monkeypatch)
    assert write_report(study / "out").page.read_bytes() == first
    assert opened == []


@pytest.mark.parametrize("changed", ["result", "source", "sidecar", "kept looks"])
def test_what_has_changed_since_is_looked_at_again(study: Path, monkeypatch, changed: str):
    (study / "out" / "logs").mkdir()
    write_report(study / "out")
    (kept,) = (study / "out" / "logs" / "looks").rglob("*.json")
    raw = next((study / "raw").iterdir())
    if changed == "sidecar":
        note = json.loads(_note(study).read_text())
        _note(study).write_text(json.dumps(note | {"IntensityScale": 2 * note["IntensityScale"]}))
    elif changed == "kept looks":
        kept.write_text(kept.read_text()[:-100])
    else:
        file = raw if changed == "source" else _note(study).with_suffix(".nii.gz")
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)  # a new file of the same size, which may hold other voxels
    opened = _counted_reads(monkeypatch)
    write_report(study / "out")
    assert len(opened) == 2
    write_report(study / "out")
    assert len(opened) == 2


def test_a_look_at_which_something_was_amiss_is_not_kept(study: Path, monkeypatch):
    (study / "out" / "logs").mkdir()
    source = next((study / "raw").iterdir())
    hidden = source.rename(study / "hidden.nii.gz")
    assert "The output alone" in str(write_report(study / "out").remarks)
    hidden.rename(source)
    assert write_report(study / "out").remarks == {}


def test_kept_looks_and_records_of_a_folder_below_are_no_results(study: Path):
    (study / "out" / "logs").mkdir()
    write_report(study / "out")
    looks = study / "out" / "logs" / "looks"
    shutil.copytree(looks, study / "out" / "logs" / "scans")
    assert list(looks.rglob("*.json"))
    assert write_report(study).remarks == {}


def test_without_a_folder_of_records_nothing_is_left_beside_the_page(study: Path):
    before = set((study / "out").iterdir())
    page = write_report(study / "out").page
    assert set((study / "out").iterdir()) - before == {page}


def test_a_whole_head_is_looked_at_once(study: Path, monkeypatch):
    note = json.loads(_note(study).read_text())
    _note(study).write_text(json.dumps(note | {"Extent": "head"}))
    (study / "out" / "logs").mkdir()
    first = write_report(study / "out")
    opened = _counted_reads(monkeypatch)
    assert write_report(study / "out").remarks == first.remarks != {}
    assert opened == []


def test_looks_are_kept_of_names_that_are_not_utf_8(study: Path, monkeypatch):
    (study / "out" / "logs").mkdir()
    strange = os.fsdecode(b"sub-\xff_desc-harmonized_T1w")
    for suffix in (".json", ".nii.gz"):
        _note(study).with_suffix(suffix).rename(_note(study).with_name(strange + suffix))
    write_report(study / "out")
    opened = _counted_reads(monkeypatch)
    write_report(study / "out")
    assert opened == []

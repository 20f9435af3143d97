"""The page of one harmonized scan: what it tells, and that it works in a browser without a network."""

import base64
import gzip
import json
import re
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from helpers.pages import assert_accessible, assert_balanced
from mrharmony.evidence.verdict import LIMITS
from mrharmony.jobs.harmonizing import discard_result, harmonize_scan
from mrharmony.jobs.opening import open_job
from mrharmony.jobs.participants import EVERYTHING, run_participants
from mrharmony.jobs.result_names import page_path
from mrharmony.jobs.sources import Sources
from mrharmony.networks.card import read_card
from mrharmony.report.charts import gauge
from mrharmony.report.scan_page import CITATION, MEANINGS, source_sentence, verdict_sentence
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.sidecar import HarmonizedSidecar, read_harmonized
from mrharmony.weights import shipped_model

NIIVUE = "@niivue/niivue@0.69.0"
NOTE = HarmonizedSidecar(
    schema_version=1,
    target="NSK",
    method="diffusion",
    intensity_scale=1.0,
    sources=(),
    drift={},
    verdict="pass",
)


@pytest.fixture(scope="module")
def output(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A harmonized scan with its page."""
    folder = tmp_path_factory.mktemp("page")
    output = folder / "sub-1_desc-harmonized_T1w.nii.gz"
    job = replace(open_job(None, "histogram", "mprage-3t", "spgr-1.5t"), page=True)
    assert harmonize_scan(job, scan, output).reason is None
    return output


@pytest.fixture(scope="module")
def page(output: Path) -> str:
    return page_path(output).read_text("utf-8")


def test_the_page_is_sound_small_and_names_no_other_file(page: str):
    assert_balanced(page)
    assert len(page) < 2_000_000
    assert "http" not in page
    assert not re.search(r"<(link|script|img|iframe)[^>]*\s(src|href)=", page)


def test_the_page_tells_verdict_source_figures_and_provenance(page: str, output: Path):
    note = read_harmonized(output.with_name("sub-1_desc-harmonized_T1w.json"))
    assert note
    for wanted in (verdict_sentence(note), source_sentence(note), note.target, str(note.model_sha256)):
        assert wanted in page
    assert all(f"<strong>{MEANINGS[name][0]}: " in page for name in LIMITS if note.drift[name] is not None)


def test_a_page_goes_with_its_result(output: Path, tmp_path: Path):
    copy = Path(shutil.copytree(output.parent, tmp_path / "copy")) / output.name
    assert page_path(copy).is_file()
    discard_result(copy)
    assert list(copy.parent.iterdir()) == []


def test_a_page_that_a_killed_run_lacks_is_written_by_the_next(cohort: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("mrharmony.report.scan_page.scan_page", lambda *_: "a page")
    index = BidsIndex.open(cohort, "session")
    index = replace(index, scans=index.scans[:1])
    job = replace(open_job(None, "histogram", "mprage-3t", "spgr-1.5t"), page=True)
    for _ in range(2):
        (outcome,) = run_participants(index, tmp_path, EVERYTHING, job, Sources(read_card(shipped_model())))
        assert page_path(outcome.output).read_text() == "a page"
        page_path(outcome.output).unlink()


def test_every_limit_has_a_name_and_a_meaning():
    assert set(MEANINGS) == set(LIMITS)


@pytest.mark.parametrize(
    ("name", "figure", "state"),
    [
        ("edge_correlation", 0.97, "within"),
        ("edge_correlation", 0.7, "warns"),
        ("edge_correlation", 0.2, "fails"),
        ("grey_drift", -0.06, "warns"),
        ("grey_drift", -0.0, "within"),
        ("target_distance", 9.0, "warns"),
        ("new_structure", float("nan"), "fails"),
    ],
)
def test_a_figure_lies_on_the_side_of_its_limits_that_the_verdict_says(name: str, figure: float, state: str):
    drawn = gauge("name", "meaning", figure, LIMITS[name])
    assert drawn.state == state
    assert (drawn.place > drawn.warn) == (state != "within")
    assert drawn.fail is None or (drawn.place > drawn.fail) == (state == "fails")
    assert not drawn.value.startswith("-0.000")


def test_the_verdict_names_figure_limit_and_finding_in_one_sentence():
    finding = {"level": "warning", "code": "strange-source", "message": "It looks odd.", "fix": ""}
    doubtful = NOTE.model_copy(
        update={
            "verdict": "warn",
            "drift": {"grey_drift": 0.056},
            "verdict_reasons": ("grey_drift", "strange-source"),
            "findings": (finding,),
        }
    )
    assert verdict_sentence(doubtful) == (
        "Look at this scan before you use it: volume of grey matter: 0.056, beyond 0.051; It looks odd."
    )
    failed = NOTE.model_copy(
        update={
            "verdict": "fail",
            "drift": {"edge_correlation": 0.5},
            "verdict_reasons": ("edge_correlation",),
        }
    )
    assert "edges: 0.500, below 0.68" in verdict_sentence(failed)


def test_a_sidecar_that_says_nothing_of_the_source_is_told_so():
    assert "not given" in source_sentence(NOTE)
    far = NOTE.model_copy(update={"nearest_domain": "LA", "source_distance": 0.03})
    assert "too far" in source_sentence(far)
    assert "stand in for it;" in source_sentence(far.model_copy(update={"source_distance": 0.02}))


def test_the_citation_is_that_of_the_repository():
    cff = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text("utf-8"))
    (paper,) = cff["references"]
    assert paper["title"] in CITATION
    assert all(f"{a['family-names']} {a['given-names'][0]}" in CITATION for a in paper["authors"])
    assert paper["institution"]["name"] in CITATION


@pytest.fixture
def opened(open_page: Any, output: Path) -> Any:
    """The page in a browser."""
    tab = open_page(page_path(output))
    tab.wait_for_selector("#viewer[data-ready]")
    return tab


def _picture(tab: Any, number: int = 0) -> str:
    """Return a panel's picture as a data URI."""
    return str(tab.evaluate("n => document.querySelectorAll('#panels canvas')[n].toDataURL()", number))


def test_before_after_and_example_are_shown_on_three_planes(opened: Any):
    assert opened.locator("#panels canvas").count() == 9
    assert len({_picture(opened, number) for number in range(9)}) == 9


def test_letters_name_the_sides_that_the_coordinates_tell(opened: Any):
    opened.set_viewport_size({"width": 1400, "height": 2000})  # every panel in view
    signs = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1)}  # axis and sign of RAS mm
    for number in (0, 3, 6):  # the first panel of each plane
        picture = opened.locator("#panels .picture").nth(number)
        for letter in picture.locator("span").all():
            axis, sign = signs[letter.inner_text()]
            spot, box = letter.bounding_box(), picture.bounding_box()
            opened.mouse.move(spot["x"] + spot["width"] / 2, box["y"] + box["height"] / 2)
            told = opened.inner_text("#values").removeprefix("At ").split(" mm:")[0].split(", ")
            assert float(told[axis]) * sign > 20


def test_slices_scroll_by_keyboard_and_by_wheel(opened: Any):
    first = _picture(opened)
    opened.focus("#slice-axial")
    opened.keyboard.press("ArrowRight")
    second = _picture(opened)
    opened.hover("#panels canvas >> nth=0")
    opened.mouse.wheel(0, -100)
    opened.wait_for_function(
        "old => document.querySelector('#panels canvas').toDataURL() !== old", arg=second
    )
    assert len({first, second, _picture(opened)}) == 3


def test_slider_flicker_and_difference_change_the_picture(opened: Any):
    opened.check("input[value=slider]")
    opened.focus("#split")
    opened.keyboard.press("Home")
    after = _picture(opened)
    opened.keyboard.press("End")
    assert _picture(opened) != after
    opened.check("input[value=flicker]")
    opened.click("#flicker")
    assert opened.get_attribute("#flicker", "aria-pressed") == "false"
    before = _picture(opened)
    opened.click("#swap")
    assert _picture(opened) != before
    opened.check("input[value=difference]")
    assert opened.is_visible(".legend.difference")
    assert not opened.is_visible("#flicker")


def test_the_page_fits_a_telephone(opened: Any):
    opened.set_viewport_size({"width": 400, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400


def test_nothing_hinders_people_with_disabilities(opened: Any):
    assert_accessible(opened)
    for mode in ("slider", "flicker", "difference", "raw"):
        opened.locator(f"input[value='{mode}']").check()
        assert_accessible(opened)


@pytest.fixture(scope="module")
def niivue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NiiVue's file, as its users get it."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm to get NiiVue: apt-get install npm")
    folder = tmp_path_factory.mktemp("niivue")
    words = ["npm", "pack", "--silent", NIIVUE]
    got = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if got.returncode:
        pytest.skip(f"needs {NIIVUE} from the registry of npm: {got.stderr.strip()[-200:]}")
    with tarfile.open(folder / got.stdout.split()[-1]) as archive:
        archive.extract("package/dist/niivue.umd.js", folder, filter="data")
    return folder / "package" / "dist" / "niivue.umd.js"


def test_niivue_shows_before_and_after_on_the_scans_own_voxels(
    open_page: Any, niivue: Path, scan: Path, tmp_path: Path
):
    output = tmp_path / "sub-1_desc-harmonized_T1w.nii.gz"
    job = replace(open_job(None, "histogram", "mprage-3t", "spgr-1.5t"), page=True, viewer=niivue)
    assert harmonize_scan(job, scan, output).reason is None
    text = page_path(output).read_text("utf-8")
    assert len(text) < 8_000_000
    volumes = json.loads(text.split("<script type='application/json' id='niivue-volumes'>")[1].split("<")[0])
    after = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(volumes["volumes"]["after"])))
    written = nib.load(output)
    corner = np.linalg.inv(written.affine) @ after.affine @ [0, 0, 0, 1]
    np.testing.assert_allclose(corner[:3], np.rint(corner[:3]), atol=1e-4)
    box = tuple(slice(int(n), int(n) + size) for n, size in zip(np.rint(corner), after.shape, strict=False))
    note = read_harmonized(output.with_name("sub-1_desc-harmonized_T1w.json"))
    assert note
    wanted = np.clip(written.get_fdata()[box] / note.intensity_scale, 0, volumes["brightest"])
    np.testing.assert_allclose(after.get_fdata(), wanted, atol=volumes["brightest"] / 127)
    tab = open_page(page_path(output))
    tab.get_by_role("button", name="Open the viewer").click()
    tab.wait_for_function("document.getElementById('niivue-state').textContent === ''", timeout=60_000)
    canvas = tab.locator("#niivue-canvas")
    shown = canvas.screenshot()
    tab.locator("input[name=niivue-volume][value='0']").check()
    tab.wait_for_timeout(300)
    assert canvas.screenshot() != shown
    assert_accessible(tab)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"export class Niivue {}"])
def test_what_is_not_niivue_is_refused_before_anything_is_written(
    run, scan: Path, tmp_path: Path, content: bytes | None
):
    file = tmp_path / "niivue.umd.js"
    if content is not None:
        file.write_bytes(content)
    arguments = ("--to", "LA", "--method", "none", "--viewer", file, "--output", tmp_path / "out")
    status, _, errors = run("harmonize", scan, *arguments)
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.startswith(f"mrharmony: {file}: ")
    assert "`npm pack @niivue/niivue`" in errors
    assert not (tmp_path / "out").exists()

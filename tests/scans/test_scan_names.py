"""Outputs are named after their scan, and after anything else by names that every file system takes."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mrharmony.core import progress
from mrharmony.core.findings import MrharmonyError
from mrharmony.scans import names
from mrharmony.scans.names import LONGEST_NAME, file_name, find_scans, output_stem, scan_suffix

NAMES = st.text(st.characters() | st.sampled_from("/\\.-_ %\0\n:*aA\u0301"), max_size=300)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("sub-01_T1w.nii.gz", "sub-01"),
        ("folder.v2/sub-01_ses-a_run-1_T1w.nii", "sub-01_ses-a_run-1"),
        ("sub-01_ses-a_UNIT1.nii.gz", "sub-01_ses-a"),
        ("T1.mgz", "T1"),
        ("T1w.nii.gz", "T1w"),
        ("my head.v2.NII.GZ", "my head.v2"),
        ("orig.mgh", "orig"),
    ],
)
def test_an_output_is_named_after_the_scan_without_suffix_and_t1w(name, stem):
    assert output_stem(name) == stem


def test_the_longest_suffix_counts():
    assert scan_suffix("a.nii.gz") == ".nii.gz"
    assert scan_suffix("a.NII") == ".nii"
    assert scan_suffix("a.gz") is None


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_NSK",
        "ADNI 2",
        "mprage-1.5t",
        "Zürich",
        "東京",
        "A&B (new), 3T",
        "site~1",
        "a" * LONGEST_NAME,
        "nullius",
    ],
)
def test_usual_names_stay_as_they_are(name):
    assert file_name(name) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a/../../OUTSIDE", "a%2F..%2F..%2FOUTSIDE"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("", "%"),
        ("50%", "50%25"),
        ("a\0b\n", "a%00b%0A"),
        ("-rf", "%2Drf"),
        (".hidden", "%2Ehidden"),
        ("trailing. ", "trailing.%20"),
        ("C:\\x", "C%3A%5Cx"),
        ("nul.txt", "%6Eul.txt"),
        ("Com1", "%43om1"),
        ("e\u0301", "e%CC%81"),
        ("\udcff", "%ED%B3%BF"),
    ],
)
def test_other_names_are_written_out(name, safe):
    assert file_name(name) == safe


@given(NAMES)
@example("x" * 1000 + "/..")
@example("東" * 200)
def test_a_safe_name_is_one_part_of_a_path_on_every_file_system(name):
    safe = file_name(name)
    assert Path("folder", safe).parts == ("folder", safe)
    assert safe not in (".", "..")
    assert not set(safe) & set('<>:"/\\|?*') and safe.isprintable()
    assert safe[0] not in " .-" and safe[-1] not in " ."
    assert len(os.fsencode(f"{safe}.json")) < 255
    assert unicodedata.is_normalized("NFC", safe)
    assert safe.split(".")[0].casefold() not in ("con", "nul", "aux", "prn", "com1", "lpt9")


@given(st.lists(NAMES | st.text("/.% -a2F", max_size=4), unique=True, max_size=20))
@example(["a/b", "a%2Fb", "a%252Fb", "", "%", "%25"])
@example(["y" * 400, "y" * 401, "y" * 120])
def test_different_names_stay_different(names):
    assert len({file_name(name) for name in names}) == len(names)


def test_images_in_two_files_are_found_by_their_voxels(tmp_path):
    for name in (
        "a.nii.gz",
        "b.img",
        "b.hdr",
        "c.IMG",
        "c.HDR",
        "disk.img",
        "photo.hdr",
        "d.img.gz",
        "d.hdr.gz",
        "new\nline.img",
        "new\nline.hdr",
    ):
        (tmp_path / name).touch()
    found = [path.name for path in find_scans([tmp_path]).scans]
    assert found == ["a.nii.gz", "b.img", "c.IMG", "d.img.gz", "new\nline.img"]


def test_derivatives_label_maps_and_masks_are_no_scans_unless_they_are_named(tmp_path):
    folder = tmp_path / "derivatives" / "truth"
    folder.mkdir(parents=True)
    scan, mask = tmp_path / "sub-1_T1w.nii.gz", tmp_path / "sub-1_desc-brain_mask.nii.gz"
    labels, image = folder / "sub-1_dseg.nii.gz", folder / "sub-1_desc-harmonized_T1w.nii.gz"
    for file in (scan, mask, labels):
        file.touch()
    assert find_scans([tmp_path]) == ([scan], [folder.parent, mask])
    assert find_scans([mask, labels]) == ([mask, labels], [])
    with pytest.raises(MrharmonyError, match="no scans in this folder but derivatives, label maps or masks"):
        find_scans([folder])
    image.touch()
    assert find_scans([folder]) == ([image], [labels])


def test_the_search_of_a_disk_says_that_it_goes_on_and_leaves_out_what_is_no_disk(
    tmp_path, monkeypatch, capsys
):
    for folder in ("study", "proc"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.nii.gz").touch()
    monkeypatch.setattr(names, "_NO_DISK", {str(tmp_path / "proc")})
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    assert find_scans([tmp_path]).scans == [tmp_path / "study" / "a.nii.gz"]
    assert capsys.readouterr().err.splitlines()[-1] == f"searching folders of {tmp_path}: 2 of ?"

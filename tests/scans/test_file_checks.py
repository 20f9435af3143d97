"""Paths that cannot be scans are told apart, each with its remedy."""

import os

import nibabel as nib
import pytest

from mrharmony.core.findings import ScanRefused
from mrharmony.scans.reading import check_scan, read_scan
from mrharmony.scans.stream import unreadable


def only_error(path):
    (finding,) = check_scan(path)
    assert finding.level == "error"
    assert finding.message.endswith(".")
    assert finding.fix.endswith(".")
    return finding


def test_a_sound_scan_has_no_findings(make):
    for name in ("a.nii", "a.nii.gz", "A.NII.GZ", "ünï cödé/../b c.nii"):
        (make.folder / "ünï cödé").mkdir(exist_ok=True)
        assert check_scan(make.nifti(name)) == ()


def test_a_missing_file_is_told(tmp_path):
    assert only_error(tmp_path / "absent.nii.gz").code == "missing-file"
    assert only_error("nul\0byte.nii.gz").code == "missing-file"


def test_a_path_through_a_file_is_missing(make):
    assert only_error(make.nifti() / "below.nii").code == "missing-file"


def test_an_impossible_path_is_unreadable(tmp_path):
    assert only_error(tmp_path / ("x" * 300 + ".nii")).code == "unreadable"


def test_a_broken_link_names_datalad(tmp_path):
    link = tmp_path / "scan.nii.gz"
    link.symlink_to(tmp_path / "annex" / "gone")
    finding = only_error(link)
    assert finding.code == "broken-link"
    assert "datalad get" in finding.fix


@pytest.mark.parametrize("name", ["loop.nii.gz", "loop.nii.gz/scan.nii.gz"])
def test_a_link_that_leads_to_itself_is_told_as_such(tmp_path, name):
    loop = tmp_path / "loop.nii.gz"
    loop.symlink_to(loop.name)
    finding = only_error(tmp_path / name)
    assert (finding.code, finding.message) == ("link-to-itself", f"{loop} is a link that leads to itself.")


def test_a_link_to_a_scan_is_read(make):
    link = make.folder / "link.nii"
    link.symlink_to(make.nifti())
    assert check_scan(link) == ()


def test_a_folder_is_not_a_scan(tmp_path):
    finding = only_error(tmp_path)
    assert finding.code == "is-directory"
    assert "DICOM files alone is for `mrharmony prepare` or `mrharmony harmonize`" in finding.fix


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")
    assert only_error(tmp_path / "pipe.nii").code == "not-a-file"


def test_a_nifti_2_whose_line_end_mark_is_damaged_is_refused(make):
    content = bytearray(make.nifti_bytes(kind=nib.Nifti2Image))
    content[8] = 0
    finding = only_error(make.file("text-mode.nii", bytes(content)))
    assert finding.code == "damaged-in-transfer"


def test_an_empty_file_is_told(tmp_path):
    (tmp_path / "scan.nii.gz").touch()
    assert only_error(tmp_path / "scan.nii.gz").code == "empty-file"


def test_a_lack_of_permission_is_told():
    finding = unreadable(PermissionError(13, "Permission denied"))
    assert (finding.level, finding.code) == ("error", "unreadable")
    assert "permitted" in finding.message
    assert "Input/output error" in unreadable(OSError(5, "Input/output error")).message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_refused(make):
    path = make.nifti()
    path.chmod(0)
    assert only_error(path).code == "unreadable"


@pytest.mark.parametrize("name", ["scan.dcm", "scan", "scan.nii.bz2", "T1w.json"])
def test_an_unknown_suffix_names_the_known_ones(tmp_path, name):
    (tmp_path / name).write_bytes(b"content")
    finding = only_error(tmp_path / name)
    assert finding.code == "unknown-suffix"
    assert ".nii.gz" in finding.message


@pytest.mark.parametrize("name", ["scan.hdr", "scan.img", "scan.img.gz"])
def test_a_split_image_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"content")
    assert only_error(tmp_path / name).code == "split-image"


def test_a_pointer_in_place_of_the_scan_is_recognised(tmp_path):
    for content in (
        b"/annex/objects/MD5E-s123--abc.nii.gz\n",
        b"version https://git-lfs.github.com/spec/v1\n",
    ):
        (tmp_path / "scan.nii.gz").write_bytes(content)
        assert only_error(tmp_path / "scan.nii.gz").code == "content-missing"


@pytest.mark.parametrize(("written", "named"), [("s.nii", ".nii.gz"), ("s.nii.gz", ".nii")])
def test_a_name_that_belies_the_compression_is_told_with_the_right_name(make, written, named):
    path = make.nifti(written)
    liar = path.rename(make.folder / f"liar{named}")
    finding = only_error(liar)
    assert finding.code == "compression-mismatch"
    assert (
        f"copy or link it under a name that ends in {'.nii' if named == '.nii.gz' else '.nii.gz'};"
        in finding.fix
    )


def test_a_refusal_is_one_sentence_with_file_fault_and_remedy(tmp_path):
    with pytest.raises(ScanRefused) as refusal:
        read_scan(tmp_path / "absent.nii.gz")
    assert str(refusal.value) == (
        f"{tmp_path}/absent.nii.gz: There is no such file. Check the path for a typing mistake."
    )
    assert [finding.code for finding in refusal.value.findings] == ["missing-file"]

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from benchmarks._shared.dicom_files import PATIENT, write_series
from pydicom import Dataset, FileDataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    JPEG2000Lossless,
    MRSpectroscopyStorage,
    RawDataStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from scipy.spatial.transform import Rotation

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.scans.dicom import KEPT_KEYS, convert_dicom, is_dicom_folder, scan_among_dicom
from mrharmony.scans.dicom_checks import image_findings
from mrharmony.scans.dicom_choice import Candidate, likely_t1w
from mrharmony.scans.dicom_files import read_folder
from mrharmony.scans.reading import read_scan

T2 = {"SeriesDescription": "t2_space_sag", "ScanningSequence": "SE", "EchoTime": "400"}


@pytest.fixture(scope="module")
def volume() -> Volume:
    """A smooth block with a corner that is brighter, sagittal, oblique, 4 mm."""
    i, j, k = np.indices((36, 40, 30)) / 30
    voxels = 100 + 400 * i * j + 300 * (k > 0.5) * (j > 0.7) + 90 * k
    turn = np.radians(10)
    affine = np.array([[0, 0, 3.5, -50], [3.5, 0, 0, -60], [0, 3.5, 0, -70], [0, 0, 0, 1.0]])
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    return Volume(voxels.astype(np.float32), rotation @ affine)


@pytest.fixture(scope="module")
def examination(volume: Volume, tmp_path_factory) -> Path:
    """A localizer, a T1w and a T2w series, files mixed in one folder."""
    folder = tmp_path_factory.mktemp("examination") / "DOE_JANE_19500102"
    write_series(folder, Volume(volume.voxels[:, :, 14:17], volume.affine), 1, SeriesDescription="localizer")
    write_series(folder, volume, 4)
    write_series(folder, volume, 5, **T2)
    return folder


def assert_shows(scan: Path, volume: Volume) -> None:
    """Check the voxel counts of a converted scan, and intensities and places of some voxels."""
    made = read_scan(scan).volume
    assert sorted(made.shape) == sorted(volume.shape)
    to_made = np.linalg.inv(made.affine) @ volume.affine
    for corner in ((2, 3, 4), (30, 35, 25), (5, 33, 8), (30, 4, 27)):
        i, j, k = np.round((to_made @ [*corner, 1])[:3]).astype(int)
        wanted = volume.voxels[corner] * 4000 / volume.voxels.max()
        assert made.voxels[i, j, k] == pytest.approx(wanted, abs=0.6)
        np.testing.assert_allclose(made.affine @ [i, j, k, 1], volume.affine @ [*corner, 1], atol=0.01)


def test_the_t1w_series_is_found_and_lies_where_the_scanner_put_it(
    examination: Path, volume: Volume, tmp_path: Path
):
    assert_shows(convert_dicom(examination, tmp_path / "sub-01_T1w.nii.gz"), volume)


def test_nothing_that_identifies_is_kept(examination: Path, tmp_path: Path):
    path = convert_dicom(examination, tmp_path / "sub-01_T1w.nii.gz")
    sidecar = json.loads((tmp_path / "sub-01_T1w.json").read_text())
    assert set(sidecar) <= {*KEPT_KEYS, "ImageSHA256"}
    assert sidecar["Manufacturer"] == "Siemens"
    assert sidecar["EchoTime"] == pytest.approx(0.003)
    kept = bytes(read_scan(path).header.binaryblock) + (tmp_path / "sub-01_T1w.json").read_bytes()
    for secret in (*re.split(r"\^", PATIENT), "4711", "1950", "2020", "1011", "Elsewhere", "mprage"):
        assert secret.encode() not in kept
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sub-01_T1w.json", "sub-01_T1w.nii.gz"]


def test_converting_again_keeps_the_scan_and_never_replaces_another(examination: Path, tmp_path: Path):
    path = convert_dicom(examination, tmp_path / "sub-01_T1w.nii.gz")
    before = path.stat().st_mtime_ns
    convert_dicom(examination, path)
    assert path.stat().st_mtime_ns == before
    path.write_bytes(b"precious")
    with pytest.raises(MrharmonyError, match="another scan"):
        convert_dicom(examination, path)
    assert path.read_bytes() == b"precious"


@pytest.mark.skipif(os.name != "posix", reason="named pipes are of POSIX")
def test_a_pipe_among_the_files_is_not_waited_for(volume: Volume, tmp_path: Path):
    write_series(tmp_path / "examination", volume, 4)
    os.mkfifo(tmp_path / "examination" / "pipe.dcm")
    assert_shows(convert_dicom(tmp_path / "examination", tmp_path / "sub-01_T1w.nii.gz"), volume)


def test_a_series_is_listed_by_the_beginning_of_a_long_name(volume: Volume, tmp_path: Path):
    write_series(tmp_path / "examination", volume, 4, **{**T2, "SeriesDescription": "T2 " + "a" * 4000})
    with pytest.raises(
        MrharmonyError, match=r"no series may be the T1w scan .*in voxels of 3\.5 mm at most"
    ) as refusal:
        convert_dicom(tmp_path / "examination", tmp_path / "sub-01_T1w.nii.gz")
    assert len(str(refusal.value)) < 600


def test_several_t1w_series_are_listed_and_one_is_chosen_by_its_number(volume: Volume, tmp_path: Path):
    write_series(tmp_path / "exam", volume, 4)
    write_series(tmp_path / "exam", volume, 7, SeriesDescription="t1_mprage_repeat")
    with pytest.raises(
        MrharmonyError,
        match=r"2 series.*Choose one with series=\.\.\..*4: t1_mprage_sag_p2.*7: t1_mprage_repeat",
    ):
        convert_dicom(tmp_path / "exam", tmp_path / "scan.nii.gz")
    convert_dicom(tmp_path / "exam", tmp_path / "scan.nii.gz", series=7)
    with pytest.raises(MrharmonyError, match=r"no series of number 9.*4: t1"):
        convert_dicom(tmp_path / "exam", tmp_path / "scan.nii.gz", series=9)


def test_a_folder_that_is_no_examination_is_told(tmp_path: Path):
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM" + bytes(50))
    assert is_dicom_folder(tmp_path, tmp_path / "out")
    with pytest.raises(MrharmonyError, match="dcm2niix converted nothing"):
        convert_dicom(tmp_path, tmp_path / "out" / "scan.nii.gz")
    assert not (tmp_path / "out").exists()


def test_folders_with_scans_and_empty_folders_are_not_dicom(examination: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert is_dicom_folder(examination, out)
    assert not is_dicom_folder(tmp_path, out)
    assert not is_dicom_folder(next(examination.iterdir()), out)
    (tmp_path / "a.dcm").write_bytes(b"")
    (tmp_path / "a.nii.gz").write_bytes(b"")
    assert not is_dicom_folder(tmp_path, out)
    assert scan_among_dicom(tmp_path, out) == tmp_path / "a.nii.gz"


def test_what_an_earlier_call_wrote_into_a_dicom_folder_does_not_count(tmp_path: Path):
    exam, out = tmp_path / "exam", tmp_path / "exam" / "a" / "out"
    out.mkdir(parents=True)
    (exam / "z.dcm").write_bytes(b"")
    for number in range(600):
        (out / f"{number}.nii.gz").write_bytes(b"")
    assert is_dicom_folder(exam, out)
    assert not is_dicom_folder(exam, exam)
    assert not is_dicom_folder(exam, tmp_path)
    (tmp_path / "link").symlink_to(exam)
    assert is_dicom_folder(tmp_path / "link", out)


def test_a_bids_data_set_with_its_dicom_files_is_no_dicom_folder(tmp_path: Path):
    source, anat = tmp_path / "sourcedata", tmp_path / "sub-01" / "anat"
    source.mkdir()
    anat.mkdir(parents=True)
    for number in range(600):
        (source / f"{number:03d}.dcm").write_bytes(b"")
    (anat / "sub-01_T1w.nii.gz").write_bytes(b"")
    for output in (tmp_path / "derivatives", tmp_path):
        assert not is_dicom_folder(tmp_path, output)
        assert scan_among_dicom(tmp_path, output) is None


def _without(folder: Path, volume: Volume, *slices: int, empty: bool = False) -> Path:
    write_series(folder, volume, 4)
    for k in slices:
        file = folder / f"004_{k:04d}.dcm"
        file.write_bytes(b"") if empty else file.unlink()
    return folder


@pytest.mark.parametrize(
    ("slices", "empty", "message"),
    [
        (
            (10, 11, 20),
            False,
            "missing: 2 after instance 10, 1 after instance 20 of the 27 that are here. Get",
        ),
        (range(1, 30, 2), False, "Only one slice of 2 is here"),
        ((10,), True, "1 file is empty or damaged: 004_0010.dcm. 1 slice is missing"),
        ((29,), True, "1 file is empty or damaged: 004_0029.dcm"),
    ],
)
def test_missing_slices_are_refused(volume: Volume, tmp_path: Path, slices, empty: bool, message: str):
    folder = _without(tmp_path / "exam", volume, *slices, empty=empty)
    with pytest.raises(MrharmonyError, match=message):
        convert_dicom(folder, tmp_path / "scan.nii.gz", series=4)
    assert not (tmp_path / "scan.nii.gz").exists()


def test_a_file_cut_short_is_refused(volume: Volume, tmp_path: Path):
    folder = _without(tmp_path / "exam", volume)
    cut = folder / "004_0010.dcm"
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.raises(MrharmonyError, match="empty or damaged: 004_0010"):
        convert_dicom(folder, tmp_path / "scan.nii.gz")


def test_pixels_that_are_shorter_than_announced_are_refused_whatever_follows_them(
    volume: Volume, tmp_path: Path
):
    folder = _without(tmp_path / "exam", volume)
    data = dcmread(folder / "004_0010.dcm")
    data.PixelData = data.PixelData[:1000]
    data.add_new(0xFFFCFFFC, "OB", bytes(10_000))  # padding after the data set
    data.save_as(folder / "004_0010.dcm")
    with pytest.raises(MrharmonyError, match="empty or damaged: 004_0010"):
        convert_dicom(folder, tmp_path / "scan.nii.gz")


def _compressed(folder: Path, volume: Volume) -> Path:
    return _each(folder, volume, lambda data, _: data.compress(RLELossless))


def test_compressed_slices_are_read_and_one_cut_short_is_named(volume: Volume, tmp_path: Path):
    plain = convert_dicom(_without(tmp_path / "plain", volume), tmp_path / "plain.nii.gz")
    folder = _compressed(tmp_path / "exam", volume)
    made = convert_dicom(folder, tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(read_scan(made).volume.voxels, read_scan(plain).volume.voxels)
    cut = folder / "004_0010.dcm"
    for bytes_lost in (20, 800):
        cut.write_bytes(cut.read_bytes()[:-bytes_lost])
        with pytest.raises(MrharmonyError, match=r"1 file is empty or damaged: 004_0010\.dcm\. 1 slice is"):
            convert_dicom(folder, tmp_path / "other.nii.gz")


def test_a_compressed_slice_that_dcm2niix_cannot_read_is_named(volume: Volume, tmp_path: Path):
    folder = _compressed(tmp_path / "exam", volume)
    for file in folder.iterdir():
        data = dcmread(file)
        data.file_meta.TransferSyntaxUID = JPEG2000Lossless
        data.PixelData = encapsulate([b"no picture" * 100])
        data.save_as(file)
    with pytest.raises(MrharmonyError, match=r"converted nothing \(series 4: .* 004_0000\.dcm"):
        convert_dicom(folder, tmp_path / "scan.nii.gz")


def test_a_defaced_copy_under_the_same_identifiers_is_not_mixed_with_its_original(
    volume: Volume, tmp_path: Path
):
    for export in ("original", "copy"):
        write_series(tmp_path / "exam" / export, volume, 4)
    assert convert_dicom(tmp_path / "exam", tmp_path / "scan.nii.gz").is_file()
    for file in sorted((tmp_path / "exam" / "copy").iterdir())[:3]:
        data = dcmread(file)
        data.PixelData = bytes(len(data.PixelData) // 2) + data.PixelData[len(data.PixelData) // 2 :]
        data.save_as(file)
    with pytest.raises(MrharmonyError, match="3 of its 30 have the identifiers of other files"):
        convert_dicom(tmp_path / "exam", tmp_path / "defaced.nii.gz")
    assert not (tmp_path / "defaced.nii.gz").exists()


def test_two_dates_under_one_identifier_are_two_images(volume: Volume, tmp_path: Path):
    for date in ("20200101", "20210101"):
        write_series(tmp_path / date, volume, 4, StudyDate=date)
        for file in (tmp_path / date).iterdir():
            data = dcmread(file)
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            data.save_as(file)
    with pytest.raises(MrharmonyError, match=r"4/20200101: t1.*4/20210101: t1"):
        convert_dicom(tmp_path, tmp_path / "scan.nii.gz")


def test_files_without_preamble_and_suffix_are_known_as_dicom_which_cannot_be_read(
    volume: Volume, tmp_path: Path
):
    write_series(tmp_path / "made", volume, 4)
    (tmp_path / "bare").mkdir()
    for file in (tmp_path / "made").iterdir():
        (tmp_path / "bare" / file.stem).write_bytes(file.read_bytes()[132:])
    assert is_dicom_folder(tmp_path / "bare", tmp_path / "out")
    with pytest.raises(MrharmonyError, match=r"dcm2niix converted nothing .*Export the DICOM files again"):
        convert_dicom(tmp_path / "bare", tmp_path / "scan.nii.gz")


def _altered(folder: Path, volume: Volume, k: int, **values: object) -> Path:
    """Write a series of which one slice has other attributes."""
    write_series(folder, volume, 4)
    file = folder / f"004_{k:04d}.dcm"
    data = dcmread(file)
    data.update(values)
    data.save_as(file)
    return folder


def test_a_slice_that_is_not_stacked_is_missed_where_another_axis_has_as_many_voxels(
    volume: Volume, tmp_path: Path
):
    cubic = Volume(volume.voxels[:30], volume.affine)
    folder = _altered(tmp_path / "exam", cubic, 10, StudyTime="230000")
    with pytest.raises(MrharmonyError, match="dcm2niix made 30×40×29 voxels of 30 slices"):
        convert_dicom(folder, tmp_path / "scan.nii.gz", series="4/1")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"PatientID": "other"}, "Most slices have one PatientID, but others (004_0010.dcm) do not."),
        ({"Modality": "PT"}, "Most slices have Modality MR, but others (004_0010.dcm) do not."),
        ({"SeriesNumber": 9}, "Most slices have SeriesNumber 4, but others (004_0010.dcm) do not."),
        ({"Rows": 20}, "Most slices have Rows 40, but others (004_0010.dcm) do not."),
        ({"BitsAllocated": 8}, "Most slices have BitsAllocated 16, but others (004_0010.dcm) do not."),
        (
            {"PhotometricInterpretation": "MONOCHROME1"},
            "Most slices have PhotometricInterpretation MONOCHROME2",
        ),
        (
            {"PixelSpacing": [3.6, 3.5]},
            "Most slices have PixelSpacing 3.5, 3.5, but others (004_0010.dcm) do",
        ),
    ],
)
def test_a_slice_of_another_form_is_refused(volume: Volume, tmp_path: Path, values, message: str):
    images, damaged = read_folder(_altered(tmp_path / "exam", volume, 10, **values))
    found = [finding.message for finding in image_findings(images[0], images, damaged)]
    assert any(one.startswith(message) for one in found)


def test_voxel_edges_that_differ_by_rounding_are_of_one_form(volume: Volume, tmp_path: Path):
    images, damaged = read_folder(_altered(tmp_path / "exam", volume, 10, PixelSpacing=[3.5000004, 3.5]))
    assert not list(image_findings(images[0], images, damaged))


def _enhanced(folder: Path, volume: Volume, spacing: float) -> Path:
    """Write a volume as one enhanced file that says another spacing of the slices than its positions."""
    write_series(folder, volume, 4)
    slices = [dcmread(file) for file in sorted(folder.iterdir())]
    for file in folder.iterdir():
        file.unlink()
    data, frames, shared = slices[0], [], Dataset()
    for one in slices:
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = one.ImagePositionPatient
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = data.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = data.PixelSpacing, spacing
    measures.SpacingBetweenSlices = spacing
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [shared], frames
    data.NumberOfFrames, data.PixelData = len(slices), b"".join(one.PixelData for one in slices)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(data, keyword)
    data.save_as(folder / "enhanced.dcm")
    return folder


def test_an_enhanced_file_whose_frames_lie_elsewhere_than_it_says_is_refused(volume: Volume, tmp_path: Path):
    right = convert_dicom(_enhanced(tmp_path / "right", volume, 3.5), tmp_path / "scan.nii.gz", series=4)
    assert read_scan(right).volume.zooms == pytest.approx((3.5, 3.5, 3.5))
    folder = _enhanced(tmp_path / "exam", volume, 3.85)
    with pytest.raises(MrharmonyError, match=r"slices as 3\.85 mm apart, but their positions are 3\.5 mm"):
        convert_dicom(folder, tmp_path / "other.nii.gz", series=4)


def test_slices_that_dcm2niix_spaces_by_a_rounded_first_step_are_refused(volume: Volume, tmp_path: Path):
    folder = tmp_path / "exam"
    write_series(folder, volume, 4)
    for k, file in enumerate(sorted(folder.iterdir())):
        data = dcmread(file)
        data.ImagePositionPatient = [round(value, 2) + 0.2 * (k == 0) for value in data.ImagePositionPatient]
        data.save_as(file)
    with pytest.raises(MrharmonyError, match=r"dcm2niix took the slices as 3\.\d+ mm apart"):
        convert_dicom(folder, tmp_path / "scan.nii.gz", series=4)


def _each(folder: Path, volume: Volume, change: Callable[[FileDataset, int], object]) -> Path:
    """Write a series and change every slice by its number."""
    write_series(folder, volume, 4)
    for k, file in enumerate(sorted(folder.iterdir())):
        data = dcmread(file)
        change(data, k)
        data.save_as(file)
    return folder


def _shift(data: FileDataset, mm: float) -> None:
    """Move a slice along its rows."""
    place, rows = np.array(data.ImagePositionPatient), np.array(data.ImageOrientationPatient[:3])
    data.ImagePositionPatient = [f"{value:.6f}" for value in place + mm * rows]


def _turn(data: FileDataset, by: float) -> None:
    """Turn a slice about its rows, by a small angle in radians."""
    rows, columns = np.reshape(np.array(data.ImageOrientationPatient, float), (2, 3))
    columns = columns + by * np.cross(rows, columns)
    data.ImageOrientationPatient = [f"{value:.8f}" for value in (*rows, *columns / np.linalg.norm(columns))]


def _is_last(k: int) -> bool:
    return k >= 26  # of 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data, _: delattr(data, "ImageOrientationPatient"), "so that left and right are unknown"),
        (
            lambda data, _: setattr(data, "ImageOrientationPatient", [0] * 6),
            "so that left and right are unknown",
        ),
        (
            lambda data, k: _is_last(k) and setattr(data, "EchoTime", "3.01"),
            r"4 more files are of this series, and continue .*\(004_0026\.dcm, 004_0027\.dcm, ",
        ),
        (
            lambda data, k: _is_last(k) and setattr(data, "ImageType", ["ORIGINAL", "PRIMARY"]),
            "4 more files are of this series",
        ),
        (
            lambda data, k: _is_last(k) and setattr(data, "SeriesInstanceUID", "1.2.3"),
            "4 more files are of this series",
        ),
        (
            lambda data, k: _is_last(k) and delattr(data, "ImagePositionPatient"),
            "4 more files are of this series",
        ),
        (
            lambda data, k: k < 2 and setattr(data, "EchoTime", "3.01"),
            "2 more files are of this series",
        ),
        (
            lambda data, k: k in (0, 1, 28, 29) and setattr(data, "EchoTime", "3.01"),
            "4 more files are of this series",
        ),
        (
            lambda data, k: _is_last(k) and data.update({"EchoTime": "3.01", "SeriesNumber": 9}),
            "4 more files are of this series",
        ),
        (
            lambda data, k: _is_last(k) and data.update({"SeriesInstanceUID": "1.2", "SeriesNumber": None}),
            "4 more files are of this series",
        ),
        (
            lambda data, k: _is_last(k) and data.update({"EchoTime": "3.01", "Rows": 20}),
            "4 more files are of this series",
        ),
        (
            lambda data, k: k > 27 and _turn(data, 0.002),
            "2 more files are of this series",
        ),
        (
            lambda data, k: _is_last(k) and setattr(data, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
            "4 more files are of this series",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_slices_that_lie_nowhere_or_were_taken_for_another_image_are_refused(
    volume: Volume, tmp_path: Path, change, message: str
):
    folder = _each(tmp_path / "exam", volume, change)
    with pytest.raises(MrharmonyError, match=message):
        convert_dicom(folder, tmp_path / "scan.nii.gz")
    assert not (tmp_path / "scan.nii.gz").exists()


@pytest.mark.parametrize(
    ("aside", "most"),
    [(lambda k: 20 * (k > 14), 20), (lambda k: 30 * (k == 14), 30), (lambda k: 0.35 * k, 10.15)],
    ids=["half", "one", "growing"],
)
def test_slices_that_are_shifted_in_their_plane_are_refused(volume: Volume, tmp_path: Path, aside, most):
    folder = _each(tmp_path / "exam", volume, lambda data, k: _shift(data, aside(k)))
    with pytest.raises(MrharmonyError, match=f"straight behind each other: some are {most:.1f} mm aside"):
        convert_dicom(folder, tmp_path / "scan.nii.gz", series=4)
    assert not (tmp_path / "scan.nii.gz").exists()


def test_positions_that_are_rounded_are_straight_and_another_scan_of_that_number_is_no_part(
    volume: Volume, tmp_path: Path
):
    def rounded(data: FileDataset, _: int) -> None:
        data.ImagePositionPatient = [f"{value:.1f}" for value in data.ImagePositionPatient]
        data.ImageOrientationPatient = [f"{value:.4f}" for value in data.ImageOrientationPatient]

    folder = _each(tmp_path / "exam", volume, rounded)
    moved = Volume(volume.voxels, volume.affine + np.outer([1, 1, 1, 0], [0, 0, 0, 5.0]))
    write_series(tmp_path / "other", moved, 4, EchoTime="2.5")
    for file in (tmp_path / "other").iterdir():
        file.rename(folder / f"other_{file.name}")
    images, damaged = read_folder(folder)
    assert [list(image_findings(image, images, damaged)) for image in images] == [[], []]


@pytest.mark.parametrize(
    "scale_of",
    [
        lambda k: (1 + (k > 14), 0),
        lambda k: (1e-4 * (1 + (k > 14)), 0),
        lambda k: (1, 500 * (k > 14)),
        lambda k: (0.5, 0) if k > 14 else None,
    ],
    ids=["slope", "small slope", "intercept", "half of the frames"],
)
def test_frames_with_scales_of_their_own_are_refused(volume: Volume, tmp_path: Path, scale_of):
    folder = _enhanced(tmp_path / "exam", volume, 3.5)
    data = dcmread(folder / "enhanced.dcm")
    for k, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        if found := scale_of(k):
            scale = Dataset()
            (scale.RescaleSlope, scale.RescaleIntercept), scale.RescaleType = found, "US"
            frame.PixelValueTransformationSequence = [scale]
    data.save_as(folder / "enhanced.dcm")
    with pytest.raises(MrharmonyError, match="rescale slopes or intercepts of their own"):
        convert_dicom(folder, tmp_path / "scan.nii.gz", series=4)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (lambda k: (1 + k // 15, 1 + k % 15, 1 + k % 15), r"dcm2niix put the slices \d+\.\d mm from where"),
        (lambda k: (1, 30 - k, 1 + k), "dcm2niix put the frames in another order than their positions say"),
    ],
    ids=["two stacks", "reversed"],
)
def test_frames_that_dcm2niix_sorts_otherwise_than_by_place_are_refused(
    volume: Volume, tmp_path: Path, indices, message: str
):
    folder = _enhanced(tmp_path / "exam", volume, 3.5)
    data = dcmread(folder / "enhanced.dcm")
    data.Manufacturer = "Philips Medical Systems"
    data.DimensionIndexSequence = []
    for keyword in ("StackID", "InStackPositionNumber"):
        dimension = Dataset()
        dimension.DimensionIndexPointer = tag_for_keyword(keyword)
        dimension.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
        data.DimensionIndexSequence.append(dimension)
    for k, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        content, (stack, index, place) = Dataset(), indices(k)
        content.DimensionIndexValues, content.InStackPositionNumber = [stack, index], place
        content.StackID = str(stack)
        frame.FrameContentSequence = [content]
    data.save_as(folder / "enhanced.dcm")
    with pytest.raises(MrharmonyError, match=message):
        convert_dicom(folder, tmp_path / "scan.nii.gz", series=4)


def test_frames_that_lie_nowhere_apart_are_refused(volume: Volume, tmp_path: Path):
    folder = _enhanced(tmp_path / "exam", volume, 3.5)
    data = dcmread(folder / "enhanced.dcm")
    for frame in data.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]
    data.save_as(folder / "enhanced.dcm")
    with pytest.raises(MrharmonyError, match="Of 30 slices only 1 are said to lie apart"):
        convert_dicom(folder, tmp_path / "scan.nii.gz", series=4)


def test_series_of_an_examination_whose_identifiers_are_all_the_same_are_no_copies(
    volume: Volume, tmp_path: Path
):
    def anonymous(data: FileDataset, _: int) -> None:
        data.SeriesInstanceUID = data.SOPInstanceUID = "1.2.3"

    folder = _each(tmp_path / "exam", volume, anonymous)
    brighter = _each(tmp_path / "later", volume, anonymous)
    for file in brighter.iterdir():
        data = dcmread(file)
        data.SeriesNumber = 9
        data.save_as(folder / f"later_{file.name}")
    images, _ = read_folder(folder)
    assert sum(len(image.files) for image in images) == 60


def test_thin_slices_with_gaps_that_are_declared_are_all_there(volume: Volume, tmp_path: Path):
    write_series(tmp_path / "exam", volume, 4)
    for file in (tmp_path / "exam").iterdir():
        data = dcmread(file)
        data.SliceThickness, data.SpacingBetweenSlices = "1.9", "3.5"
        data.save_as(file)
    assert_shows(convert_dicom(tmp_path / "exam", tmp_path / "scan.nii.gz"), volume)


def test_damaged_files_are_no_copies_where_all_have_one_identifier(volume: Volume, tmp_path: Path):
    folder = _each(tmp_path / "exam", volume, lambda data, _: setattr(data, "SOPInstanceUID", "1.2.3"))
    for k in (28, 29):
        cut = folder / f"004_{k:04d}.dcm"
        cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(MrharmonyError, match="2 files are empty or damaged: 004_0028"):
        convert_dicom(folder, tmp_path / "scan.nii.gz")


def test_two_exports_of_overlapping_parts_are_refused(volume: Volume, tmp_path: Path):
    folder = _each(tmp_path / "exam", volume, lambda *_: None)
    for k in range(20, 30):
        data = dcmread(folder / f"004_{k:04d}.dcm")
        data.SeriesInstanceUID = "1.2.3"
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data.save_as(folder / f"again_{k:04d}.dcm")
        if k > 25:
            (folder / f"004_{k:04d}.dcm").unlink()
    with pytest.raises(MrharmonyError, match="10 more files are of this series"):
        convert_dicom(folder, tmp_path / "scan.nii.gz")


def test_slices_of_another_echo_in_the_middle_are_named(volume: Volume, tmp_path: Path):
    folder = _each(
        tmp_path / "exam", volume, lambda data, k: k in (14, 15) and setattr(data, "EchoTime", "3.01")
    )
    with pytest.raises(MrharmonyError, match=r"2 more files are of this series.*\(004_0014\.dcm, "):
        convert_dicom(folder, tmp_path / "scan.nii.gz")


def test_what_is_no_slice_of_the_stack_is_left_out(volume: Volume, tmp_path: Path):
    folder = _each(tmp_path / "exam", volume, lambda *_: None)
    below = np.eye(4)
    below[2, 3] = 30  # slices
    beyond = Volume(volume.voxels, volume.affine @ below)
    write_series(tmp_path / "neck", beyond, 4, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4")
    for file in (tmp_path / "neck").iterdir():
        file.rename(folder / f"neck_{file.name}")
    picture = dcmread(folder / "004_0000.dcm")
    picture.SOPClassUID = picture.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    picture.SOPInstanceUID = picture.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    del picture.ImagePositionPatient, picture.ImageOrientationPatient
    picture.save_as(folder / "picture.dcm")
    images, damaged = read_folder(folder)
    stack = next(image for image in images if image.first.path.name == "004_0000.dcm")
    assert not list(image_findings(stack, images, damaged))


def test_slices_that_bend_away_from_an_even_stack_are_refused(volume: Volume, tmp_path: Path):
    def bend(data: FileDataset, k: int) -> None:
        rows, columns = np.reshape(np.array(data.ImageOrientationPatient, float), (2, 3))
        place = np.array(data.ImagePositionPatient) + 2 * np.sin(np.pi * k / 29) * np.cross(rows, columns)
        data.ImagePositionPatient = [f"{value:.6f}" for value in place]

    folder = _each(tmp_path / "exam", volume, bend)
    with pytest.raises(MrharmonyError, match="The slices lie unevenly"):
        convert_dicom(folder, tmp_path / "scan.nii.gz", series=4)


@pytest.mark.parametrize("downwards", [False, True])
def test_the_rounding_of_two_positions_does_not_add_up(volume: Volume, tmp_path: Path, downwards: bool):
    turn = Rotation.from_euler("xyz", [12, 7, 9], degrees=True).as_matrix()
    fine = np.eye(4)
    fine[:3, :3] = turn @ np.diag([3.5, 3.5, -0.8 if downwards else 0.8])
    many = Volume(np.tile(volume.voxels, 6), fine)  # 180 slices
    folder = tmp_path / "exam"
    write_series(folder, many, 4)
    for file in folder.iterdir():
        data = dcmread(file)
        data.ImagePositionPatient = [f"{value:.2f}" for value in data.ImagePositionPatient]
        data.save_as(file)
    scan = read_scan(convert_dicom(folder, tmp_path / "scan.nii.gz", series=4))
    ends = np.array([[0, 0, 0, 1], [*(size - 1 for size in many.shape), 1]])
    made = np.array([[0, 0, 0, 1], [*(size - 1 for size in scan.volume.shape), 1]]) @ scan.volume.affine.T
    wanted = ends @ fine.T
    assert sorted(made[:, :3] @ turn[:, 2]) == pytest.approx(sorted(wanted[:, :3] @ turn[:, 2]), abs=0.02)


def test_a_folder_whose_files_all_have_a_series_of_their_own_is_told(volume: Volume, tmp_path: Path):
    folder = _each(
        tmp_path / "exam", volume, lambda data, k: setattr(data, "SeriesInstanceUID", f"1.2.{k + 1}")
    )
    with pytest.raises(MrharmonyError, match="each of the 30 files has a SeriesInstanceUID of its own"):
        convert_dicom(folder, tmp_path / "scan.nii.gz")


@pytest.mark.parametrize(
    "kind", [RawDataStorage, GrayscaleSoftcopyPresentationStateStorage, MRSpectroscopyStorage]
)
def test_an_object_without_a_picture_is_no_damaged_slice(volume: Volume, tmp_path: Path, kind: UID):
    write_series(tmp_path / "exam", volume, 4)
    data = dcmread(tmp_path / "exam" / "004_0003.dcm")
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = kind
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(data, keyword)
    data.save_as(tmp_path / "exam" / "004_0040.dcm")
    assert_shows(convert_dicom(tmp_path / "exam", tmp_path / "scan.nii.gz"), volume)


def test_a_sidecar_that_was_lost_comes_back(examination: Path, tmp_path: Path):
    path = convert_dicom(examination, tmp_path / "sub-01_T1w.nii.gz")
    sidecar = (tmp_path / "sub-01_T1w.json").read_bytes()
    (tmp_path / "sub-01_T1w.json").unlink()
    convert_dicom(examination, path)
    assert (tmp_path / "sub-01_T1w.json").read_bytes() == sidecar


def _twice(folder: Path, volume: Volume, later: int) -> Path:
    """Write a series and again under other identifiers, with instance numbers that are `later` higher."""
    write_series(folder, volume, 4)
    for file in sorted(folder.iterdir()):
        data = dcmread(file)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data.InstanceNumber += later
        data.save_as(folder / f"again_{file.name}")
    return folder


def test_a_series_that_was_exported_twice_is_told(volume: Volume, tmp_path: Path):
    with pytest.raises(
        MrharmonyError, match=r"exam: series 4: Every slice is there 2 times.*repeatedly\. Give"
    ):
        convert_dicom(_twice(tmp_path / "exam", volume, 0), tmp_path / "scan.nii.gz")


def test_a_slice_that_is_there_twice_is_told(volume: Volume, tmp_path: Path):
    write_series(tmp_path / "exam", volume, 4)
    data = dcmread(tmp_path / "exam" / "004_0010.dcm")
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.save_as(tmp_path / "exam" / "again.dcm")
    images, damaged = read_folder(tmp_path / "exam")
    found = [finding.message for finding in image_findings(images[0], images, damaged)]
    assert found == ["Most slices are there once, but others (instance 11) are not."]


def test_a_slice_that_is_there_twice_once_without_its_number_is_told(volume: Volume, tmp_path: Path):
    write_series(tmp_path / "exam", volume, 4)
    data = dcmread(tmp_path / "exam" / "004_0010.dcm")
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    del data.InstanceNumber
    data.save_as(tmp_path / "exam" / "again.dcm")
    images, damaged = read_folder(tmp_path / "exam")
    found = [finding.message for finding in image_findings(images[0], images, damaged)]
    assert "Most slices are there once, but others (slice 11) are not." in found


def test_a_series_of_volumes_is_refused_with_what_to_do_about_the_folder(volume: Volume, tmp_path: Path):
    folder = _twice(tmp_path / "exam", volume, 30)
    with pytest.raises(
        MrharmonyError, match=r"The series has 2 volumes \(.*×2\), not one. Choose another with"
    ):
        convert_dicom(folder, tmp_path / "scan.nii.gz", series=4)


def test_hints_of_lost_ends_and_contrast_agent_are_findings_of_the_scan(volume: Volume, tmp_path: Path):
    folder = tmp_path / "-x"
    write_series(folder, volume, 4, ContrastBolusAgent="GADOVIST", ImagesInAcquisition=30)
    for k in (0, 1, 29):
        (folder / f"004_{k:04d}.dcm").unlink()
    scan = read_scan(convert_dicom(folder, tmp_path / "scan.nii.gz", series="4"))
    codes = {finding.code for finding in scan.findings if finding.level == "warning"}
    assert {"dicom-first-missing", "dicom-fewer-images", "contrast-agent"} <= codes


def test_echoes_of_one_number_are_listed_and_named(volume: Volume, tmp_path: Path):
    folder = tmp_path / "exam"
    for echo in ("1.69", "3.55"):
        write_series(folder / echo, volume, 4, EchoTime=echo, SeriesDescription="t1_mprage_me")
    with pytest.raises(MrharmonyError, match=r"2 images of number 4.*4/TE1.69: t1.*4/TE3.55: t1"):
        convert_dicom(folder, tmp_path / "scan.nii.gz", series=4)
    convert_dicom(folder, tmp_path / "scan.nii.gz", series="4/TE3.55")
    assert json.loads((tmp_path / "scan.json").read_text())["EchoTime"] == pytest.approx(0.00355)


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO 2022 IR 87", "t1_頭部撮影"), ("ISO 2022 IR 149", "t1_머리"), ("ISO_IR 192", "t1_頭")],
)
def test_names_of_any_character_set_are_read(volume: Volume, tmp_path: Path, charset: str, name: str):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    sets = ["", charset] if "2022" in charset else charset
    write_series(folder, volume, 4, SpecificCharacterSet=sets, SeriesDescription=name)
    write_series(folder, volume, 5, SpecificCharacterSet=sets, SeriesDescription=name)
    with pytest.raises(MrharmonyError, match=f"4: {name}"):
        convert_dicom(folder, tmp_path / "scan.nii.gz")
    convert_dicom(folder, tmp_path / "scan.nii.gz", series=4)


WHOLE = ((176, 256, 256), (1.0, 1.0, 1.0))
SPGR = {"ScanningSequence": "GR", "MRAcquisitionType": "3D", "EchoTime": 0.004, "RepetitionTime": 0.02}


@pytest.mark.parametrize(
    ("sidecar", "likely"),
    [
        ({"SeriesDescription": "MPRAGE_GRAPPA2"}, True),
        ({"ProtocolName": "Ax 3D BRAVO"}, True),
        ({"SeriesDescription": "mp2rage_UNI_Images"}, True),
        ({"SeriesDescription": "mp2rage_INV1"}, False),
        ({"SeriesDescription": "T1 MPRAGE", "Modality": "MR"}, True),
        ({"SeriesDescription": "T1 MPRAGE", "Modality": "CT"}, False),
        ({"SeriesDescription": "t1_mprage post Gd"}, False),
        ({"SeriesDescription": "t1_mprage", "ContrastBolusIngredient": "GADOLINIUM"}, False),
        ({"SeriesDescription": "t1_mprage", "ContrastBolusAgent": ["GADOVIST"]}, False),
        ({"SeriesDescription": "t1_mprage", "ContrastBolusAgent": ["no"]}, True),
        ({"SeriesDescription": "MPRAGE PRE CONTRAST"}, True),
        ({"SeriesDescription": "T1 W/O CONTRAST"}, True),
        ({"SeriesDescription": "T1 NON CONTRAST", "ContrastBolusIngredient": "GADOLINIUM"}, True),
        ({"SeriesDescription": "t1_mprage_pre_gad"}, True),
        ({"SeriesDescription": "T1 WITH CONTRAST"}, False),
        ({"SeriesDescription": "T1_map"}, False),
        ({"SeriesDescription": "T2_FLAIR"}, False),
        ({"SeriesDescription": "t1_mprage", "ImageType": ["ORIGINAL", "PRIMARY", "P"]}, False),
        ({"SeriesDescription": "head", **SPGR, "FlipAngle": 20}, True),
        ({"SeriesDescription": "head", **SPGR, "FlipAngle": 4}, False),
        ({"SeriesDescription": "head", **SPGR, "RepetitionTime": 2.0, "InversionTime": 0.9}, True),
        ({"SeriesDescription": "tof_head", **SPGR, "FlipAngle": 20}, False),
        ({}, False),
    ],
)
def test_t1w_series_are_known_by_name_or_else_by_how_they_were_taken(sidecar, likely: bool):
    assert likely_t1w([Candidate(sidecar, *WHOLE)]) == ([0] if likely else [])


def test_slabs_series_of_volumes_and_reformats_give_way():
    named = {"SeriesDescription": "t1_mprage"}
    slab, run = ((256, 256, 20), (1.0, 1.0, 3.0)), ((176, 256, 256, 9), (1.0, 1.0, 1.0, 2.0))
    derived = {**named, "ImageType": ["DERIVED", "SECONDARY", "MPR"]}
    reformat, whole = Candidate(derived, *WHOLE), Candidate(named, *WHOLE)
    assert likely_t1w([Candidate(named, *slab), Candidate(named, *run), reformat, whole]) == [3]
    assert likely_t1w([reformat]) == [0]

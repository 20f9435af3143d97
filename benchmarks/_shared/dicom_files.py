"""DICOM examinations made of arrays, as a scanner would send them: one file a slice, the patient named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from mrharmony.core.volume import Volume

PATIENT = "Doe^Jane"
MPRAGE = {
    "SeriesDescription": "t1_mprage_sag_p2",
    "ScanningSequence": ["GR", "IR"],
    "EchoTime": "3.0",
    "RepetitionTime": "2300",
    "InversionTime": "900",
    "FlipAngle": "9",
}


def write_series(folder: Path, volume: Volume, number: int, **values: object) -> None:
    """Write a volume as one series: sagittal, coronal or axial slices as its last axis says.

    Parameters
    ----------
    folder
        Where to; made if missing.
    volume
        Voxels ≥ 0 and affine without shears (RAS+), slices along the last axis.
    number
        Of the series.
    values
        DICOM attributes by keyword; those of an MPRAGE where not given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1, 1, 1]) @ volume.affine
    study, frame, series = (generate_uid(entropy_srcs=[name]) for name in ("study", "frame", f"s{number}"))
    pixels = np.round(volume.voxels / volume.voxels.max() * 4000).astype("<u2")
    for k in range(volume.shape[2]):
        instance = generate_uid(entropy_srcs=[f"{number}", f"{k}"])
        data = _blank(instance)
        data.StudyInstanceUID, data.FrameOfReferenceUID, data.SeriesInstanceUID = study, frame, series
        data.SeriesNumber, data.InstanceNumber, data.AcquisitionNumber = number, k + 1, 1
        for keyword, value in {**MPRAGE, **values}.items():
            setattr(data, keyword, value)
        i, j, slice_zoom = volume.zooms
        data.ImagePositionPatient = [f"{x:.6f}" for x in lps[:3] @ [0, 0, k, 1]]
        data.ImageOrientationPatient = [f"{x:.8f}" for x in (*(lps[:3, 0] / i), *(lps[:3, 1] / j))]
        data.PixelSpacing, data.SliceThickness = [f"{j:.6f}", f"{i:.6f}"], f"{slice_zoom:.6f}"
        data.Columns, data.Rows = volume.shape[:2]
        data.PixelData = pixels[:, :, k].T.tobytes()  # rows from top to bottom, each from left to right
        data.save_as(folder / f"{number:03d}_{k:04d}.dcm", enforce_file_format=True)


def _blank(instance: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, UID(instance)
    data.PatientName, data.PatientID, data.PatientBirthDate = PATIENT, "4711-0815", "19500102"
    data.StudyDate, data.AcquisitionTime, data.InstitutionName = "20200304", "101112", "Saint Elsewhere"
    data.Modality, data.Manufacturer, data.ImageType = "MR", "SIEMENS", ["ORIGINAL", "PRIMARY", "M", "ND"]
    data.ManufacturerModelName, data.MRAcquisitionType, data.MagneticFieldStrength = "Prisma", "3D", "3"
    data.PatientPosition, data.SamplesPerPixel, data.PhotometricInterpretation = "HFS", 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    return data

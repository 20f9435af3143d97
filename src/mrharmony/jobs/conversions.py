"""DICOM folders in the place of scans: which they are, and what they are converted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.data_sets import open_data_set
from mrharmony.scans.bids import SESSION, BidsIndex
from mrharmony.scans.dicom import convert_dicom, is_dicom_folder, scan_among_dicom

SOURCE_FOLDER = "sourcedata"


def open_source(
    source: Path,
    out_dir: Path,
    labels: Sequence[str],
    domain_column: str | None = None,
    series: str | int | None = None,
) -> BidsIndex:
    """Return the data set to prepare: a BIDS folder as it is, a DICOM folder converted to one.

    A DICOM folder is one examination of the participant that `labels` begin with, 01 if there is none; it
    goes to `sourcedata/sub-LABEL/anat` in `out_dir`; `series` names its T1w series where that is
    not clear. `domain_column` is of a BIDS folder, as in `BidsIndex.open`. Raises
    `MrharmonyError` if the data set cannot be opened or converted, or the label is not a BIDS label.
    """
    if not is_dicom_folder(source, out_dir):
        _require_no_scan_among_dicom(source, out_dir)
        if series is not None:
            raise MrharmonyError(f"{source}: is not a DICOM folder. Leave the series out.")
        return open_data_set(source, domain_column, chosen=bool(labels))
    label = (labels[0] if labels else "01").removeprefix("sub-")
    if not (label.isascii() and label.isalnum()):
        raise MrharmonyError(f"{label!r}: BIDS labels have letters and digits only. Choose another label.")
    name = f"sub-{label}"
    root = out_dir / SOURCE_FOLDER
    convert_dicom(source, root / name / "anat" / f"{name}_T1w.nii.gz", series)
    return BidsIndex.open(root, SESSION)


def plan_conversions(paths: Sequence[Path], output: Path) -> tuple[list[Path], dict[Path, Path]]:
    """Return the scan files that scans and DICOM folders become, and the DICOM folder of those to convert.

    They go to the folder of the output as `sub-01_T1w.nii.gz`, `sub-02_…`: the names of DICOM folders often
    name the patient. Nothing is done yet. A folder of DICOM files and scans counts as one to convert, which
    `convert_planned` refuses.
    """
    folder = output.parent if output.name.endswith(".nii.gz") else output
    examinations = [path for path in paths if is_dicom_folder(path, folder) or scan_among_dicom(path, folder)]
    names = {
        path: folder / f"sub-{number:02d}_T1w.nii.gz" for number, path in enumerate(examinations, start=1)
    }
    return [names.get(path, path) for path in paths], {scan: path for path, scan in names.items()}


def convert_planned(
    conversions: Mapping[Path, Path], series: str | int | None = None
) -> dict[Path, MrharmonyError]:
    """Convert DICOM folders, by the scan file to make; returns why those failed that could not be converted.

    `series` names the T1w series where it is not clear; without DICOM folders it is refused.
    """
    if series is not None and not conversions:
        raise MrharmonyError("A series is chosen, but no DICOM folder is given. Leave the series out.")
    failed = {}
    for scan, folder in conversions.items():
        try:
            _require_no_scan_among_dicom(folder, scan.parent)
            convert_dicom(folder, scan, series)
        except MrharmonyError as error:
            failed[scan] = error
    return failed


def _require_no_scan_among_dicom(folder: Path, output: Path) -> None:
    """Raise `MrharmonyError` where a folder of DICOM files holds a scan too."""
    if scan := scan_among_dicom(folder, output):
        raise MrharmonyError(
            f"{folder}: holds DICOM files, but also the scan {scan.relative_to(folder)}, so that it is not "
            "clear which is meant. Move that scan to another folder, or name it alone."
        )

"""Opening a data set for a command: what is odd about it is told before work begins.

DICOM folders where commands take scans: converted once, under neutral names, beside the results.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mrharmony.core.findings import MrharmonyError
from mrharmony.scans.bids import SESSION, BidsIndex, usual_column
from mrharmony.scans.dicom import convert_dicom, is_dicom_folder


def open_data_set(root: Path, domain_column: str) -> BidsIndex:
    """Index a BIDS folder and tell its findings on standard error.

    Parameters
    ----------
    root, domain_column
        As of `BidsIndex.open`.

    Raises
    ------
    MrharmonyError
        As `BidsIndex.open`.
    """
    index = BidsIndex.open(root, domain_column)
    for finding in index.findings:
        print(f"{root}: {finding.message} {finding.fix}", file=sys.stderr)
    return index


SOURCE_FOLDER = "sourcedata"


def plan_conversions(paths: Sequence[Path], output: Path) -> tuple[list[Path], dict[Path, Path]]:
    """Return scan files where DICOM folders become `sub-01_T1w.nii.gz`, `sub-02_…`; nothing is done yet.

    The names of the folders are not kept: they often name the patient.

    Parameters
    ----------
    paths
        Scan files and DICOM folders.
    output
        Folder for the converted scans, or a result in that folder, ending in `.nii.gz`.

    Returns
    -------
    The scan files, and for those that have to be converted the DICOM folder.
    """
    folder = output.parent if output.name.endswith(".nii.gz") else output
    examinations = [path for path in paths if is_dicom_folder(path)]
    names = {
        path: folder / f"sub-{number:02d}_T1w.nii.gz" for number, path in enumerate(examinations, start=1)
    }
    return [names.get(path, path) for path in paths], {scan: path for path, scan in names.items()}


def convert_planned(
    conversions: Mapping[Path, Path], series: int | None = None
) -> dict[Path, MrharmonyError]:
    """Convert DICOM folders as planned.

    Parameters
    ----------
    conversions
        Scan files to make, and their DICOM folders.
    series
        Number of the T1w series where it cannot be told.

    Returns
    -------
    What was wrong with those that could not be converted.

    Raises
    ------
    MrharmonyError
        If a series is chosen and there is no DICOM folder.
    """
    if series is not None and not conversions:
        raise MrharmonyError("--series chooses among the series of a DICOM folder, and none is given.")
    lost = {}
    for scan, folder in conversions.items():
        try:
            convert_dicom(folder, scan, series)
        except MrharmonyError as error:
            lost[scan] = error
    return lost


def index_of(
    source: Path,
    out_dir: Path,
    labels: Sequence[str],
    domain_column: str | None = None,
    series: int | None = None,
) -> BidsIndex:
    """Return the data set to prepare: a BIDS folder as it is, a DICOM folder converted to one.

    Parameters
    ----------
    source
        BIDS folder, or folder with the DICOM files of one examination.
    out_dir
        Folder of the derivatives; a converted scan goes to `sourcedata/sub-LABEL/anat` in it.
    labels
        The first is the label of a DICOM examination; 01 if there is none.
    domain_column
        Of a BIDS folder; where it is None, `site` if the table has that column, else the session.
    series
        Number of the T1w series of a DICOM folder, where it cannot be told.
    """
    if not is_dicom_folder(source):
        if series is not None:
            raise MrharmonyError(f"{source}: is not a DICOM folder, so that --series chooses nothing.")
        return open_data_set(source, domain_column or usual_column(source))
    label = (labels[0] if labels else "01").removeprefix("sub-")
    if not (label.isascii() and label.isalnum()):
        raise MrharmonyError(f"{label!r}: BIDS labels have letters and digits only. Choose another label.")
    name = f"sub-{label}"
    root = out_dir / SOURCE_FOLDER
    convert_dicom(source, root / name / "anat" / f"{name}_T1w.nii.gz", series)
    return BidsIndex.open(root, SESSION)

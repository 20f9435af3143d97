"""Small studies whose scans are prepared already, so that only what is done with them takes time."""

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.saved import PreparedFiles, write_prepared
from mrharmony.scans.reading import read_mask, read_scan
from mrharmony.simulate.cohort_files import true_brain


def prepared_study(folder: Path, cohort: Path, sites: Mapping[str, str]) -> Path:
    """Write `study`, a data set of people at sites, and `prepared`, with their preparations, into a folder.

    All have the head of the first scan of a cohort, each a little brighter than the one before. Returns the
    folder.
    """
    scan = next(cohort.glob("sub-*/ses-mprage3t/anat/*_T1w.nii.gz"))
    image, mask = nib.load(scan), read_mask(true_brain(cohort, "001"), read_scan(scan))
    for number, person in enumerate(sites):
        path = folder / "study" / f"sub-{person}" / "anat" / f"sub-{person}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        voxels = image.get_fdata(dtype=np.float32) * np.float32(1 + number / 100)
        brighter = nib.Nifti1Image(voxels, image.affine, dtype=np.float32)
        brighter.header.set_xyzt_units("mm", "sec")
        nib.save(brighter, path)
        read = read_scan(path)
        field = np.ones(mask.shape, np.float32)
        prepared = PreparedScan(read.volume, mask, field, np.eye(4), 300.0, False, (), 0.9)
        write_prepared(PreparedFiles.of(path, folder / "prepared"), read, prepared, {})
    rows = [f"sub-{person}\t{site}" for person, site in sites.items()]
    (folder / "study" / "participants.tsv").write_text("\n".join(["participant_id\tsite", *rows, ""]))
    return folder

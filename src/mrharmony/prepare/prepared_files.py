"""What the files of a prepared scan are called: BIDS derivatives.

Alignments as ITK transform files, which ANTs, SimpleITK, ITK-SNAP and 3D Slicer read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from mrharmony.core.volume import Matrix
from mrharmony.scans.names import output_stem

SPACE = "MNI152NLin2009aSym"
"""BIDS' name of the space of the template that nilearn ships (`mrharmony.space.template`)."""

LOG_SUFFIX = "_desc-preparation_log.json"


@dataclass(frozen=True)
class PreparedFiles:
    """Where the preparation of one scan lies.

    Parameters
    ----------
    folder
        `OUT_DIR/sub-*/[ses-*/]anat`.
    stem
        What all names start with: the scan's name without `_T1w` and suffix.
    """

    folder: Path
    stem: str

    @classmethod
    def of(cls, scan: Path, out_dir: Path) -> Self:
        """Return where the preparation of a scan lies below `out_dir`.

        Parameters
        ----------
        scan
            The scan; subject and session are taken from its name, or else from the folders it lies in.
        out_dir
            The folder of the derivatives.
        """
        labels = [_entity(scan, key) for key in ("sub-", "ses-")]
        return cls(out_dir.joinpath(*filter(None, labels), "anat"), output_stem(scan))

    @property
    def mask(self) -> Path:
        """The brain mask on the scan's grid."""
        return self._named("desc-brain_mask.nii.gz")

    @property
    def mask_note(self) -> Path:
        """The sidecar of the mask; without it, the mask is one that a person put there."""
        return self._named("desc-brain_mask.json")

    @property
    def bias_field(self) -> Path:
        """The bias field on the scan's grid."""
        return self._named("desc-receive_biasfield.nii.gz")

    @property
    def transform(self) -> Path:
        """The alignment as an ITK transform."""
        return self._named(f"from-T1w_to-{SPACE}_mode-image_xfm.txt")

    @property
    def similarity(self) -> Path:
        """Posture and size of the head as an ITK transform."""
        return self._named(f"from-T1w_to-{SPACE}_mode-image_desc-volumecorrected_xfm.txt")

    @property
    def canonical(self) -> Path:
        """The canonical brain."""
        return self._named(f"space-{SPACE}_res-1_desc-canonical_T1w.nii.gz")

    @property
    def note(self) -> Path:
        """The sidecar of the canonical brain, written last: where it exists, the preparation is complete."""
        return self._named(f"space-{SPACE}_res-1_desc-canonical_T1w.json")

    @property
    def needed(self) -> tuple[Path, ...]:
        """The files without which a preparation does not count."""
        return self.mask, self.bias_field, self.transform, self.similarity, self.canonical, self.note

    @property
    def volume_corrected(self) -> Path:
        """The canonical brain grown to the template's size, where it was asked for."""
        return self._named(f"space-{SPACE}_res-1_desc-volumecorrected_T1w.nii.gz")

    @property
    def volume_corrected_note(self) -> Path:
        """The sidecar of the brain grown to the template's size, written before it."""
        return self._named(f"space-{SPACE}_res-1_desc-volumecorrected_T1w.json")

    @property
    def page(self) -> Path:
        """The page that a person looks at."""
        return self._named("desc-preparation_T1w.html")

    @property
    def log(self) -> Path:
        """What became of the scan, also where it was refused."""
        return self.folder / (self.stem + LOG_SUFFIX)

    def _named(self, rest: str) -> Path:
        return self.folder / f"{self.stem}_{rest}"


def _entity(scan: Path, key: str) -> str | None:
    """Return `sub-01` for `sub-`, or None where neither the name nor a folder above has it."""
    names = [*output_stem(scan).split("_"), *(folder.name for folder in scan.parents)]
    return next((name for name in names if name.startswith(key)), None)


_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def itk_transform(rigid_to_template: Matrix) -> str:
    """Return a alignment as ITK's text format: applied to the native scan, it gives the scan in the template.

    ITK resamples an image by asking for each point of the new grid where it came from, so the file holds
    the inverse of the alignment, template to native; and ITK's world axes run to the left, posterior and
    superior.

    Parameters
    ----------
    alignment
        Native world mm to template world mm (RAS+), shape (4, 4); it may change the size too.
    """
    matrix = _RAS_TO_LPS @ np.linalg.inv(rigid_to_template) @ _RAS_TO_LPS
    numbers = [*matrix[:3, :3].ravel(), *matrix[:3, 3]]
    return "\n".join(
        [
            "#Insight Transform File V1.0",
            "#Transform 0",
            "Transform: AffineTransform_double_3_3",
            "Parameters: " + " ".join(repr(float(number)) for number in numbers),
            "FixedParameters: 0 0 0",
            "",
        ]
    )

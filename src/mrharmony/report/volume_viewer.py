"""NiiVue inside a page: the scan before and after as NIfTI images, drawn by the graphics card.

NiiVue (BSD 2-Clause licence) is no part of this package: the user names its file.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray, Volume, bounding_box
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.report.contact_sheet import BRIGHTEST
from mrharmony.space.grid import Grid
from mrharmony.space.resampling import resample_brain

_FINEST = 0.95  # mm³: images of smaller voxels would make the page too large
_LEVELS = 127
_COARSE = Grid.working(1.0)
_ADVICE = "Name niivue.umd.js of NiiVue: `npm pack @niivue/niivue`, then package/dist in the archive."


@dataclass(frozen=True)
class VolumeViewer:
    """What a page needs to show volumes with NiiVue.

    Parameters
    ----------
    script
        NiiVue's own code.
    volumes
        By what a person reads: gzipped NIfTI images of canonical units, base64.
    brightest
        The intensity that is shown white.
    is_resampled
        Whether the images are on a grid of 1 mm in template position, not on the scan's own.
    """

    script: str
    volumes: Mapping[str, str]
    brightest: float
    is_resampled: bool

    @classmethod
    def of(cls, niivue: Path, scan: PreparedScan, volumes: Mapping[str, FloatArray]) -> VolumeViewer:
        """Return the viewer of volumes on a scan's grid, canonical units, shape (i, j, k); the brain alone.

        Raises as `niivue_script`.
        """
        is_resampled = float(np.prod(scan.native.zooms)) < _FINEST
        images = {
            name: _encoded(_at_a_millimetre(scan, voxels) if is_resampled else _brain(scan, voxels))
            for name, voxels in volumes.items()
        }
        return cls(niivue_script(niivue), images, BRIGHTEST, is_resampled)


@cache
def niivue_script(path: Path) -> str:
    """Return NiiVue's code from its file; read once.

    Raises `MrharmonyError` if the file cannot be read or is no `niivue.umd.js`.
    """
    try:
        code = path.read_text("utf-8")
    except OSError as failure:
        raise MrharmonyError(f"{path}: cannot be read ({failure.strerror}). {_ADVICE}") from failure
    except UnicodeDecodeError as failure:
        raise MrharmonyError(f"{path}: is no JavaScript. {_ADVICE}") from failure
    if "niivue" not in code or "loadFromBase64" not in code or "typeof exports" not in code:
        raise MrharmonyError(f"{path}: is not NiiVue for a page without modules. {_ADVICE}")
    return code.replace("</script", r"<\/script")  # would end the page's own element


def _brain(scan: PreparedScan, voxels: FloatArray) -> Volume:
    """Return the brain on the scan's own grid, cropped to it."""
    box = bounding_box(scan.brain_mask)
    affine = scan.native.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return Volume(np.where(scan.brain_mask[box], voxels[box], 0), affine)


def _at_a_millimetre(scan: PreparedScan, voxels: FloatArray) -> Volume:
    """Return the brain on a grid of 1 mm in template position."""
    in_template = Volume(voxels, scan.rigid_to_template @ scan.native.affine)
    seen, _ = resample_brain(in_template, scan.brain_mask, _COARSE.shape, _COARSE.affine)
    return Volume(seen, _COARSE.affine)


def _encoded(volume: Volume) -> str:
    """Return a volume as a NIfTI image of 128 grey values up to `BRIGHTEST`."""
    levels = np.rint(np.clip(volume.voxels / BRIGHTEST, 0, 1) * _LEVELS).astype(np.uint8)
    image = nib.Nifti1Image(levels, volume.affine)
    image.header.set_slope_inter(BRIGHTEST / _LEVELS, 0)
    return base64.b64encode(gzip.compress(image.to_bytes(), 6, mtime=0)).decode()

"""Whether dcm2niix put the slices of an image where the scanner's positions say, to the rounding of these."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.polynomial import Polynomial

from mrharmony.core.findings import Finding, error
from mrharmony.core.volume import FloatArray, Matrix
from mrharmony.scans.dicom_files import DicomImage

_ROUNDED_STEP = 0.02  # mm by which dcm2niix's spacing may be off, since two positions are rounded
_SAME_MEANS = 1e-3  # of their range: how far the means of slices may differ before and after
_TO_RAS = np.array([-1.0, -1.0, 1.0])  # from the axes of DICOM
_OTHERWISE = "Convert the series with another program and give the .nii.gz."


@dataclass(frozen=True)
class Stack:
    """The slices of a converted image of one volume.

    dcm2niix turns 3D acquisitions to the axes of the body, so that slices may lie along any voxel axis.
    """

    path: Path  # of the image, uncompressed
    image: DicomImage  # its files
    shape: tuple[int, ...]  # voxel counts along i, j, k
    affine: Matrix  # voxels to mm, RAS+

    @property
    def normal(self) -> Matrix:
        """Direction across the slices, RAS+."""
        return np.asarray(self.image.normal * _TO_RAS)

    @property
    def axis(self) -> int:
        """Voxel axis along which the slices lie; the other two lie in them."""
        return int(np.argmax(np.abs(self.affine[:3, :3].T @ self.normal)))

    @property
    def step(self) -> float:
        """Signed distance of neighbouring slices along the normal, mm."""
        return float(self.affine[:3, self.axis] @ self.normal)

    @cached_property
    def places(self) -> list[float]:
        """What the scanner wrote: positions along the normal, mm, ascending."""
        return [place.along for place in self.image.places]

    @property
    def spacing(self) -> float:
        """Mean distance of neighbouring places, mm."""
        return (self.places[-1] - self.places[0]) / (len(self.places) - 1)

    def findings(self) -> Iterator[Finding]:
        """Compare number, spacing, place and order of the slices with what the scanner wrote."""
        if len(self.places) < 3:
            return
        if self.shape[self.axis] != len(self.places):
            size = "×".join(map(str, self.shape))
            said = f"dcm2niix made {size} voxels of {len(self.places)} slices."
            yield error("dicom-converter", said, "Convert the series yourself and give the .nii.gz.")
        elif abs(abs(self.step) - self.spacing) > _ROUNDED_STEP:
            yield error(
                "dicom-converter",
                f"dcm2niix took the slices as {abs(self.step):.4g} mm apart, but their positions are "
                f"{self.spacing:.4g} mm.",
                f"Get the series again from the scanner or the archive, or c{_OTHERWISE[1:]}",
            )
        elif (aside := self._aside()) > np.linalg.norm(self.affine[:3, :3], axis=0).max() / 2:
            said = f"dcm2niix put the slices {aside:.1f} mm from where their positions say."
            yield error("dicom-converter", said, _OTHERWISE)
        elif not self._in_order():
            said = "dcm2niix put the frames in another order than their positions say."
            yield error("dicom-converter", said, _OTHERWISE)

    def place_exactly(self) -> None:
        """Give the slices the mean spacing and the ends that the scanner wrote, in the image's header.

        dcm2niix takes the spacing of the first two slices for that of all, so that the rounding of two
        positions adds up over the stack.
        """
        if len(self.places) < 3:
            return
        affine = self.affine.copy()
        affine[:3, self.axis] *= math.copysign(self.spacing, self.step) / self.step
        first = self.places[0] if self.step > 0 else self.places[-1]
        affine[:3, 3] += (first - affine[:3, 3] @ self.normal) * self.normal
        with self.path.open("r+b") as file:
            header = nib.Nifti1Header.from_fileobj(file)
            header.set_sform(affine, 1)
            header.set_qform(affine, 1)
            file.seek(0)
            header.write_to(file)

    def _aside(self) -> float:
        """Return how far first pixels of end slices are from corners of the image, mm, but for rounding."""
        corners = np.array([*itertools.product(*((0, size - 1) for size in self.shape))])
        there = corners @ self.affine[:3, :3].T + self.affine[:3, 3]
        positions = self.image.positions * _TO_RAS
        along = positions @ self.normal
        ends = positions[[int(along.argmin()), int(along.argmax())]]
        away = np.linalg.norm(ends[:, None] - there, axis=2).min(axis=1).max()
        rounding = abs(abs(self.step) - self.spacing) * (len(self.places) - 1)
        return float(away - rounding)

    def _in_order(self) -> bool:
        """Say whether frames of one file lie in the order of their positions; true where that cannot be read.

        The means of the slices before and after are the same but for one scale.
        """
        before = self._means_before()
        if before is None or np.ptp(before) == 0:
            return True
        others = tuple(axis for axis in range(3) if axis != self.axis)
        after = np.asarray(nib.load(self.path, mmap=False).dataobj, dtype=np.float64).mean(axis=others)
        after = after if self.step > 0 else after[::-1]
        fitted = Polynomial.fit(before, after, 1)(before)
        return bool(np.abs(fitted - after).max() <= _SAME_MEANS * np.ptp(after))

    def _means_before(self) -> FloatArray | None:
        """Return the mean of each frame of a file by its place; None where it has one or cannot be read."""
        from pydicom import dcmread  # noqa: PLC0415 - comes with an extra

        file = self.image.first
        if len(self.image.files) > 1 or len(file.positions) < 2:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                frames = dcmread(file.path).pixel_array
        except Exception:  # compressed in a way that pydicom alone cannot read, and dcm2niix can
            return None
        means = frames.reshape(len(file.positions), -1).mean(axis=1)
        return np.asarray(means[np.argsort(file.positions @ self.image.normal)])

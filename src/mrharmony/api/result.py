"""What harmonizing one scan gives: the image, its evidence, and ways to save it and to look at it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure

from mrharmony.api.paths import as_path
from mrharmony.core.findings import Finding, MrharmonyError
from mrharmony.core.volume import FloatArray, Matrix, Volume
from mrharmony.evidence.drift import Evidence
from mrharmony.jobs.harmonizing import HarmonizeJob, forced_finding, require_ours, write_harmonized
from mrharmony.methods.protocol import HarmonizedVolume
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.report.contact_sheet import intensity_style
from mrharmony.report.page import PLANES, draw_slice, picture_data, render, slice_places
from mrharmony.report.scan_page import drift_gauges
from mrharmony.scans.reading import Scan, read_scan
from mrharmony.scans.writing import output_image, require_output_path
from mrharmony.space.resampling import array_to_ras, to_ras


@dataclass(frozen=True, eq=False, repr=False)
class HarmonizedScan:
    """A scan in the target's contrast, on its own voxel grid.

    Parameters
    ----------
    scan
        The scan as it was read.
    prepared
        Its brain mask, receive field, rigid alignment and intensity scale.
    harmonized
        Harmonized intensities with evidence and findings.
    job
        Method, domains and model, as the sidecar names them.
    affine
        Voxel indices to world mm, shape (4, 4), as in the given image; a file rounds it to float32.
    """

    scan: Scan
    prepared: PreparedScan
    harmonized: HarmonizedVolume
    job: HarmonizeJob
    affine: Matrix

    @property
    def image(self) -> nib.Nifti1Image:
        """The result in the target's units, float32: shape, affine, zooms and axis order are the scan's."""
        image = output_image(self.harmonized.volume.voxels, self.scan)
        return type(image)(image.dataobj, self.affine, image.header)

    @property
    def evidence(self) -> Evidence:
        """Drift figures from scan to result, and the verdict: `pass`, `warn` or `fail`."""
        return self.harmonized.evidence

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was noticed while the scan was read, prepared and harmonized."""
        return self.harmonized.findings

    def save(self, path: Path | str, *, force: bool = False, overwrite: bool = False) -> Path:
        """Write the image and its JSON sidecar; both replace an earlier result at once or not at all.

        Parameters
        ----------
        path
            A file that ends in `.nii.gz`.
        force
            Write a result whose verdict is `fail` too.
        overwrite
            Replace files that mrharmony did not write, and the sidecar of a result whose name differs from
            this one by upper and lower case in `.nii.gz` alone; never the scan itself.

        Returns
        -------
        Path
            The image.

        Raises
        ------
        MrharmonyError
            If the verdict is `fail` and `force` is not set, such files are there and `overwrite` is not
            set, the path is that of the scan itself, does not end in `.nii.gz` or is none, or the files
            cannot be written.
        """
        path = as_path(path, "path")
        if self.evidence.verdict == "fail" and not force:
            raise MrharmonyError(
                f"{path}: not written, the verdict is fail: {self.evidence.faults()}. Look at plot(), or "
                "save it all the same with force=True."
            )
        harmonized = self.harmonized
        if self.evidence.verdict == "fail":
            harmonized = replace(harmonized, findings=(*self.findings, forced_finding(self.evidence)))
        require_output_path(path, self.scan.path)
        if not overwrite:
            require_ours(path)
        elif self.scan.sha256 is None and _holds(path, self.scan.volume):
            raise MrharmonyError(
                f"{path}: this would overwrite the scan itself, whose voxels it holds. "
                "Give another name or folder."
            )
        write_harmonized(self.job, self.scan, self.prepared, harmonized, path)
        return path

    def plot(self) -> Figure:
        """Return a figure: before, after and the difference on three planes, and the verdict.

        Both are bias-corrected brains in canonical units: the difference is of contrast alone. Left is left.
        """
        figure = self._picture()
        figure.suptitle(self._title(), color="white", fontsize=13, wrap=True)
        return figure

    def _picture(self) -> Figure:
        before, after = self._brains()
        columns = {"before": before, "after": after, "after − before": after - before}
        zooms, inside = to_ras(self.scan.volume).zooms, before != 0
        figure = Figure(figsize=(9, 9.5), facecolor="black", layout="constrained")
        axes = figure.subplots(len(PLANES), len(columns))
        for line, axis in zip(axes, PLANES.values(), strict=True):
            place = slice_places(inside, axis, 1)[0]
            for panel, voxels in zip(line, columns.values(), strict=True):
                style = intensity_style(is_difference=voxels is columns["after − before"])
                draw_slice(panel, voxels, zooms, axis, place, style)
        for panel, title in zip(axes[0], columns, strict=True):
            panel.set_title(title, color="white", fontsize=22)
        return figure

    def _brains(self) -> tuple[FloatArray, FloatArray]:
        """Return scan and result in canonical units, RAS order, 0 outside the brain."""
        mask, volume = self.prepared.brain_mask, self.scan.volume
        brains = (self.prepared.intensities(), self.harmonized.intensities())
        before, after = (array_to_ras(np.where(mask, brain, 0), volume) for brain in brains)
        return before, after

    def _title(self) -> str:
        path = self.scan.path
        name = path.name if self.scan.sha256 else path.stem  # an image in memory has no type of file
        source = self.job.source.name if self.job.source else "unknown source"
        reasons = f" ({', '.join(self.evidence.reasons)})" if self.evidence.reasons else ""
        return f"{name}: {source} to {self.job.target.name}, {self.evidence.verdict}{reasons}"

    def _repr_html_(self) -> str:
        """Return verdict, findings, picture and drift figures, for notebooks."""
        return render(
            "result",
            title=self._title(),
            findings=self.findings,
            picture=picture_data(self._picture()),
            gauges=drift_gauges(self.evidence.model_dump(exclude={"verdict", "reasons"})),
        )

    def __repr__(self) -> str:
        return f"HarmonizedScan({self._title()!r}, {self.scan.volume!r})"


def _holds(path: Path, volume: Volume) -> bool:
    """Whether a file holds an image; from memory, an image does not say which file it came from."""
    try:
        there = read_scan(path).volume
    except MrharmonyError:
        return False
    return np.array_equal(there.voxels, volume.voxels)

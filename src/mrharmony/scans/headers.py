"""Headers of NIfTI and of FreeSurfer's MGH files: parsed, repaired as nibabel does, made for outputs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import nibabel as nib
import numpy as np
from nibabel.batteryrunners import BatteryRunner, Report
from nibabel.freesurfer import mghformat
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from mrharmony.core.findings import Finding, ScanFault, fault, info, warning
from mrharmony.core.volume import Matrix
from mrharmony.scans.geometry import Geometry, forms_agree
from mrharmony.scans.names import MGH_SUFFIXES, scan_suffix
from mrharmony.scans.stream import GZIP_MAGIC, ByteSource, Storage
from mrharmony.scans.voxels import Layout

_CLASSES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_SINGLE_MAGICS = (b"n+1", b"n+2")
_SPLIT_MAGICS = (b"ni1", b"ni2")
_LINE_ENDS = (b"\r\n\x1a\n", bytes(4))  # NIfTI-2's mark against changed line ends; or no mark
_MAX_DIMENSIONS = 7
_MGH_VERSION = 1
_ROUNDING = 1e-4  # of a quaternion's squared length; what is longer was damaged
_SCANNER = 1  # code of a form in scanner coordinates


@dataclass(frozen=True)
class NiftiHeader:
    """A NIfTI-1 or NIfTI-2 header, as it stands in the file and as nibabel repairs it."""

    raw: nib.Nifti1Header  # as in the file
    repaired: nib.Nifti1Header  # after nibabel's own checks and repairs: what `nibabel.load` would show
    repairs: tuple[Finding, ...]

    @classmethod
    def parse(cls, source: ByteSource) -> Self:
        """Read the header from the start of the content; `ScanFault` where it is no single NIfTI file's."""
        start = source.read(4)
        sizes = {order: int.from_bytes(start, order) for order in ("little", "big")}
        order = next((order for order, size in sizes.items() if size in _CLASSES), None)
        if order is None:
            raise _wrong_magic(start)
        block = start + source.read(sizes[order] - len(start))
        raw = _CLASSES[sizes[order]](block, endianness=order, check=False)
        magic = raw["magic"].item()
        if magic in _SPLIT_MAGICS:
            raise fault(
                "split-image",
                "This is the header of a pair (.hdr and .img); its voxels are in another file.",
                "Convert the pair to one .nii.gz, for instance with `mrconvert`.",
            )
        if magic not in _SINGLE_MAGICS:
            raise _wrong_magic(start)
        if "eol_check" in raw.keys() and bytes(raw["eol_check"].astype(np.uint8)) not in _LINE_ENDS:  # noqa: SIM118
            raise fault(
                "damaged-in-transfer",
                "The header's line-end mark is damaged, as by a transfer in text mode or a broken disk.",
                "Copy the file again from where it is sound, in binary mode.",
            )
        return cls(raw, *_repair(raw))

    def layout(self, storage: Storage) -> Layout:
        """Return how the voxels are stored."""
        rank, *dimensions = map(int, self.raw["dim"])
        code = int(self.raw["datatype"])
        types = nib.nifti1.data_type_codes
        known = code in types.dtype and types.dtype[code].itemsize > 0
        return Layout(
            dimensions=tuple(dimensions[:rank]) if 1 <= rank <= _MAX_DIMENSIONS else (),
            datatype=types.label.get(code, f"code {code}"),
            dtype=types.dtype[code].newbyteorder(self.raw.endianness) if known else None,
            offset=self.raw["vox_offset"].item(),
            min_offset=self.raw.single_vox_offset,
            slope=float(self.raw["scl_slope"]),
            inter=float(self.raw["scl_inter"]),
            storage=storage,
            has_footer=False,
        )

    def geometry(self, shape: tuple[int, int, int]) -> Geometry:
        """Return where the voxels lie."""
        sform = self._sform()
        judged = self.raw if sform is None else self.repaired  # a qform needs the zooms as they were meant
        i, j, k = map(float, judged["pixdim"][1:4])
        return Geometry(shape, (i, j, k), self._units()[0], sform, self._qform())

    def output_header(self, geometry: Geometry) -> nib.Nifti1Header:
        """Return a header that loads with the same affine and zooms to the bit.

        Fields of the geometry are copied verbatim. A qform that is missing or contradicts the sform is
        made from it. Nothing else is carried over: descriptions and extensions may name the patient.
        """
        header = _blank_header(type(self.raw), geometry.shape)
        fields = []
        if geometry.sform is not None:
            fields += ["sform_code", "srow_x", "srow_y", "srow_z"]
        if geometry.qform is not None:
            fields += ["qform_code", "quatern_b", "quatern_c", "quatern_d"]
            fields += ["qoffset_x", "qoffset_y", "qoffset_z"]
        for field in fields:
            header[field] = self.repaired[field]
        header["pixdim"][:4] = self.repaired["pixdim"][:4]
        header.set_xyzt_units(*self._units())
        return _with_both_forms(header, geometry)

    def _units(self) -> tuple[str, str]:
        try:
            space, time = self.raw.get_xyzt_units()
        except KeyError:
            return "unknown", "unknown"
        return space, time

    def _sform(self) -> Matrix | None:
        affine, code = self.repaired.get_sform(coded=True)
        return np.asarray(affine) if code else None

    def _qform(self) -> Matrix | None:
        try:
            affine, code = self.repaired.get_qform(coded=True)
        except (ValueError, HeaderDataError):
            return np.full((4, 4), np.nan)
        return np.asarray(affine) if code else None


def _wrong_magic(start: bytes) -> ScanFault:
    if start.startswith(GZIP_MAGIC):
        return fault("wrong-magic", "The file was compressed twice.", "Decompress it once with `gunzip`.")
    return fault(
        "wrong-magic",
        "The content is not NIfTI, whatever the name says.",
        "Convert the scan to NIfTI, for instance with `dcm2niix` or `mrconvert`.",
    )


def _repair(raw: nib.Nifti1Header) -> tuple[nib.Nifti1Header, tuple[Finding, ...]]:
    """Let nibabel check and repair a copy; its errors are left to the checks of the layout."""
    copy = raw.copy()
    if not np.isfinite(copy["vox_offset"]):  # nibabel's check fails on it, and the layout's tells it
        copy["vox_offset"] = raw.single_vox_offset
    checks = BatteryRunner(raw._get_checks())  # the public `check_fix` only logs the reports
    repaired, reports = checks.check_fix(copy)
    findings = [_repair_finding(report) for report in reports if 0 < report.problem_level < logging.ERROR]
    if _shorten_quaternion(repaired):
        findings.append(
            info("header-repaired", "The header had to be repaired: its quaternion was too long.")
        )
    return repaired, tuple(findings)


def _shorten_quaternion(header: nib.Nifti1Header) -> bool:
    """Give a quaternion that is too long by rounding the length 1, as nifti1_io does; say whether."""
    if not header["qform_code"]:
        return False
    vector = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    length = float(np.linalg.norm(vector))
    if not abs(header.quaternion_threshold) <= length**2 - 1 < _ROUNDING:  # nibabel allows the threshold
        return False
    for axis, value in zip("bcd", vector / length, strict=True):
        header[f"quatern_{axis}"] = value
    return True


def _repair_finding(report: Report) -> Finding:
    message = f"The header had to be repaired: {report.message}."
    if report.problem_level < logging.WARNING:
        return info("header-repaired", message)
    return warning("header-repaired", message, "Check the scan's position and orientation in a viewer.")


@dataclass(frozen=True)
class MghHeader:
    """An MGH header; nothing in it is repaired."""

    fields: dict[str, NDArray[Any]]  # as they stand in the file
    affine: Matrix | None  # voxel indices to world millimetres; None where the header does not say
    repairs: tuple[Finding, ...] = ()

    @classmethod
    def parse(cls, source: ByteSource) -> Self:
        """Read the header from the start of the content; raise `ScanFault` where it is not MGH."""
        block = source.read(mghformat.DATA_OFFSET)
        fields = np.frombuffer(block, mghformat.header_dtype, count=1)[0]
        if fields["version"] != _MGH_VERSION:
            raise fault(
                "wrong-magic",
                "The content is not MGH, whatever the name says.",
                "Convert the scan, for instance with `mri_convert`.",
            )
        known = bool(fields["goodRASFlag"])
        affine = nib.MGHImage.header_class(block, check=False).get_affine().astype(np.float64)
        names = mghformat.header_dtype.names
        return cls({name: np.asarray(fields[name]) for name in names}, affine if known else None)

    def layout(self, storage: Storage) -> Layout:
        """Return how the voxels are stored."""
        code = int(self.fields["type"])
        types = mghformat.data_type_codes
        i, j, k, frames = map(int, self.fields["dims"])
        return Layout(
            dimensions=(i, j, k) if frames == 1 else (i, j, k, frames),
            datatype=types.label.get(code, f"code {code}"),
            dtype=np.dtype(types.numpy_dtype[code]) if code in types.label else None,
            offset=mghformat.DATA_OFFSET,
            min_offset=mghformat.DATA_OFFSET,
            slope=1.0,
            inter=0.0,
            storage=storage,
            has_footer=True,
        )

    def geometry(self, shape: tuple[int, int, int]) -> Geometry:
        """Return where the voxels lie."""
        i, j, k = map(float, self.fields["delta"])
        return Geometry(shape, (i, j, k), "mm", self.affine, None)

    def output_header(self, geometry: Geometry) -> nib.Nifti1Header:
        """Return a NIfTI-1 header of the same geometry, in scanner coordinates where there are any."""
        header = _blank_header(nib.Nifti1Header, geometry.shape)
        header["pixdim"][1:4] = self.fields["delta"]
        header.set_xyzt_units("mm")
        if geometry.affine is not None:
            header.set_sform(geometry.affine, _SCANNER)
        return _with_both_forms(header, geometry)


def parse_header(path: Path, source: ByteSource) -> NiftiHeader | MghHeader:
    """Read the header of the format that the file's name announces; it is not to be trusted yet."""
    return (MghHeader if scan_suffix(path) in MGH_SUFFIXES else NiftiHeader).parse(source)


def _blank_header(kind: type[nib.Nifti1Header], shape: tuple[int, int, int]) -> nib.Nifti1Header:
    """Return a little-endian header for unscaled float32 voxels that does not say where they lie."""
    header = kind(endianness="<")
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    header["scl_slope"], header["scl_inter"] = 1, 0
    return header


def _with_both_forms(header: nib.Nifti1Header, geometry: Geometry) -> nib.Nifti1Header:
    """Add the form that is missing, or replace the qform that disagrees, where the affine keeps every bit.

    The header holds the forms of the input; it keeps a single one where the other cannot express the same
    affine (a qform has no shears, an sform rounds to float32).
    """
    if geometry.affine is None or forms_agree(geometry):
        return header
    complete = header.copy()
    if geometry.sform is None:
        complete.set_sform(geometry.affine, int(header["qform_code"]))
        exact = np.array_equal(complete.get_sform(), header.get_qform())
        return complete if exact else header
    complete.set_qform(geometry.sform, int(header["sform_code"]))
    complete["pixdim"][1:4] = header["pixdim"][1:4]  # nibabel has computed them from the affine
    shape, zooms = geometry.shape, geometry.zooms
    written = Geometry(shape, zooms, geometry.units, geometry.sform, np.asarray(complete.get_qform()))
    return complete if geometry.qform is not None or forms_agree(written) else header

"""The names of results and of what lies beside them."""

from __future__ import annotations

from pathlib import Path

from mrharmony.scans.bids import BidsScan
from mrharmony.scans.names import output_stem

SUFFIX = "_desc-harmonized_T1w.nii.gz"
SIDECAR_SUFFIX = "_desc-harmonized_T1w.json"
UNCERTAINTY_SUFFIX = "_desc-uncertainty_stdmap.nii.gz"
PAGE_SUFFIX = "_desc-harmonized_T1w.html"


def output_path(scan: BidsScan, out_dir: Path) -> Path:
    """Return where the result of a scan goes."""
    folders = [f"sub-{scan.subject}", *([f"ses-{scan.session}"] if scan.session else []), "anat"]
    return out_dir.joinpath(*folders, output_stem(scan.path) + SUFFIX)


def uncertainty_path(output: Path) -> Path:
    """Return where the uncertainty map of a harmonized scan goes."""
    return output.with_name(result_stem(output) + UNCERTAINTY_SUFFIX)


def page_path(output: Path) -> Path:
    """Return where the page of a harmonized scan goes."""
    return output.with_name(result_stem(output) + PAGE_SUFFIX)


def result_stem(output: Path) -> str:
    """Return what the names of a result and of what lies beside it begin with."""
    return output.name.removesuffix(".nii.gz").removesuffix(SUFFIX.removesuffix(".nii.gz"))

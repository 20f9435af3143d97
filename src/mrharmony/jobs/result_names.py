"""The names of results and of what lies beside them.

Where several targets share a folder, the names have their labels: `sub-01_desc-harmonizedToNSK_T1w.nii.gz`.
"""

from __future__ import annotations

import re
from pathlib import Path

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.scans.bids import BidsScan
from mrharmony.scans.names import output_stem

SUFFIX = "_desc-harmonized_T1w.nii.gz"
_RESULT = re.compile(
    r"(?P<stem>.+)_desc-harmonized(?P<to>(To[0-9A-Za-z]+)?)_T1w(\.nii\.gz|\.json|\.html)?", re.DOTALL
)  # names may have line breaks


def target_label(target: Domain) -> str:
    """Return what stands for a target in names: the letters and digits that BIDS allows there.

    Raises `MrharmonyError` if its name has none.
    """
    label = re.sub("[^0-9A-Za-z]", "", target.name)
    if not label:
        raise MrharmonyError(
            f"{target.name}: has no letter or digit that a BIDS name may have. Leave name_target=True out."
        )
    return label


def result_suffix(label: str = "") -> str:
    """Return how the names of results end, where the label of their target is in them or not."""
    return SUFFIX.replace("-harmonized_", f"-harmonizedTo{label}_") if label else SUFFIX


def group_file(out_dir: Path, name: str, label: str = "") -> Path:
    """Return where a file lies that is on all results of a target: `report.html`, `report_desc-….html`."""
    path = out_dir / name
    return path.with_name(f"{path.stem}_desc-harmonizedTo{label}{path.suffix}") if label else path


def output_path(scan: BidsScan, out_dir: Path, label: str = "") -> Path:
    """Return where the result of a scan goes."""
    folders = [f"sub-{scan.subject}", *([f"ses-{scan.session}"] if scan.session else []), "anat"]
    return out_dir.joinpath(*folders, output_stem(scan.path) + result_suffix(label))


def uncertainty_path(output: Path) -> Path:
    """Return where the uncertainty map of a harmonized scan goes."""
    return output.with_name(f"{result_stem(output)}_desc-uncertainty{_to(output)}_stdmap.nii.gz")


def page_path(output: Path) -> Path:
    """Return where the page of a harmonized scan goes."""
    return output.with_name(f"{result_stem(output)}_desc-harmonized{_to(output)}_T1w.html")


def result_stem(output: Path) -> str:
    """Return what the names of a result and of what lies beside it begin with."""
    named = _RESULT.fullmatch(output.name)
    return named["stem"] if named else output.name.removesuffix(".nii.gz").removesuffix(".json")


def label_in(path: Path) -> str | None:
    """Return the target's label in the name of a result, its sidecar or page, maybe empty; else None."""
    named = _RESULT.fullmatch(path.name)
    return named["to"].removeprefix("To") if named else None


def _to(output: Path) -> str:
    return f"To{label}" if (label := label_in(output)) else ""

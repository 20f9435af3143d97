"""`mrharmony report`: the harmonized scans of an output folder, on one page."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mrharmony.core.atomic import write_text
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import Volume
from mrharmony.jobs.brains import on_one_grid
from mrharmony.jobs.harmonizing import SIDECAR_SUFFIX, SUFFIX
from mrharmony.report.harmonization_page import HarmonizedRow, comparison, harmonization_page
from mrharmony.report.scan_page import provenance
from mrharmony.scans.reading import read_scan
from mrharmony.scans.sidecar import HarmonizedSidecar, read_harmonized
from mrharmony.space.intensity import intensity_scale
from mrharmony.space.resampling import to_ras

REPORT = "report.html"
PAGES = {"prepared scans": "index.html", "demo's contact sheet": "contact-sheet.png", "table": "group.tsv"}


@dataclass(frozen=True)
class WrittenReport:
    """The page, how many scans have which verdict, and scans whose picture lacks something."""

    page: Path
    verdicts: dict[str, int]
    remarks: dict[str, str]

    def record(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {"report": str(self.page), "verdicts": self.verdicts, "remarks": self.remarks}


def write_report(out_dir: Path) -> WrittenReport:
    """Write `report.html` on the harmonized scans anywhere below a folder of `harmonize`, `bids` or `demo`.

    Raises `MrharmonyError` if the folder or harmonized scans are missing, or the page cannot be written.
    """
    if not out_dir.is_dir():
        raise MrharmonyError(f"{out_dir}: not a folder. Name the output folder of harmonize, bids or demo.")
    notes, faults = _sidecars(out_dir)
    if not notes:
        unread = f" ({next(iter(faults))} cannot be read)" if faults else ""
        raise MrharmonyError(
            f"{out_dir}: no harmonized scans with their JSON files here{unread}. "
            "Name the output folder of harmonize, bids or demo."
        )
    rows = [_row(path, note, out_dir) for path, note in track(list(notes.items()), "drawing")]
    links = [(label, name) for label, name in PAGES.items() if (out_dir / name).is_file()]
    page = harmonization_page(f"Harmonized scans: {out_dir.resolve().name}", rows, links, list(faults))
    write_text(out_dir / REPORT, page)
    remarks = {row.name: row.remark for row in rows if row.remark} | faults
    verdicts = Counter(row.verdict for row in rows)
    return WrittenReport(out_dir / REPORT, dict(sorted(verdicts.items())), remarks)


def _sidecars(out_dir: Path) -> tuple[dict[Path, HarmonizedSidecar], dict[str, str]]:
    """Return the sidecars of harmonized scans, and the names of those that cannot be used with the reason."""
    notes, faults = {}, {}
    for path in sorted(out_dir.rglob("*.json")):
        name = str(path.relative_to(out_dir))
        try:
            if note := read_harmonized(path):
                notes[path] = note
            elif path.name.endswith(SIDECAR_SUFFIX):
                faults[name] = "cannot be read. Harmonize the scan again."
        except MrharmonyError as error:
            faults[name] = str(error).removeprefix(f"{path}: ")
    return notes, faults


def _row(path: Path, note: HarmonizedSidecar, out_dir: Path) -> HarmonizedRow:
    picture, remark = _picture(path, note)
    stem = path.name.removesuffix(".json").removesuffix(SUFFIX.removesuffix(".nii.gz"))
    pages = [page for page in sorted(path.parent.glob("*.html")) if page.name.startswith(f"{stem}_")]
    return HarmonizedRow(
        name=stem,
        source=note.source,
        target=note.target,
        verdict=note.verdict,
        reasons=note.verdict_reasons,
        drift={name: figure for name, figure in note.drift.items() if figure is not None},
        provenance=provenance(note),
        picture=picture,
        remark=remark,
        links=tuple((page.name, quote(os.fsencode(page.relative_to(out_dir).as_posix()))) for page in pages),
    )


def _picture(path: Path, note: HarmonizedSidecar) -> tuple[str | None, str]:
    """Return before and after as a data URI, and what of it is missing and why."""
    try:
        output = to_ras(read_scan(path.with_name(path.name.removesuffix(".json") + ".nii.gz")).volume)
    except MrharmonyError as error:
        return None, f"No picture: {error}"
    after = np.asarray(output.voxels / np.float32(note.intensity_scale))
    mask = after > 0
    if not mask.any():
        return None, "No picture: the output is empty."
    try:
        source = _source(path, note, output)
        scale = intensity_scale(source.voxels[mask]) / intensity_scale(after[mask])
    except MrharmonyError as error:
        return comparison(None, after, mask, output.zooms), f"The output alone: {error}"
    return comparison(source.voxels / np.float32(scale), after, mask, output.zooms), ""


def _source(path: Path, note: HarmonizedSidecar, output: Volume) -> Volume:
    """Return the scan that an output was made from, in RAS order."""
    if not note.sources:
        raise MrharmonyError("it was made of a scan in memory.")
    name = note.sources[0]
    file = path.parent / name
    if not os.path.isfile(file):  # noqa: PTH113 - which fails for a name that is too long
        raise MrharmonyError(f"the source {name:.200} is not there any more.")
    source = to_ras(read_scan(file).volume)
    if not on_one_grid(source, output):
        raise MrharmonyError(f"the source {name:.200} is on another grid now.")
    return source

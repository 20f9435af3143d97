"""`mrharmony report`: what lies in an output folder, on one page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mrharmony.core.atomic import write_bytes
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import Volume
from mrharmony.jobs.harmonizing import SUFFIX
from mrharmony.report.harmonization_page import HarmonizedRow, comparison, harmonization_page
from mrharmony.scans.reading import read_scan
from mrharmony.space.intensity import intensity_scale
from mrharmony.space.resampling import to_ras

REPORT = "report.html"
PAGES = {"prepared scans": "index.html", "demo's contact sheet": "contact-sheet.png", "table": "group.tsv"}
NEEDED = ("Target", "Method", "Verdict", "Drift", "Sources", "IntensityScale")


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
    """Write `report.html` on the harmonized scans anywhere below a folder.

    Parameters
    ----------
    out_dir
        Where `harmonize`, `bids` or `demo` wrote.

    Raises
    ------
    MrharmonyError
        If there is no such folder, no harmonized scan in it, or the page cannot be written.
    """
    if not out_dir.is_dir():
        raise MrharmonyError(f"{out_dir}: not a folder. Name the output folder of harmonize, bids or demo.")
    notes, lost = _sidecars(out_dir)
    if not notes:
        unread = f" ({lost[0]} cannot be read)" if lost else ""
        raise MrharmonyError(
            f"{out_dir}: no harmonized scans with their JSON files here{unread}. "
            "Name the output folder of harmonize, bids or demo."
        )
    rows = [_row(path, note, out_dir) for path, note in track(list(notes.items()), "drawing")]
    links = [(label, name) for label, name in PAGES.items() if (out_dir / name).is_file()]
    page = harmonization_page(f"Harmonized scans: {out_dir.resolve().name}", rows, links, lost)
    write_bytes(out_dir / REPORT, page.encode())
    verdicts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in {r.verdict for r in rows}}
    remarks = {row.name: row.remark for row in rows if row.remark}
    return WrittenReport(out_dir / REPORT, dict(sorted(verdicts.items())), remarks)


def _sidecars(out_dir: Path) -> tuple[dict[Path, dict[str, Any]], list[str]]:
    """Return the sidecars of harmonized scans by path, and the names of those that cannot be read."""
    notes, lost = {}, []
    for path in sorted(out_dir.rglob("*.json")):
        try:
            note = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            note = None
        if _is_harmonized(note):
            notes[path] = note
        elif path.name.endswith(SUFFIX.replace(".nii.gz", ".json")):
            lost.append(str(path.relative_to(out_dir)))
    return notes, lost


def _is_harmonized(note: object) -> bool:
    """Return whether JSON content has all that a row of the report is made of."""
    if not isinstance(note, dict) or any(key not in note for key in NEEDED):
        return False
    drift, sources, scale = note["Drift"], note["Sources"], note["IntensityScale"]
    kinds = isinstance(drift, dict) and isinstance(sources, list) and isinstance(scale, int | float)
    return kinds and bool(sources) and scale > 0


def _row(path: Path, note: dict[str, Any], out_dir: Path) -> HarmonizedRow:
    picture, remark = _picture(path, note)
    stem = path.name.removesuffix(".json").removesuffix(SUFFIX.removesuffix(".nii.gz"))
    pages = [page for page in sorted(path.parent.glob("*.html")) if page.name.startswith(f"{stem}_")]
    return HarmonizedRow(
        name=stem,
        source=note.get("Source"),
        target=str(note["Target"]),
        verdict=str(note["Verdict"]),
        reasons=tuple(map(str, note.get("VerdictReasons", ()))),
        drift={k: float(v) for k, v in note["Drift"].items() if isinstance(v, int | float)},
        provenance=tuple(_provenance(note)),
        picture=picture,
        remark=remark,
        links=tuple((page.name, quote(page.relative_to(out_dir).as_posix())) for page in pages),
    )


def _provenance(note: dict[str, Any]) -> Iterator[tuple[str, str]]:
    labels = {
        "Method": "method",
        "Model": "model",
        "ModelSHA256": "SHA-256",
        "Seed": "seed",
        "Extent": "extent",
    }
    yield from ((label, str(note[key])) for key, label in labels.items() if key in note)
    made = note.get("GeneratedBy", ())
    yield "made by", ", ".join(f"{tool.get('Name')} {tool.get('Version')}" for tool in made) or "unknown"
    yield "versions", ", ".join(f"{name} {version}" for name, version in note.get("Versions", {}).items())


def _picture(path: Path, note: dict[str, Any]) -> tuple[str | None, str]:
    """Return before and after as a data URI, and what of it is missing and why."""
    try:
        output = to_ras(read_scan(path.with_name(path.name.removesuffix(".json") + ".nii.gz")).volume)
    except MrharmonyError as error:
        return None, f"No picture: {error}"
    after = np.asarray(output.voxels / np.float32(note["IntensityScale"]))
    mask = after > 0
    if not mask.any():
        return None, "No picture: the output is empty."
    try:
        source = _source(path, note, output)
        scale = intensity_scale(source.voxels[mask]) / intensity_scale(after[mask])
    except MrharmonyError as error:
        return comparison(None, after, mask, output.zooms), f"The output alone: {error}"
    return comparison(source.voxels / np.float32(scale), after, mask, output.zooms), ""


def _source(path: Path, note: dict[str, Any], output: Volume) -> Volume:
    """Return the scan that an output was made from, in RAS order."""
    name = str(note["Sources"][0])
    file = path.parent / name
    if not file.is_file():
        raise MrharmonyError(f"the source {name} is not there any more.")
    source = to_ras(read_scan(file).volume)
    if source.shape != output.shape or not np.allclose(source.affine, output.affine, atol=1e-3):
        raise MrharmonyError(f"the source {name} is on another grid now.")
    return source

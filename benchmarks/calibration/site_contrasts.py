"""How bright each structure of the brain is at each real site: the second simulator's contrasts.

python -m benchmarks.calibration.site_contrasts BIDS_DIR LABELS [--heads 5]

LABELS is a folder of label maps; those that are for judging only are left out. They are aligned with the
template and grown to its size, as every scan is. A structure's core in a scan is made of the voxels of 2 mm
where most of the label maps have it, and where the scan's own segmentation agrees. Writes the package's
`simulate/foreign/contrasts.yaml` too.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

import mrharmony.simulate.foreign
from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import GRID, scans_in_turn
from benchmarks._shared.records import kept
from benchmarks._shared.reports import Report, save
from mrharmony.core.atomic import write_text
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.jobs.label_heads import MARGIN, align_label_map
from mrharmony.preparation.alignment import volume_corrected
from mrharmony.preparation.pipeline import prepare_scan
from mrharmony.scans.reading import read_scan
from mrharmony.simulate.anatomy import CSF, WM
from mrharmony.simulate.label_maps import JUDGE_HEADS, STRUCTURES, read_label_map
from mrharmony.simulate.segmentation import segment_brain
from mrharmony.space.sampling import grid_positions, nearest_values

SITES = ("HH", "LA", "NSK", "SKYRA", "TRIO")
MEASURED = (
    "cerebral-white-matter", "cerebral-cortex", "lateral-ventricle", "outer-csf", "cerebellar-white-matter",
    "cerebellar-cortex", "thalamus", "caudate", "putamen", "pallidum", "brain-stem", "hippocampus",
    "amygdala", "ventral-diencephalon",
)  # fmt: skip
LEAST_SHARE = 0.5  # of the label maps
CORE = (40, 4000)  # voxels: at least, at most
PURE = 0.95  # share of its tissue in a voxel of a core
SD_OVER_MAD = 1.4826  # of Gaussian noise: standard deviation over the median of its absolute value
CONTRASTS = Path(mrharmony.simulate.foreign.__file__).with_name("contrasts.yaml")
HEADER = """\
# Intensities of structures relative to the same scan's cerebral white matter, measured by
# `python -m benchmarks.calibration.site_contrasts`. level: median of a core, mean over people; people: its
# standard deviation between people, pooled over sites; texture: within a core, without noise.
# HH: IXI, Hammersmith Hospital (CC BY-SA 3.0). LA: OpenNeuro ds000011 (PDDL 1.0). NSK: OpenNeuro ds002748
# (CC0). TRIO: FNNDSC/data (Apache-2.0). SKYRA: pumi-minitest (PDDL). These are figures; no scan is contained.
"""


def main() -> None:
    asked = on_one_thread(__doc__, "bids_dir", "labels", heads=5)
    often = np.load(_atlas(asked.labels, asked.work))["often"]
    record: dict[str, Any] = {}
    for site in SITES:
        for scan in scans_in_turn(asked.bids_dir, site)[: asked.heads]:
            file = asked.work / f"{scan.name}.json"
            record.setdefault(site, []).append(kept(file, partial(measured, scan, often)))
    table = contrasts(record)
    write_text(
        CONTRASTS, HEADER + yaml.safe_dump(table, sort_keys=False, default_flow_style=None, width=1000)
    )
    save(asked, report(record, table, asked.command), record)


def _atlas(labels: Path, work: Path) -> Path:
    """Keep the share of the label maps that have each structure at each voxel of the template's grid."""
    file = work / "atlas.npz"
    if not file.is_file():
        paths = [path for path in sorted(labels.glob("*_dseg.nii.gz")) if path.name not in JUDGE_HEADS]
        work.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            file, often=np.mean([_structures(path) for path in paths], axis=0, dtype=np.float32)
        )
    return file


def _structures(path: Path) -> BoolArray:
    """Return where a label map, grown to the template's size, has each structure, (s, i, j, k)."""
    label_map = read_label_map(path).crop(MARGIN)
    alignment = align_label_map(label_map)
    grown = volume_corrected(alignment.rigid_to_template, alignment.size) @ label_map.affine
    nearest = nearest_values(label_map.labels, grown, grid_positions(GRID.shape, GRID.affine))
    nearest = nearest.reshape(GRID.shape)
    return np.stack([np.isin(nearest, STRUCTURES[name]) for name in MEASURED])


def measured(scan: Path, often: FloatArray) -> dict[str, Any]:
    """Measure a scan: each structure's median and robust spread relative to white matter, and the noise."""
    brain, mask = prepare_scan(read_scan(scan).volume).canonical(GRID, corrected_volume=True)
    tissues = segment_brain(brain, mask).tissues
    cores = {name: _core(name, often[place], tissues) for place, name in enumerate(MEASURED)}
    white = float(np.median(brain.voxels[cores["cerebral-white-matter"]]))
    voxels = brain.voxels / white
    structures = {}
    for name, core in cores.items():
        level = float(np.median(voxels[core]))
        spread = SD_OVER_MAD * float(np.median(np.abs(voxels[core] - level)))
        structures[name] = {"level": level, "spread": spread, "voxels": int(core.sum())}
    return {"structures": structures, "noise": _noise(voxels, cores["cerebral-white-matter"])}


def _core(name: str, often: FloatArray, tissues: FloatArray) -> BoolArray:
    """Return the voxels that are most surely a structure's."""
    brain = tissues.sum(axis=0)
    if name == "cerebral-white-matter":
        agrees = tissues[WM] > PURE
    elif name in ("lateral-ventricle", "outer-csf"):
        agrees = tissues[CSF] > PURE
    elif name.endswith("cortex"):
        agrees = tissues[WM] + tissues[CSF] < 1 - PURE
    else:
        agrees = tissues[CSF] < 1 - PURE
    sure = np.where(agrees & (brain > PURE), often, 0)
    ordered = np.sort(sure[sure > 0])[::-1]
    wanted = int(np.clip((sure >= LEAST_SHARE).sum(), *CORE))
    return np.asarray(sure >= ordered[min(wanted, len(ordered)) - 1])


def _noise(voxels: FloatArray, core: BoolArray) -> float:
    """Return the robust standard deviation of the difference of neighbours, over the square root of 2."""
    both = core[1:] & core[:-1]
    difference = (voxels[1:] - voxels[:-1])[both]
    return float(SD_OVER_MAD * np.median(np.abs(difference)) / np.sqrt(2))


def contrasts(record: dict[str, Any]) -> dict[str, Any]:
    """Return the table of each site's structures."""
    people = {name: _between_people(record, name) for name in MEASURED}
    return {
        site: {name: _row(scans, name) | {"people": round(people[name], 3)} for name in MEASURED}
        for site, scans in record.items()
    }


def _values(scans: list[dict[str, Any]], name: str, key: str) -> NDArray[np.float64]:
    return np.array([scan["structures"][name][key] for scan in scans])


def _row(scans: list[dict[str, Any]], name: str) -> dict[str, float]:
    noise = np.array([scan["noise"] for scan in scans])
    texture = np.sqrt(np.maximum(_values(scans, name, "spread") ** 2 - noise**2, 0))
    return {
        "level": round(float(_values(scans, name, "level").mean()), 3),
        "texture": round(float(np.median(texture)), 3),
    }


def _between_people(record: dict[str, Any], name: str) -> float:
    levels = [_values(scans, name, "level") for scans in record.values() if len(scans) > 1]
    return float(np.sqrt(np.mean([one.var(ddof=1) for one in levels])))


def report(record: dict[str, Any], table: dict[str, Any], command: str) -> Report:
    shown = Report(
        "Contrast of real sites, structure by structure",
        f"Command: `{command}`",
        "Scans: " + ", ".join(f"{site} {len(scans)}" for site, scans in record.items()),
        "Median of a structure's core relative to cerebral white matter, mean over people; ±: standard "
        "deviation between people, pooled over sites with several",
        "Noise of white matter at 2 mm, from neighbours: "
        + ", ".join(f"{site} {np.mean([s['noise'] for s in scans]):.3f}" for site, scans in record.items()),
    )
    rows = [
        {"name": name, "people": table[SITES[0]][name]["people"]}
        | {site: table[site][name]["level"] for site in SITES}
        for name in MEASURED
    ]
    columns = " | ".join(f"{site}: {{{site}:.3f}}" for site in SITES)
    shown.table(rows, f"structure: {{name}} | {columns} | ±: {{people:.3f}}")
    return shown


if __name__ == "__main__":
    main()

"""Draw the figures of the documentation from one virtual head: `python docs/figures/draw.py`, a minute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import mrharmony
from mrharmony.core.volume import FloatArray
from mrharmony.domains.contrast import scan_contrasts
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.methods.diffusion import load_diffusion
from mrharmony.networks.diffusion.network import reference_names
from mrharmony.preparation.canonical import canonical_brain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.report.page import PLANES, draw_slice, slice_places
from mrharmony.weights import shipped_model

FOLDER = Path(__file__).parent
SOURCE, TARGET = "spgr-1.5t", "mprage-3t"
PERSON = 5
GREYS = {"cmap": "gray", "vmin": 0, "vmax": 1.25, "interpolation": "bilinear"}
CHANGE = {"cmap": "coolwarm", "vmin": -0.4, "vmax": 0.4, "interpolation": "bilinear"}
FIELD = {"cmap": "viridis", "vmin": 0.8, "vmax": 1.2, "interpolation": "bilinear"}


def main() -> None:
    """Prepare the head as two scanners see it, harmonize it from one to the other, draw each stage."""
    source, truth = (
        mrharmony.prepare(mrharmony.virtual_scan(name, person=PERSON, zoom=1.5)) for name in (SOURCE, TARGET)
    )
    method = load_diffusion(shipped_model())
    harmonizer = mrharmony.Harmonizer.from_pretrained()
    domain = {name: harmonizer.card_.find(name) for name in (SOURCE, TARGET)}
    target = domain[TARGET]
    assert target is not None
    transform = method.transform(source, domain[SOURCE], target)
    brains = _stages(source, truth, transform)
    _save("before-after", _row({name: (brains[name], GREYS) for name in ("scan", "harmonized", "target")}))
    _save("preparation", _preparation(source))
    _save("contrasts", _contrasts(source))
    _save("lock", _lock(source, transform, brains))


def _stages(
    source: PreparedScan, truth: PreparedScan, transform: BilateralGrid
) -> dict[str, tuple[FloatArray, int]]:
    """Return the head before, after, and as the target sees it: canonical voxels and the axial slice."""
    brain, true = canonical_brain(source), canonical_brain(truth)
    after = np.zeros_like(brain.volume.voxels)
    after[brain.mask] = transform.apply(brain.positions(), np.maximum(brain.volume.voxels[brain.mask], 0))
    found = {"scan": (brain, brain.volume.voxels), "harmonized": (brain, after)}
    found["target"] = (true, true.volume.voxels)
    return {name: (voxels, _axial(one.mask)) for name, (one, voxels) in found.items()}


def _preparation(source: PreparedScan) -> Figure:
    """Return the scan as it came, the receive field, and the scan without it."""
    native, mask = source.native.voxels / source.scale, source.brain_mask
    place = _axial(mask)
    field = np.where(mask, source.bias_field, np.nan)
    pictures = {"scan": (native, GREYS), "receive field": (field, FIELD), "prepared": (native / field, GREYS)}
    return _row({name: ((voxels, place), style) for name, (voxels, style) in pictures.items()})


def _contrasts(source: PreparedScan) -> Figure:
    """Return the head as each reference scanner is expected to show it."""
    brain = canonical_brain(source)
    pictures = {}
    for name, values in zip(reference_names(), scan_contrasts(source).references, strict=True):
        voxels = np.zeros_like(brain.volume.voxels)
        voxels[brain.mask] = values
        pictures[name] = ((voxels, _axial(brain.mask)), GREYS)
    return _row(pictures, columns=4)


def _lock(
    source: PreparedScan,
    transform: BilateralGrid,
    brains: Mapping[str, tuple[FloatArray, int]],
) -> Figure:
    """Return the transform's curves in the brain's regions, and what it changes."""
    figure = Figure(figsize=(7.5, 3.1), layout="constrained", dpi=110)
    curves, change = figure.subplots(1, 2, width_ratios=(1.15, 1))
    grey = np.linspace(0, 1.3, 100, dtype=np.float32)
    positions = canonical_brain(source).positions()
    rng = np.random.default_rng(0)
    for place in positions[rng.choice(len(positions), 40, replace=False)]:
        here = np.repeat(place[None], len(grey), axis=0)
        curves.plot(grey, transform.apply(here, grey), color="tab:blue", linewidth=0.7, alpha=0.5)
    curves.plot(grey, grey, color="0.5", linestyle=":", label="no change")
    curves.set(xlabel="grey value of the scan", ylabel="grey value of the output")
    curves.set_title("40 places of the brain: one rising curve each", fontsize=9)
    curves.legend(frameon=False, fontsize=8)
    (before, slice_place), (after, _) = brains["scan"], brains["harmonized"]
    draw_slice(change, after - before, (1, 1, 1), PLANES["axial"], slice_place, CHANGE)
    change.set_title("what it adds (red) and takes away (blue)", fontsize=9)
    return figure


def _axial(mask: FloatArray) -> int:
    return slice_places(mask.astype(bool), PLANES["axial"], 1)[0]


def _row(
    pictures: Mapping[str, tuple[tuple[FloatArray, int], Mapping[str, object]]], columns: int = 3
) -> Figure:
    """Return axial slices side by side under their names."""
    rows = -(-len(pictures) // columns)
    size = 7.5 / columns
    figure = Figure(figsize=(7.5, rows * size * 1.25), facecolor="black", layout="constrained", dpi=110)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (name, ((voxels, place), style)) in zip(panels, pictures.items(), strict=False):
        draw_slice(panel, voxels, (1, 1, 1), PLANES["axial"], place, dict(style))
        panel.set_title(name, color="white", fontsize=9)
    return figure


def _save(name: str, figure: Figure) -> None:
    FigureCanvasAgg(figure).print_png(FOLDER / f"{name}.png", metadata={"Software": None})


if __name__ == "__main__":
    main()

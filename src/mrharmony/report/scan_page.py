"""The page of one harmonized scan: what was done, how it looks, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.version import __version__
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.domains.recognition import ALIKE, STRANGE
from mrharmony.domains.statistics import LANDMARKS, DomainStatistics
from mrharmony.evidence.intensities import class_thresholds
from mrharmony.evidence.verdict import LIMITS
from mrharmony.methods.protocol import HarmonizedVolume
from mrharmony.methods.registry import method_named
from mrharmony.preparation.canonical import brain_intensities, brain_positions
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.quality import gate_figures, preparation_figures
from mrharmony.report.brain_layers import GRID, Layer, layers_record, on_page
from mrharmony.report.charts import Chart, Gauge, Plane, gauge
from mrharmony.report.page import render
from mrharmony.report.volume_viewer import VolumeViewer
from mrharmony.scans.sidecar import HarmonizedSidecar
from mrharmony.space.resampling import resample_brain
from mrharmony.space.template import template, template_brain_mask

MEANINGS = {  # of the figures with limits: what they are called, and what they say
    "edge_correlation": ("edges", "the same edges are the strong ones; 1 is perfect"),
    "rank_correlation": ("order of grey values", "darker stays darker; 1 is perfect"),
    "new_edge_share": ("new edges", "share of strong edges where the scan had hardly one"),
    "clipped_share": ("clipped voxels", "share of voxels cut off at the darkest or brightest value"),
    "csf_drift": ("volume of fluid", "relative change of the dark tissue's volume"),
    "grey_drift": ("volume of grey matter", "relative change of the middle tissue's volume"),
    "white_drift": ("volume of white matter", "relative change of the bright tissue's volume"),
    "new_structure": ("new structure", "what the output has and the scan does not explain"),
    "lost_structure": ("lost structure", "what the scan has and the output lacks"),
    "target_distance": ("distance from the target", "mean distance of the grey values from the target's"),
}
TISSUES = ("dark (fluid)", "middle (grey matter)", "bright (white matter)")
CITATION = (  # of CITATION.cff, which is not installed
    "The mrharmony developers. mrharmony {version}. And the paper whose system it implements: Ikegami S, "
    "Nishimaki K, Tobari S, Iyatomi H. Evaluation of domain harmonization in brain MR images using a latent "
    "diffusion model. Hosei University."
)
_INTENSITY = (0.0, 1.4)  # canonical units that charts show
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4)
_BINS = 70
_CHARTED = 200_000  # voxels, evenly spaced, that charts are drawn from
_SIDES = (("left", "right"), ("back", "front"), ("lower", "upper"))
_FEWEST = 150  # voxels that make a point of a region's curve
_INPUTS = (0.4, 0.7, 1.0)  # canonical units whose outputs are told by region


@dataclass(frozen=True)
class Region:
    """What became of some input intensities in one part of the brain; None where it has too few voxels."""

    name: str
    outputs: tuple[float | None, ...]


@dataclass(frozen=True)
class Tissue:
    """Median intensity of a tissue, canonical units."""

    name: str
    before: float
    after: float


def scan_page(
    name: str,
    note: HarmonizedSidecar,
    prepared: PreparedScan,
    harmonized: HarmonizedVolume,
    uncertainty: FloatArray | None = None,
    niivue: Path | None = None,
) -> str:
    """Return the self-contained HTML page of a harmonized scan.

    Parameters
    ----------
    name
        Of the scan, for the heading.
    note
        What its sidecar says.
    prepared, harmonized
        The scan and what was made of it.
    uncertainty
        Standard deviation over seeds, canonical units, native grid, shape (i, j, k); None without a map.
    niivue
        `niivue.umd.js`, to show both volumes with NiiVue too; None leaves that out.

    Raises `MrharmonyError` if that file is not NiiVue.
    """
    voxels = _Voxels.of(prepared, harmonized)
    target = harmonized.target_statistics
    charts = [voxels.histogram(target), voxels.tissue_histogram()]
    charts += [voxels.quantiles(target)] if target else []
    curves, regions = voxels.curves()
    return render(
        "scan",
        title=name,
        note=note,
        sentence=verdict_sentence(note),
        source=source_sentence(note),
        gauges=drift_gauges(note.drift),
        mean_change=note.drift.get("mean_change"),
        gates=gate_figures(prepared),
        figures=preparation_figures(prepared),
        charts=charts,
        curves=curves,
        regions=regions,
        inputs=_INPUTS,
        tissues=voxels.tissues(),
        target=target,
        method=method_named(note.method).description.rstrip("."),
        facts=provenance(note),
        citation=CITATION.format(version=__version__),
        volumes=_layers(prepared, harmonized, uncertainty),
        niivue=_viewer(niivue, prepared, harmonized) if niivue else None,
    )


def verdict_sentence(note: HarmonizedSidecar) -> str:
    """Return the verdict and what decided it, in one plain sentence."""
    if note.verdict == "pass":
        return "Every drift figure keeps its limits; none of them speaks against this scan."
    because = "; ".join(reasons_in_words(note)) or "no reason is recorded"
    if note.verdict == "warn":
        return f"Look at this scan before you use it: {because}."
    return f"Do not use this scan as it is: {because}."


def reasons_in_words(note: HarmonizedSidecar) -> tuple[str, ...]:
    """Return what decided the verdict: figures with the limits that they pass, and findings."""
    return tuple(_reason(reason, note) for reason in note.verdict_reasons)


def _reason(reason: str, note: HarmonizedSidecar) -> str:
    figure = note.drift.get(reason)
    if reason not in LIMITS or figure is None:
        told = next((f["message"] for f in note.findings if f.get("code") == reason), reason)
        return told.rstrip(".")
    limit = LIMITS[reason]
    threshold = limit.fail if limit.fails(figure) else limit.warn
    return f"{MEANINGS[reason][0]}: {figure:.3f}, {'below' if limit.least else 'beyond'} {threshold:g}"


def source_sentence(note: HarmonizedSidecar) -> str:
    """Return which source was used and how near the scan is to it, in plain words."""
    near = note.source_distance
    if near is None:
        return f"Source: {note.source or 'not given'}; this method does not look how near the scan is to it."
    scale = f"scans of known scanners stay below {STRANGE:g} of their own"
    if note.source is not None:
        return f"Source: {note.source}, as given. The scan is {near:.3f} from its contrast; {scale}."
    if near < ALIKE:
        used = f"near enough (below {ALIKE:g}) to stand in for it"
    else:
        used = f"too far (not below {ALIKE:g}) to stand in for it, so the scan was fitted to the target alone"
    return (
        f"Source: not given. Of the domains that the model knows, {note.nearest_domain} is nearest: "
        f"{near:.3f} from its contrast, {used}; {scale}."
    )


def provenance(note: HarmonizedSidecar) -> tuple[tuple[str, str], ...]:
    """Return how a harmonized scan was made, as label and text."""
    made_by = ", ".join(f"{program.name} {program.version}" for program in note.generated_by)
    return (
        ("method", note.method),
        ("model", note.model or "unknown"),
        ("SHA-256", note.model_sha256 or "unknown"),
        ("seed", str(note.seed)),
        ("extent", note.extent),
        ("made by", made_by or "unknown"),
        ("versions", ", ".join(f"{name} {version}" for name, version in note.versions.items())),
    )


def drift_gauges(drift: Mapping[str, float | None]) -> list[Gauge]:
    """Return the figures that have limits on their scales."""
    return [
        gauge(*MEANINGS[name], figure, limit)
        for name, limit in LIMITS.items()
        if (figure := drift.get(name)) is not None
    ]


def target_example(statistics: DomainStatistics) -> FloatArray:
    """Return the template's brain with the grey values of a target's scans, canonical units on `GRID`.

    A model keeps figures of its target and no scan; this stands in for one. The template's intensities go
    through the rising curve that gives them the target's average quantiles.
    """
    brain, mask = _template_brain()
    levels = np.quantile(brain[mask], LANDMARKS)
    toned = np.interp(brain, [0, *levels], [0, *statistics.quantiles])
    return np.where(mask, toned, 0).astype(np.float32)


@cache
def _template_brain() -> tuple[FloatArray, BoolArray]:
    return resample_brain(template(), template_brain_mask(), GRID.shape, GRID.affine)


def _layers(
    prepared: PreparedScan, harmonized: HarmonizedVolume, uncertainty: FloatArray | None
) -> dict[str, object]:
    """Return the volumes of the page, for its script."""
    before = on_page(prepared, prepared.intensities())
    layers = {
        "before": Layer("before (bias-corrected)", before),
        "after": Layer("after (harmonized)", on_page(prepared, harmonized.intensities())),
    }
    if harmonized.target_statistics:
        layers["example"] = Layer("target example", target_example(harmonized.target_statistics))
    raw = np.asarray(prepared.native.voxels / np.float32(prepared.scale))
    layers["raw"] = Layer("raw scan", on_page(prepared, raw, head=True))
    if uncertainty is not None:
        white = float(np.percentile(uncertainty[prepared.brain_mask], 99.5)) or 1.0
        layers["uncertainty"] = Layer("uncertainty", on_page(prepared, uncertainty), white)
    return layers_record(layers, before > 0)


def _viewer(niivue: Path, prepared: PreparedScan, harmonized: HarmonizedVolume) -> VolumeViewer:
    volumes = {"before": prepared.intensities(), "after": harmonized.intensities()}
    return VolumeViewer.of(niivue, prepared, volumes)


@dataclass(frozen=True)
class _Voxels:
    """Some voxels of the brain: template mm, shape (n, 3), and canonical intensities, shape (n,)."""

    positions: FloatArray
    before: FloatArray
    after: FloatArray

    @classmethod
    def of(cls, prepared: PreparedScan, harmonized: HarmonizedVolume) -> _Voxels:
        mask = prepared.brain_mask
        some = slice(None, None, max(1, int(mask.sum()) // _CHARTED))
        after = harmonized.volume.voxels[mask][some] / np.float32(harmonized.scale)
        return cls(brain_positions(prepared)[some], brain_intensities(prepared)[some], after)

    def histogram(self, target: DomainStatistics | None) -> Chart:
        """Return grey values before and after, and those of the target's scans."""
        curves = {"before": ("before", self.before), "after": ("after", self.after)}
        densities = {style: (label, _density(values)) for style, (label, values) in curves.items()}
        wanted = _target_density(target) if target else None
        top = 1.05 * max(float(d.max()) for d in [*(d for _, d in densities.values()), _or_zero(wanted)])
        plane = Plane(_INTENSITY, (0, top))
        lines = []
        if target and wanted is not None:
            zero = np.zeros(_BINS)
            lines.append(plane.line(_target_label(target), "band", _centres(), wanted, zero))
        lines += [
            plane.line(label, style, _centres(), density) for style, (label, density) in densities.items()
        ]
        return plane.chart("Grey values", ("intensity", "share of the brain"), (_TICKS, ()), lines)

    def tissue_histogram(self) -> Chart:
        """Return the grey values of each tissue of the scan, before and after."""
        tissue, count = self._tissue(), len(self.before)
        parts = [
            (f"{when}, {name}", f"{when} tissue-{number}", _density(values[tissue == number], count))
            for number, name in enumerate(TISSUES)
            for when, values in (("before", self.before), ("after", self.after))
        ]
        plane = Plane(_INTENSITY, (0, 1.05 * max(float(density.max()) for *_, density in parts)))
        lines = [plane.line(label, style, _centres(), density) for label, style, density in parts]
        title = "Grey values by tissue of the scan"
        return plane.chart(title, ("intensity", "share of the brain"), (_TICKS, ()), lines)

    def quantiles(self, target: DomainStatistics) -> Chart:
        """Return the quantile functions before and after, in the band around the target's."""
        plane, reach = Plane((0, 1), _INTENSITY), LIMITS["target_distance"].warn
        upper, lower = target.quantiles + reach, target.quantiles - reach
        lines = [
            plane.line(f"{_target_label(target)}, ± {reach:g} (the limit)", "band", LANDMARKS, upper, lower),
            *(
                plane.line(label, label, LANDMARKS, np.quantile(values, LANDMARKS))
                for label, values in (("before", self.before), ("after", self.after))
            ),
        ]
        shares = (0.0, 0.25, 0.5, 0.75, 1.0)
        return plane.chart(
            "Quantiles", ("share of the brain that is darker", "intensity"), (shares, _TICKS), lines
        )

    def tissues(self) -> list[Tissue]:
        """Return the median intensities of the scan's tissues, before and after."""
        tissue = self._tissue()
        return [
            Tissue(name, float(np.median(self.before[here])), float(np.median(self.after[here])))
            for number, name in enumerate(TISSUES)
            if (here := tissue == number).any()
        ]

    def curves(self) -> tuple[Chart, list[Region]]:
        """Return which output each input intensity became, in the whole brain and by region."""
        plane = Plane(_INTENSITY, _INTENSITY)
        parts = {"whole brain": np.ones(len(self.before), bool), **self._regions()}
        lines, regions = [plane.line("no change", "same", _INTENSITY, _INTENSITY)], []
        for name, here in parts.items():
            xs, ys = _medians(self.before[here], self.after[here])
            style = "whole" if name == "whole brain" else "region"
            lines.append(plane.line(name, style, xs, ys))
            outputs = [float(y) for y in np.interp(_INPUTS, xs, ys, np.nan, np.nan)] if len(xs) else []
            outputs += [np.nan] * (len(_INPUTS) - len(outputs))
            regions.append(Region(name, tuple(None if np.isnan(y) else y for y in outputs)))
        names = ("intensity before", "intensity after")
        return plane.chart("From before to after, by region", names, (_TICKS, _TICKS), lines), regions

    def _tissue(self) -> NDArray[np.intp]:
        """Return the dark, middle or bright class of each voxel of the scan, parted as drift figures do."""
        thresholds = class_thresholds(*np.histogram(self.before, bins=256))
        if thresholds is None:
            return np.zeros(len(self.before), np.intp)
        return np.digitize(self.before, thresholds)

    def _regions(self) -> dict[str, NDArray[np.bool_]]:
        """Return which voxels lie in each eighth of the brain."""
        high = self.positions > np.median(self.positions, axis=0)
        high[:, 0] = self.positions[:, 0] > 0  # the template's midline
        return {
            " ".join(_SIDES[axis][end] for axis, end in enumerate(ends)): (high == np.array(ends, bool)).all(
                axis=1
            )
            for ends in product((0, 1), repeat=3)
        }


def _centres() -> NDArray[np.float64]:
    edges = np.linspace(*_INTENSITY, _BINS + 1)
    return np.asarray((edges[1:] + edges[:-1]) / 2)


def _density(values: FloatArray, count: int | None = None) -> NDArray[np.float64]:
    """Return the share of voxels, of `count` if given, in each bin of a chart."""
    counts, _ = np.histogram(np.clip(values, *_INTENSITY), bins=_BINS, range=_INTENSITY)
    return np.asarray(counts / max(1, count or len(values)))


def _target_density(target: DomainStatistics) -> NDArray[np.float64]:
    """Return the share of an average brain of the target in each bin, from its quantiles."""
    edges = np.linspace(*_INTENSITY, _BINS + 1)
    darker = np.interp(edges, [0, *target.quantiles, 1.4], [0, *LANDMARKS, 1])
    return np.diff(darker)


def _or_zero(density: NDArray[np.float64] | None) -> NDArray[np.float64]:
    return np.zeros(1) if density is None else density


def _target_label(target: DomainStatistics) -> str:
    return f"average of the target's {target.scans} scans" if target.scans else "expected of the target"


def _medians(before: FloatArray, after: FloatArray) -> tuple[list[float], list[float]]:
    """Return the median input and output of each step of input intensity that has voxels enough."""
    edges = np.linspace(0, 1.2, 25)
    step = np.digitize(before, edges)
    xs, ys = [], []
    for number in range(1, len(edges)):
        here = step == number
        if here.sum() >= _FEWEST:
            xs.append(float(np.median(before[here])))
            ys.append(float(np.median(after[here])))
    return xs, ys

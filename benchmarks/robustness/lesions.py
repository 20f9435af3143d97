"""Do white-matter lesions survive a harmonization, and does a study on the target's scanner still find them?

python -m benchmarks.robustness.lesions COHORT RESULTS --target TARGET

COHORT is a virtual cohort, RESULTS the folder of its finished benchmark, whose fitted methods are taken. Each
test subject's home scan is brought to the benchmark's target, and compared with the head's true scan there:

- contrast: (white matter near the lesions - lesions) / (white matter - grey matter), which no change of tone
  that is alike everywhere alters; in the output over in the true scan, heads with a lesion of 1 ml and more.
- slope: lesions as a study would measure them, white matter darker than the midpoint of grey and white matter
  in the target's training scans; slope on the true volume, over the slope in the true scans. All heads.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import domain
from benchmarks._shared.reports import Report, save
from mrharmony.benchmark.contenders import CEILING, OURS
from mrharmony.benchmark.folder import BenchmarkFolder
from mrharmony.benchmark.plan import BenchmarkPlan, BenchmarkScan, make_plan
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray
from mrharmony.evaluate.bootstrap import bootstrap_estimate, bootstrap_interval
from mrharmony.jobs.brains import ScanFile, prepare_together
from mrharmony.methods.registry import load_method
from mrharmony.methods.rendering import truth_fitted
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.simulate.anatomy import LESION_LABEL
from mrharmony.simulate.cohort_files import true_brain

Labels = NDArray[np.uint8]
GREY, WHITE = 2, 3  # labels of the true tissues
NEAR_MM = (4.0, 12.0)  # of the lesions: white matter that they are compared with
DEPTH_MM = 4.0  # of white matter from the other tissues, where a study looks for lesions
LEAST_ML = 1.0
Row = dict[str, Any]


def main() -> None:
    asked = on_one_thread(__doc__, "cohort", "results", target=str)
    folder = BenchmarkFolder(asked.results)
    plan = make_plan(asked.cohort, "session", asked.target)
    threshold = midpoint(plan)
    rows = [row for scan in track(plan.homes, "heads") for row in measured(plan, folder, scan, threshold)]
    table = {name: summary(rows, name) for name in dict.fromkeys(row["method"] for row in rows)}
    name = asked.cohort.resolve().name
    record = {"data": name, "target": asked.target, "summary": table, "rows": rows}
    save(asked, report(record, asked.command), record, name)


def midpoint(plan: BenchmarkPlan) -> float:
    """Return the mean intensity between grey and white matter in the target's training scans."""
    middles = []
    for scan in plan.folds[0].training_of(plan.target):
        prepared, labels = prepared_heads(plan, [scan])[0], true_labels(plan, scan.subject)
        middles.append(np.mean([np.median(prepared.intensities()[labels == part]) for part in (GREY, WHITE)]))
    return float(np.mean(middles))


def prepared_heads(plan: BenchmarkPlan, scans: Sequence[BenchmarkScan]) -> list[PreparedScan]:
    """Return scans of one head, prepared in one alignment."""
    files = [ScanFile(scan.path, true_brain(plan.root, scan.subject)) for scan in scans]
    prepared = []
    for found in prepare_together(files):
        if isinstance(found, MrharmonyError):
            raise found
        prepared.append(found)
    return prepared


def true_labels(plan: BenchmarkPlan, subject: str) -> Labels:
    """Return the true tissues of a head on the grid of its scans."""
    return np.asarray(nib.load(true_brain(plan.root, subject)).dataobj, np.uint8)


def measured(
    plan: BenchmarkPlan, folder: BenchmarkFolder, home: BenchmarkScan, threshold: float
) -> Iterator[Row]:
    """Yield what is left of a head's lesions after each method, and in the true scan."""
    there = next(s for s in plan.testing if (s.subject, s.domain) == (home.subject, plan.target))
    prepared, truth = prepared_heads(plan, [home, there])
    labels, true = true_labels(plan, home.subject), truth.intensities() * truth.brain_mask
    zooms = prepared.native.zooms
    about = {
        "subject": home.subject,
        "source": home.domain,
        "ml": float(home.participant["lesions_ml"]),
        "true contrast": contrast(true, labels, zooms),
        "true measured ml": load(true, labels, zooms, threshold),
    }
    for method, voxels in outputs(plan, folder, prepared, true, home.domain):
        found = contrast(voxels, labels, zooms), load(voxels, labels, zooms, threshold)
        yield about | {"method": method, "contrast": found[0], "measured ml": found[1]}


def outputs(
    plan: BenchmarkPlan, folder: BenchmarkFolder, scan: PreparedScan, truth: FloatArray, source: str
) -> Iterator[tuple[str, FloatArray]]:
    """Yield each fitted method of the benchmark with a scan that it has brought to the target."""
    for place in sorted(folder.fitted(0, OURS).parent.iterdir()):
        if folder.fit_seconds(0, place.name) is not None:
            contender = load_method(place.name, place)
            try:
                yield place.name, contender.intensities(scan, domain(source), domain(plan.target))
            except MrharmonyError:  # it does not serve this direction, and its row has fewer heads
                continue
    yield CEILING, truth_fitted(scan, truth)


def contrast(voxels: FloatArray, labels: Labels, zooms: Sequence[float]) -> float | None:
    """Return how far lesions are from white matter, in units of the distance of grey from white matter."""
    lesion = labels == LESION_LABEL
    if lesion.sum() * np.prod(zooms) < LEAST_ML * 1000:
        return None
    away = distance_transform_edt(~lesion, sampling=zooms)
    near = (labels == WHITE) & (away >= NEAR_MM[0]) & (away <= NEAR_MM[1])
    return relative_contrast(voxels[lesion], voxels[near], float(np.median(voxels[labels == GREY])))


def relative_contrast(lesion: FloatArray, near: FloatArray, grey: float) -> float:
    """Return how far lesions are from white matter near them, over how far grey matter is; of medians."""
    white = np.median(near)
    return float((white - np.median(lesion)) / (white - grey))


def load(voxels: FloatArray, labels: Labels, zooms: Sequence[float], threshold: float) -> float:
    """Return the volume of deep white matter that is darker than a threshold, ml."""
    white = np.isin(labels, (WHITE, LESION_LABEL))
    deep = distance_transform_edt(white, sampling=zooms) > DEPTH_MM
    return float((voxels[deep] < threshold).sum() * np.prod(zooms) / 1000)


def summary(rows: Sequence[Row], method: str) -> Row:
    """Return a method's share of contrast and of slope that is left, with 95 % intervals over heads."""
    own = [row for row in rows if row["method"] == method]
    kept = [row["contrast"] / row["true contrast"] for row in own if row["contrast"] is not None]
    cause, made, true = (
        np.array([row[name] for row in own]) for name in ("ml", "measured ml", "true measured ml")
    )

    def slope(heads: NDArray[np.intp]) -> float:
        spread = cause[heads] - cause[heads].mean()
        wanted = float(spread @ true[heads])
        return float(spread @ made[heads]) / wanted if wanted > 0 else float("nan")

    return {
        "heads": len(own),
        "lesions": len(kept),
        "contrast": list(vars(bootstrap_interval(kept, 0)).values()),
        "least": min(kept),
        "slope": list(vars(bootstrap_estimate(slope, [0] * len(own), 0)).values()),
        "error ml": float(np.abs(made - true).mean()),
    }


def report(record: Row, command: str) -> Report:
    heads = len({row["subject"] for row in record["rows"]})
    shown = Report(
        f"White-matter lesions after harmonization: {record['data']}",
        f"Command: `{command}`",
        f"Home scans of {heads} unseen virtual heads, to {record['target']}; 1: as in the true scans",
        "Contrast: lesion against near white matter, in units of grey against white matter",
        "Slope: of the volume that a fixed threshold finds, on the true volume",
        "Error: mean absolute difference of that volume from the true scan's",
    )
    shown.table(
        ({"method": method, **row} for method, row in record["summary"].items()),
        "method: {method} | heads: {heads} | with lesions: {lesions} | contrast: {contrast:.2f} | "
        "least: {least:.2f} | slope: {slope:.2f} | error ml: {error ml:.2f}",
    )
    return shown


if __name__ == "__main__":
    main()

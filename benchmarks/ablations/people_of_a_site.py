"""How much it matters which people a site happens to have: the second simulator, three sets of six a site.

python -m benchmarks.ablations.people_of_a_site LABEL_MAPS

Sites, label maps and test heads are made as for the recipe `foreign`, with 18 people a site to learn from in
place of six, all of one population. Every method learns from three sets of six of them in turn, which have
nobody in common, and from all 18, of whom ours takes twelve. All bring the same heads to the same targets, so
that the columns differ by these people alone.
"""

from itertools import permutations
from typing import Any

import numpy as np

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import domain, psnr
from benchmarks._shared.reports import Report, save
from mrharmony.benchmark.contenders import as_prepared
from mrharmony.benchmark.harmonizing import by_subject
from mrharmony.benchmark.plan import make_plan
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray
from mrharmony.domains.fitted import Brains
from mrharmony.domains.statistics import fit_statistics
from mrharmony.jobs.brains import load_brain, prepare_positions
from mrharmony.jobs.label_heads import judge_heads
from mrharmony.methods.protocol import Harmonizer
from mrharmony.methods.registry import fit_method
from mrharmony.methods.rendering import truth_fitted
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.simulate.cohort import write_recipe_cohort
from mrharmony.simulate.recipe import load_recipe
from mrharmony.space.grid import Grid

PEOPLE = 18
SIXES = {"first six": slice(6), "next six": slice(6, 12), "last six": slice(12, 18)}
SETS = {**SIXES, "all": slice(PEOPLE)}
METHODS = ("histogram", "population", "regional", "diffusion")
TARGET = "sitehh"
GRID = Grid.working(2.0)
Fitted = dict[str, dict[str, Harmonizer]]  # by people and method


def main() -> None:
    asked = on_one_thread(__doc__, "label_maps")
    recipe = load_recipe("foreign").model_copy(update={"training_subjects": PEOPLE})
    cohort = asked.work / "cohort"
    write_recipe_cohort(cohort, recipe, anatomies=judge_heads(asked.label_maps))
    plan = make_plan(cohort, "session", TARGET, ())
    (fold,) = plan.folds
    files, refused = prepare_positions(plan.positions(plan.scans.values()), GRID, asked.brains)
    if refused:
        raise SystemExit(f"refused: {refused}")
    brains = {key: load_brain(files[scan.path], GRID) for key, scan in plan.scans.items()}
    training = {site: [brains[scan.key] for scan in fold.training_of(site)] for site in fold.known}
    fitted = {
        people: fit_all({site: scans[some] for site, scans in training.items()})
        for people, some in track(SETS.items(), "fitting", len(SETS))
    }
    rows = []
    for scans in track(by_subject(plan.testing), "harmonizing"):
        head = {scan.domain: brains[scan.key] for scan in scans}
        rows += [
            {"head": scans[0].subject, "source": source, "target": target}
            | scores(fitted, head[source], head[target], source, target)
            for source, target in permutations(head, 2)
        ]
    record = {"seed": recipe.seed, "rows": rows}
    save(asked, report(record, asked.command), record)


def fit_all(training: Brains) -> dict[str, Harmonizer]:
    """Return every method, fitted on the same people."""
    statistics = fit_statistics(training)
    return {method: fit_method(method, training, statistics) for method in METHODS}


def scores(
    fitted: Fitted, given: CanonicalBrain, truth: CanonicalBrain, source: str, target: str
) -> dict[str, Any]:
    """Return the PSNR, dB, of nothing, of the truth-fitted lock, and of every method by its people."""
    scan, ways = as_prepared(given), (domain(source), domain(target))

    def against_truth(made: FloatArray) -> float:
        return psnr(made[truth.mask], truth.volume.voxels[truth.mask])

    return {
        "nothing": against_truth(scan.intensities()),
        "lock": against_truth(truth_fitted(scan, truth.volume.voxels)),
        "methods": {
            people: {name: against_truth(one.intensities(scan, *ways)) for name, one in methods.items()}
            for people, methods in fitted.items()
        },
    }


def report(record: dict[str, Any], command: str) -> Report:
    rows = record["rows"]
    heads = len({row["head"] for row in rows})
    shown = Report(
        "Which people a site happens to have",
        f"Command: `{command}`",
        f"{heads} heads, {len(rows)} directions and heads, seed {record['seed']}",
        "Mean PSNR in dB, by the people of each site that the methods learn from",
    )
    table = []
    for method in METHODS:
        means = {people: np.mean([row["methods"][people][method] for row in rows]) for people in SETS}
        sixes = [means[people] for people in SIXES]
        spread = {"mean": np.mean(sixes), "spread": np.std(sixes, ddof=1)}
        table.append({"method": method, **means, **spread})
    columns = " | ".join(f"{people}: {{{people}:.2f}}" for people in SETS)
    columns += " | mean of the sixes: {mean:.2f} | standard deviation: {spread:.2f}"
    shown.table(table, f"method: {{method}} | {columns}")
    nothing, lock = (np.mean([row[name] for row in rows]) for name in ("nothing", "lock"))
    shown.text(f"Nothing: {nothing:.2f} dB; lock fitted to the truth: {lock:.2f} dB.")
    return shown


if __name__ == "__main__":
    main()

"""What no method can know: the same heads on the target's scanner, but on other days (second simulator).

python -m benchmarks.ablations.other_days LABEL_MAPS

The cohorts of `foreign` and `foreign-confounded` are made again, and each test head goes to each site on
more days. *Another day*: the lock fitted to such a scan of the very head, which shares person and site with
the true scan, but no more. *Mean of the days*: fitted to the mean of these scans, in which the days' own
differences are smaller. *Truth*: fitted to the true scan. Beside them stand the methods that learn from the
training subjects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
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
from mrharmony.domains.statistics import fit_statistics
from mrharmony.jobs.brains import load_brain, prepare_positions
from mrharmony.jobs.label_heads import judge_heads
from mrharmony.methods.protocol import Harmonizer
from mrharmony.methods.registry import fit_method
from mrharmony.methods.rendering import truth_fitted
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.simulate.cohort import Cohort
from mrharmony.simulate.label_maps import LabelMap
from mrharmony.simulate.recipe import Recipe, Subject, load_recipe, plan_subjects
from mrharmony.simulate.scanner import session_label
from mrharmony.space.grid import Grid

RECIPES = ("foreign", "foreign-confounded")
METHODS = ("histogram", "population", "regional", "diffusion")
DAYS = ("again-1", "again-2", "again-3")
TARGET = "sitehh"
GRID = Grid.working(2.0)


def main() -> None:
    asked = on_one_thread(__doc__, "label_maps")
    heads = judge_heads(asked.label_maps)
    rows = [
        row for name in RECIPES for row in recipe_rows(load_recipe(name), heads, asked.work, asked.brains)
    ]
    record = {"rows": rows}
    save(asked, report(record, asked.command), record)


def recipe_rows(recipe: Recipe, heads: Sequence[LabelMap], work: Path, cache: Path) -> list[dict[str, Any]]:
    """Return the PSNR of every method, and through the lock, for each head and direction of a recipe."""
    subjects = tuple(on_more_days(subject) for subject in plan_subjects(recipe, len(heads)))
    root = work / recipe.name
    Cohort(recipe, subjects, recipe.seed, recipe.zoom, pose=True, anatomies=heads).write(root)
    plan = make_plan(root, "session", TARGET, ())
    (fold,) = plan.folds
    files, refused = prepare_positions(plan.positions(plan.scans.values()), GRID, cache)
    if refused:
        raise SystemExit(f"refused: {refused}")
    brains = {key: load_brain(files[scan.path], GRID) for key, scan in plan.scans.items()}
    training = {site: [brains[scan.key] for scan in fold.training_of(site)] for site in fold.known}
    statistics = fit_statistics(training)
    fitted = {method: fit_method(method, training, statistics) for method in METHODS}
    rows = []
    for scans in track(by_subject(plan.testing), "harmonizing"):
        seen = {scan.domain: brains[scan.key] for scan in scans}
        rows += [
            {"recipe": recipe.name, "head": scans[0].subject, "source": source, "target": target}
            | {"psnr": scores(fitted, seen, source, target)}
            for source, target in permutations(fold.known, 2)
        ]
    return rows


def on_more_days(subject: Subject) -> Subject:
    """Return a test subject who goes to every scanner on more days; a scanner's name seeds what varies."""
    if subject.split != "test":
        return subject
    again = (one.model_copy(update={"name": f"{one.name}-{day}"}) for one in subject.scanners for day in DAYS)
    return replace(subject, scanners=(*subject.scanners, *again))


def scores(
    fitted: Mapping[str, Harmonizer], seen: Mapping[str, CanonicalBrain], source: str, target: str
) -> dict[str, float]:
    """Return the PSNR, dB, of all rows of the table for one direction of a head, seen at sites and days."""
    scan, truth = as_prepared(seen[source]), seen[target]
    days = [seen[target + session_label(day)].volume.voxels for day in DAYS]

    def against_truth(made: FloatArray) -> float:
        return psnr(made[truth.mask], truth.volume.voxels[truth.mask])

    known = {name: one.intensities(scan, domain(source), domain(target)) for name, one in fitted.items()}
    made = {
        "nothing": scan.intensities(),
        **known,
        "another day": truth_fitted(scan, days[0]),
        "mean of the days": truth_fitted(scan, np.mean(days, axis=0)),
        "truth": truth_fitted(scan, truth.volume.voxels),
    }
    return {name: against_truth(voxels) for name, voxels in made.items()}


def report(record: dict[str, Any], command: str) -> Report:
    rows = record["rows"]
    shown = Report(
        "Scans of the same heads on other days",
        f"Command: `{command}`",
        f"{len(DAYS)} other days; recipes {', '.join(RECIPES)}, their test heads and all directions",
        "Mean PSNR, dB; room: share of the way from the best simple method to the lock fitted to the truth",
    )
    means = {
        recipe: {
            name: float(np.mean([row["psnr"][name] for row in rows if row["recipe"] == recipe]))
            for name in rows[0]["psnr"]
        }
        for recipe in RECIPES
    }
    table = [
        {"name": name}
        | {recipe: means[recipe][name] for recipe in RECIPES}
        | {f"room {recipe}": room(means[recipe], name) for recipe in RECIPES}
        for name in rows[0]["psnr"]
    ]
    columns = (f"{recipe}: {{{recipe}:.2f}} | room: {{room {recipe}:.0%}}" for recipe in RECIPES)
    shown.table(table, f"method, or what the lock is fitted to: {{name}} | {' | '.join(columns)}")
    return shown


def room(means: Mapping[str, float], name: str) -> float:
    """Return how far a row is on the way from the best simple method to the truth-fitted lock."""
    best = max(means[method] for method in METHODS if method != "diffusion")
    return (means[name] - best) / (means["truth"] - best)


if __name__ == "__main__":
    main()

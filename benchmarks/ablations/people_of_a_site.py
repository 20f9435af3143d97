"""How much it matters which people a site happens to have: the second simulator, three sets of six a site.

python -m benchmarks.ablations.people_of_a_site LABEL_MAPS

Sites, label maps and test heads are made as for the recipe `foreign`, with 18 people a site to learn from in
place of six, all of one population. Every method learns from three sets of six of them in turn, which have
nobody in common, and from all 18, of whom ours takes twelve. All bring the same heads to the same targets, so
that the columns differ by these people alone.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby, permutations
from typing import Any

import numpy as np

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import domain
from benchmarks._shared.reports import Report, save
from mrharmony.benchmark.contenders import as_prepared
from mrharmony.benchmark.plan import BenchmarkPlan, make_plan
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray
from mrharmony.evaluate.paired import PairedTruth
from mrharmony.jobs.brains import load_brain, prepare_positions
from mrharmony.jobs.label_heads import judge_heads
from mrharmony.methods.registry import fit_method
from mrharmony.methods.rendering import truth_fitted
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.simulate.cohort import write_recipe_cohort
from mrharmony.simulate.recipe import load_recipe
from mrharmony.space.grid import Grid

PEOPLE = 18
SETS = {"first six": slice(6), "next six": slice(6, 12), "last six": slice(12, 18), "all": slice(18)}
METHODS = ("histogram", "population", "regional", "diffusion")
TARGET = "sitehh"
GRID = Grid.working(2.0)


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
    methods = {
        (name, people): fit_method(name, {site: scans[some] for site, scans in training.items()})
        for people, some in track(SETS.items(), "fitting", len(SETS))
        for name in METHODS
    }
    heads = list(tested_heads(plan, brains))
    rows = []
    for number, head in enumerate(track(heads, "harmonizing")):
        for source, target in permutations(head, 2):
            scan, truth = as_prepared(head[source]), head[target]
            made = {
                ("nothing", ""): scan.intensities(),
                ("lock", ""): truth_fitted(scan, truth.volume.voxels),
            }
            made |= {
                key: one.intensities(scan, domain(source), domain(target)) for key, one in methods.items()
            }
            rows.append({"head": number, "source": source, "target": target, "psnr": scores(made, truth)})
    record = {"seed": recipe.seed, "rows": rows}
    save(asked, report(record, asked.command), record)


def tested_heads(
    plan: BenchmarkPlan, brains: Mapping[str, CanonicalBrain]
) -> Iterator[dict[str, CanonicalBrain]]:
    """Yield each tested head's brains by site."""
    tested = sorted(plan.testing, key=lambda scan: scan.subject)
    for _, scans in groupby(tested, key=lambda scan: scan.subject):
        yield {scan.domain: brains[scan.key] for scan in scans}


def scores(made: Mapping[tuple[str, str], FloatArray], truth: CanonicalBrain) -> dict[str, float]:
    """Return the PSNR of each result, dB, by method and people."""
    paired = PairedTruth(truth.volume.voxels, truth.mask)
    return {" ".join(key).strip(): paired.scores(voxels).psnr for key, voxels in made.items()}


def report(record: dict[str, Any], command: str) -> Report:
    found = record["rows"]
    shown = Report(
        "Which people a site happens to have",
        f"Command: `{command}`",
        f"{found[-1]['head'] + 1} heads, {len(found)} directions and heads, seed {record['seed']}",
        "Mean PSNR in dB, by the people of each site that the methods learn from",
    )
    means = {name: float(np.mean([row["psnr"][name] for row in found])) for name in found[0]["psnr"]}
    table = [
        {
            "method": name,
            "mean": np.mean(sixes),
            "spread": np.std(sixes, ddof=1),
            **{p: means[f"{name} {p}"] for p in SETS},
        }
        for name in METHODS
        for sixes in [[means[f"{name} {people}"] for people in SETS if people != "all"]]
    ]
    sets = " | ".join(f"{people}: {{{people}:.2f}}" for people in SETS)
    shown.table(
        table,
        f"method: {{method}} | {sets} | mean of the sixes: {{mean:.2f}} | standard deviation: {{spread:.2f}}",
    )
    shown.text(f"Nothing: {means['nothing']:.2f} dB; lock fitted to the truth: {means['lock']:.2f} dB.")
    return shown


if __name__ == "__main__":
    main()

"""`mrharmony paper`: the paper's whole experiment, from raw scans and Stable Diffusion to its Table 2.

Every stage leaves its result in the output folder and is skipped where that is complete.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mrharmony.benchmark.contenders import fit_contender
from mrharmony.benchmark.paper.slices import PaperRequest, StudyPlan
from mrharmony.benchmark.paper.study import STUDY, Record, evaluate_study, require_own_folder
from mrharmony.benchmark.plan import BenchmarkScan
from mrharmony.core.atomic import read_json, write_json
from mrharmony.core.extras import require_extra
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.jobs.adapting import STABLE_DIFFUSION, adapt_on_bids
from mrharmony.jobs.brains import load_brain, prepare_positions, require_some
from mrharmony.jobs.data_sets import DataSet
from mrharmony.jobs.preparing import prepare_data_set
from mrharmony.jobs.training import model_card
from mrharmony.methods.registry import DEFAULT_METHOD, method_named
from mrharmony.networks.card import CARD, ModelCard, TrainingScan, require_outside, save_card
from mrharmony.networks.settings import DreamBoothSettings, choose_device
from mrharmony.preparation.canonical import STATISTICS_ZOOM, CanonicalBrain
from mrharmony.scans.bids import BidsIndex
from mrharmony.space.grid import Grid

RIVALS = ("none", "histogram", "population", DEFAULT_METHOD)
RIVAL_SCANS = 100  # of a domain that rivals are fitted on, at most
PREPARED = "prepared"  # in an output folder: where scans are prepared
_CALLED = {"training_scans": "training scans", "data_set": "data set"}


@dataclass(frozen=True)
class PaperRecipe:
    """The experiment: its evaluation, and how the model that is evaluated comes about.

    Parameters
    ----------
    request
        The evaluation. Its `model` is written here; the rivals join the methods in `fitted` and stand for
        `from_model`; scans are prepared into `output/prepared` where `prepared` is None.
    base, download
        A Stable Diffusion v1.x model: a directory, or an id on the Hub, which may be downloaded or not.
    settings
        Of the training.
    rivals
        Methods that are fitted on the training scans, rows of the table.
    """

    request: PaperRequest
    base: str
    settings: DreamBoothSettings
    download: bool = False
    rivals: tuple[str, ...] = RIVALS


def plan_recipe(recipe: PaperRecipe) -> tuple[StudyPlan, Record]:
    """Check base, data set and output before anything is prepared; return the plan and its cost.

    The cost is a record with its `text` for people; without more where the model is trained already. Raises
    `MrharmonyError` where the base cannot be used, a domain has too few scans, a rival cannot be fitted, or
    the output folder belongs to another experiment.
    """
    require_extra("stable-diffusion", *STABLE_DIFFUSION)
    for name in recipe.rivals:
        entry = method_named(name)
        if entry.needs.training != "scans" and not entry.options.pairs:
            raise MrharmonyError(f"{name}: is not fitted to scans. Choose another rival.")
        entry.implementation()
    request = recipe.request
    plan = StudyPlan.make(request)
    require_own_folder(request)
    require_outside(request.output, Path(recipe.base))
    _require_same(recipe, plan)
    if (request.model / CARD).is_file():
        return plan, {"text": f"The model is trained already: {request.model}"}
    from mrharmony.benchmark.paper.cost import measure_cost  # noqa: PLC0415 - takes seconds to import
    from mrharmony.jobs.stable import card_of_base  # noqa: PLC0415 - takes seconds to import
    from mrharmony.networks.stable.model import load_stable_diffusion  # noqa: PLC0415 - takes seconds to import
    from mrharmony.networks.stable.source import resolve_source  # noqa: PLC0415 - of an optional package

    settings, device = recipe.settings, choose_device(request.device)
    source = resolve_source(recipe.base, recipe.download)
    card_of_base(source, settings)
    plan.require_unseen(source)
    model = load_stable_diffusion(source)
    model = replace(model, axis=settings.sliced_axis, enlarge=settings.enlarge)
    scans = Counter(scan.domain for scan in plan.training)
    cost = measure_cost(model, settings, scans, request, device)
    return plan, {**cost.record(), "text": cost.text()}


def run_recipe(recipe: PaperRecipe, say: Callable[[str], None]) -> Record:
    """Prepare, train, fit the rivals, and evaluate; killed and called again, it goes on where it was.

    `say` is told the cost before the work, then each stage. Returns the record of `evaluate_study`; raises as
    `plan_recipe`, `adapt_on_bids` and `evaluate_study`.
    """
    plan, cost = plan_recipe(recipe)
    say(cost["text"])
    request, output = recipe.request, recipe.request.output
    write_json(output / STUDY, _study(recipe, plan))
    prepared = request.prepared or _prepare(recipe, plan, say)
    if not (request.model / CARD).is_file():
        say(f"Training: {request.model}")
        subjects = sorted({scan.subject for scan in plan.training})
        domains = (plan.source, plan.target)
        data = DataSet(request.bids_dir, request.domain_column, domains, prepared, subjects)
        base, settings = recipe.base, recipe.settings
        adapt_on_bids(data, base, request.model, settings, request.device, download=recipe.download)
    say(f"Rivals: {', '.join(recipe.rivals)}")
    fitted = _fit_rivals(recipe, plan, prepared)
    say("Translating")
    rows = {**fitted, **request.fitted}
    return evaluate_study(replace(request, prepared=prepared, fitted=rows, from_model=()))


def _study(recipe: PaperRecipe, plan: StudyPlan) -> Record:
    """Return what the results in an output folder depend on, but for the number of images."""
    request, base = recipe.request, Path(recipe.base)
    return {
        "data_set": request.bids_dir.resolve().name,
        "base": str(base.resolve()) if base.is_dir() else recipe.base,
        "from": plan.source,
        "to": plan.target,
        "training_scans": {scan.key: scan.sha256 for scan in plan.training},
        "settings": recipe.settings.model_dump(mode="json"),
    }


def _require_same(recipe: PaperRecipe, plan: StudyPlan) -> None:
    """Refuse an output folder that another experiment began, or that does not say which.

    One that holds nothing but saved preparations, or the hidden files of a killed run, is new.
    """
    output = recipe.request.output
    path = output / STUDY
    known, asked = read_json(path), _study(recipe, plan)
    if not os.path.lexists(path):
        others = (entry.name for entry in output.iterdir()) if output.is_dir() else ()
        if any(name[0] != "." and name != PREPARED for name in others):
            raise MrharmonyError(
                f"{output}: is not empty and holds no experiment. Name a new or empty folder."
            )
    elif known is None:
        raise MrharmonyError(
            f"{path}: is damaged, and says no longer which experiment the folder holds. Restore it, or name "
            "another output."
        )
    if known and (other := next((key for key in asked if known.get(key) != asked[key]), None)):
        raise MrharmonyError(
            f"{output}: holds another experiment ({_CALLED.get(other, other)}). Name another output."
        )


def _prepare(recipe: PaperRecipe, plan: StudyPlan, say: Callable[[str], None]) -> Path:
    """Prepare the scans of the plan into derivatives with a page each; return their folder."""
    request = recipe.request
    folder = request.output / PREPARED
    say(f"Preparing: {folder}, masks to look at in {folder / 'index.html'}")
    subjects = sorted({scan.subject for scan in (*plan.training, *plan.testing)})
    index = BidsIndex.open(request.bids_dir, request.domain_column)
    prepare_data_set(index, folder, subjects, request.workers)
    return folder


def _fit_rivals(recipe: PaperRecipe, plan: StudyPlan, prepared: Path) -> dict[str, Path]:
    """Fit the rivals that are not there yet, on brains as the model sees them; return their folders.

    Their cards say whom they have learned from.
    """
    root = recipe.request.output / "fitted"
    folders = {name: root / name for name in recipe.rivals}
    missing = [name for name, folder in folders.items() if not (folder / CARD).is_file()]
    if not missing:
        return folders
    brains = _training_brains(recipe, plan, prepared)
    card = _card_of_rivals(plan, brains)
    for name in track(missing, "fitting rivals"):
        unfinished = root / f".{name}"
        for left in (unfinished, folders[name]):
            shutil.rmtree(left, ignore_errors=True)
        save_card(card, unfinished)
        fit_contender(name, brains, unfinished, plan.target)
        unfinished.rename(folders[name])
    return folders


def _rival_scans(plan: StudyPlan) -> dict[str, tuple[BenchmarkScan, ...]]:
    """Return the training scans of each domain that rivals are fitted on."""
    return {name: plan.training_of(name)[:RIVAL_SCANS] for name in (plan.source, plan.target)}


def _card_of_rivals(plan: StudyPlan, brains: Mapping[str, list[CanonicalBrain]]) -> ModelCard:
    """Return the card of methods that were fitted on the first training scans of each domain."""
    root = plan.plan.root
    seen = [
        TrainingScan(
            data_set=root.resolve().name, subject=scan.subject, sha256=scan.sha256, domain=scan.domain
        )
        for own in _rival_scans(plan).values()
        for scan in own
        if scan.sha256
    ]
    return model_card({name: len(own) for name, own in brains.items()}, root, seen=seen)


def _training_brains(
    recipe: PaperRecipe, plan: StudyPlan, prepared: Path
) -> Mapping[str, list[CanonicalBrain]]:
    """Return the training scans of both domains on the grid that rivals are fitted on."""
    request, grid = recipe.request, Grid.working(STATISTICS_ZOOM)
    domains = _rival_scans(plan)
    scans = [scan for own in domains.values() for scan in own]
    grown = recipe.settings.volume_corrected
    positions = plan.plan.positions(scans, prepared, volume_corrected=grown)
    files, refused = prepare_positions(positions, grid, request.work / "brains", request.workers)
    require_some(list(files), refused)
    return {
        name: [load_brain(files[scan.path], grid) for scan in own if scan.path in files]
        for name, own in domains.items()
    }

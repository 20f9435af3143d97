"""The command `bids`: a whole data set, as a BIDS-App."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from mrharmony.cli.app import app, echo_json, in_options
from mrharmony.cli.config import Config, settings_of, typed_options
from mrharmony.cli.options import (
    ADVANCED,
    Extent,
    HarmonizeOptions,
    Json,
    Participants,
    UsualColumn,
    flag,
    require_one,
    target_option,
    with_groups,
)
from mrharmony.cli.scans import print_assumptions, report_outcomes
from mrharmony.core.ending import GO_ON
from mrharmony.core.findings import MrharmonyError

if TYPE_CHECKING:
    from mrharmony.jobs.harmonizing import HarmonizeJob, Outcome
    from mrharmony.jobs.participants import ScanTask
    from mrharmony.jobs.run_log import RunLog
    from mrharmony.jobs.slurm import SlurmArray
    from mrharmony.jobs.sources import Sources
    from mrharmony.jobs.study_plan import StudyPlan
    from mrharmony.scans.bids import BidsIndex
    from mrharmony.scans.selection import Selection


class StudyOptions(NamedTuple):
    """Which scans of a data set are harmonized, and where they come from."""

    participant_label: Participants = None
    session_label: Annotated[
        list[str] | None, typer.Option(help="Only these sessions, with or without ses-.")
    ] = None
    bids_filter_file: Annotated[
        Path | None,
        typer.Option(
            help='JSON file that chooses scans: `{"t1w": {"acquisition": "mprage"}}`.',
            rich_help_panel=ADVANCED,
        ),
    ] = None
    scans: Annotated[
        Path | None,
        typer.Option(
            help="Text file with the only scans that are taken, the path in the data set a line.",
            rich_help_panel=ADVANCED,
        ),
    ] = None
    part: Annotated[
        str | None,
        typer.Option(
            metavar="N/M", help="Of the list of --scans, the Nth of M parts.", rich_help_panel=ADVANCED
        ),
    ] = None
    domain_column: UsualColumn = None
    source_unknown: Annotated[
        bool,
        flag("--source-unknown", "Domains of the data set are none of the model's, whatever their names."),
    ] = False
    source_protocols: Annotated[
        bool,
        flag(
            "--source-protocols",
            "Scans of domains that the model does not know come from the protocol in their BIDS sidecars.",
        ),
    ] = False

    def selection(self) -> Selection:
        """Return which scans are chosen; raises `MrharmonyError` where the filter or the list is none."""
        from mrharmony.scans.selection import Selection, read_filter, read_scan_list

        if self.part and not self.scans:
            raise MrharmonyError(f"part {self.part}: of no list. Name the list of scans with scans='FILE'.")
        listed = read_scan_list(self.scans, self.part) if self.scans else None
        elsewhere = read_scan_list(self.scans) if self.scans and self.part else frozenset()
        chosen = read_filter(self.bids_filter_file) if self.bids_filter_file else Selection()
        people, sessions = self.participant_label or (), self.session_label or ()
        return replace(chosen, participants=people, sessions=sessions, listed=listed, elsewhere=elsewhere)

    def sources(self, model: Path | None) -> Sources:
        """Return how a scan's domain is found; raises `MrharmonyError` where the model cannot be opened."""
        from mrharmony.jobs.sources import Sources
        from mrharmony.networks.card import read_card
        from mrharmony.weights import shipped_model

        card = read_card(model or shipped_model())
        return Sources(card, not self.source_unknown, self.source_protocols)


class ResourceOptions(NamedTuple):
    """What a run takes of the machine."""

    nprocs: Annotated[
        int | None,
        typer.Option(
            "--nprocs",
            "--n-cpus",
            min=1,
            help="Scans side by side; if not given, one a core, as far as memory goes, or 100 in an array.",
            rich_help_panel=ADVANCED,
        ),
    ] = None
    omp_nthreads: Annotated[
        int,
        typer.Option(
            min=1,
            help="Threads of each; with several, results may differ in their last bits.",
            rich_help_panel=ADVANCED,
        ),
    ] = 1
    mem_gb: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Memory of all together, GB; what is free if not given.", rich_help_panel=ADVANCED
        ),
    ] = None
    work_dir: Annotated[
        Path | None,
        typer.Option(
            "-w",
            "--work-dir",
            help="Keep masks and alignments here, as `mrharmony prepare` does; the next target takes them.",
            rich_help_panel=ADVANCED,
        ),
    ] = None

    @property
    def memory_gib(self) -> float | None:
        """The memory in GiB."""
        return None if self.mem_gb is None else self.mem_gb * 1e9 / 2**30

    def plan(self, tasks: Sequence[ScanTask], job: HarmonizeJob, most_tasks: int | None) -> StudyPlan:
        """Return what a run would do, or an array of so many tasks, which is not bound to this machine."""
        from mrharmony.jobs.slurm import ANY_MEMORY, AT_ONCE, shares
        from mrharmony.jobs.study_plan import plan_study

        if most_tasks is None:
            return plan_study(tasks, job, self.nprocs, self.memory_gib)
        plan = plan_study(tasks, job, self.nprocs or AT_ONCE, self.memory_gib or ANY_MEMORY)
        _, parts = shares(len(plan.scans), most_tasks)
        return replace(plan, workers=min(plan.workers, parts))


class ArrayOptions(NamedTuple):
    """An array of Slurm instead of a run."""

    slurm: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Do nothing yet: write a script into a new folder of DIR that submits the unfinished scans "
            "to Slurm as an array, and the group level after it.",
        ),
    ] = None
    slurm_prefix: Annotated[
        str,
        typer.Option(
            help="What stands before `mrharmony` in its tasks: `apptainer exec mrharmony.sif`.",
            rich_help_panel=ADVANCED,
        ),
    ] = ""
    slurm_tasks: Annotated[
        int,
        typer.Option(
            min=1,
            help="Tasks of the array at most; where there are more scans, a task does several.",
            rich_help_panel=ADVANCED,
        ),
    ] = 1000

    def write(self, context: typer.Context, index: BidsIndex, out_dir: Path, plan: StudyPlan) -> SlurmArray:
        """Write the array; raises `MrharmonyError` where its folder cannot be written."""
        from mrharmony.jobs.slurm import write_array

        assert self.slurm
        for sentence in plan.refused:
            print(sentence, file=sys.stderr)
        settings = {name: value for name, value in settings_of(context).items() if name not in _OF_THE_ARRAY}
        prefix, most = self.slurm_prefix, self.slurm_tasks
        return write_array(self.slurm, plan, index.root, out_dir, settings, prefix=prefix, most_tasks=most)


# Settings that the list of scans and the script stand for.
_OF_THE_ARRAY = frozenset(
    {
        *("slurm", "slurm-prefix", "slurm-tasks", "nprocs", "n-cpus", "mem-gb", "scans", "part"),
        *("participant-label", "session-label", "bids-filter-file"),
    }
)
# Options that the group level takes, or takes for granted as every BIDS-App does.
_AT_GROUP = frozenset({"--json", "--config", "--skip-bids-validation"})


@app.command(ended=GO_ON)
@with_groups
def bids(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS data set.")],
    out_dir: Annotated[Path, typer.Argument(help="Directory for the derivatives.")],
    level: Annotated[Literal["participant", "group"], typer.Argument(help="Which step to run.")],
    context: typer.Context,
    *,
    to: Annotated[str | None, target_option(" Needed for `participant`.")] = None,
    study: StudyOptions,
    options: HarmonizeOptions,
    resources: ResourceOptions,
    array: ArrayOptions,
    extent: Extent = "brain",
    name_target: Annotated[
        bool,
        flag(
            "--name-target",
            "Put the target into the names of the results (`desc-harmonizedToNSK`), so that several targets "
            "may share OUT_DIR.",
            ADVANCED,
        ),
    ] = False,
    dry_run: Annotated[
        bool, flag("--dry-run", "Say what would be done, and what it takes of time, memory and disk.")
    ] = False,
    config: Config = None,
    skip_bids_validation: Annotated[
        bool,
        flag(
            "--skip-bids-validation",
            "Taken as by other BIDS-Apps: no validator is run, and what is read is always checked.",
            ADVANCED,
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Harmonize a whole BIDS data set into BIDS derivatives (BIDS-App interface).

    `participant` harmonizes every scan, several side by side; the domain of each is taken from the column
    `site` of participants.tsv, or without one from the session's label, where the model knows that name.
    Elsewhere the source is unknown. Finished scans are not done again; a scan whose verdict is fail is not
    written. A folder is of one target, unless `--name-target` puts it into the names. `OUT_DIR/logs` tells
    what became of each scan. `group` then writes, from OUT_DIR alone, `group.tsv`, a line a scan, the page
    `report.html`, and the methods text, `CITATION.md` and `.bib`; where targets are in the names, it does so
    for each. It uses no other option than `--json`.

    Example: `mrharmony bids study/ study/derivatives/mrharmony participant --to NSK`
    """
    from mrharmony.jobs.data_sets import open_data_set
    from mrharmony.jobs.participants import gone_scans, plan_tasks
    from mrharmony.jobs.run_log import RunLog
    from mrharmony.jobs.sources import sessions_as_domains, strange_sites

    del config, skip_bids_validation  # one has been read by now, the other has nothing to skip
    if level == "group":
        _require_none_at_group(
            ("--dry-run", dry_run), ("--slurm", array.slurm), ("--overwrite", options.overwrite)
        )
        _tell_unused(context)
        _run_group(out_dir, as_json)
        return
    if to is None:
        raise MrharmonyError("participant: needs a target. Name a domain or protocol with target='NSK'.")
    if not array.slurm:
        _require_array(context)
    selection = study.selection()
    chosen = bool(selection.participants) or selection.listed is not None
    index = open_data_set(bids_dir, study.domain_column, chosen=chosen)
    sources = study.sources(options.model)
    require_one(resources.work_dir, options.prepared, "--work-dir")
    job = options.open_job(to, extent=extent)
    job = replace(job, prepared=resources.work_dir or job.prepared, name_target=name_target)
    print_assumptions(job)
    tasks = plan_tasks(index, out_dir, selection, job, sources)
    if strange := strange_sites(index, selection, job, sources):
        print(in_options(strange), file=sys.stderr)
    if study.domain_column is None and (named := sessions_as_domains(index, selection, sources)):
        print(in_options(named), file=sys.stderr)
    if dry_run or array.slurm:
        for gone in gone_scans(index, selection):
            print(gone.reason, file=sys.stderr)
        plan = resources.plan(tasks, job, array.slurm_tasks if array.slurm else None)
        write = plan.scans and not dry_run
        told = array.write(context, index, out_dir, plan) if write else plan
        echo_json(told.record()) if as_json else typer.echo(told)
        return
    log = RunLog(out_dir, sys.argv[1:], settings_of(context))
    for finding in index.findings:
        log.line(f"{finding.message} {finding.fix}")
    outcomes = _run_participants(index, out_dir, selection, job, sources, resources, log)
    counts = Counter(outcome.status for outcome in outcomes)
    print(", ".join(f"{count} {status}" for status, count in counts.items()) + ".", file=sys.stderr)
    report_outcomes([outcome for outcome in outcomes if as_json or not outcome.kept], as_json)


def _require_array(context: typer.Context) -> None:
    """Raise `MrharmonyError` where an option of an array was given, and no folder for one."""
    if option := next((name for name in typed_options(context) if name.startswith("--slurm-")), None):
        raise MrharmonyError(f"{option}: is of an array of Slurm. Add --slurm DIR, or leave it out.")


def _require_none_at_group(*given: tuple[str, object]) -> None:
    """Raise `MrharmonyError` where an option was given that the group level would have to ignore."""
    if option := next((name for name, value in given if value), None):
        raise MrharmonyError(f"group: {option} is of the participant level. Leave it out.")


def _tell_unused(context: typer.Context) -> None:
    """Tell which options have no part in the group level; a file of settings may hold any."""
    if unused := [option for option in typed_options(context) if option not in _AT_GROUP]:
        are = "is" if len(unused) == 1 else "are"
        print(f"group: {', '.join(unused)} {are} of the participant level, and not used.", file=sys.stderr)


def _run_group(out_dir: Path, as_json: bool) -> None:
    from mrharmony.jobs.bids_app import run_group

    files = [{"table": str(table), "report": str(report)} for table, report in run_group(out_dir)]
    lines = [path for own in files for path in own.values()]
    echo_json(files if len(files) > 1 else files[0]) if as_json else typer.echo("\n".join(lines))


def _run_participants(
    index: BidsIndex,
    out_dir: Path,
    selection: Selection,
    job: HarmonizeJob,
    sources: Sources,
    resources: ResourceOptions,
    log: RunLog,
) -> Sequence[Outcome]:
    from mrharmony.jobs.participants import Processes, run_participants
    from mrharmony.jobs.preparing import prepare_data_set
    from mrharmony.jobs.study_plan import choose_workers

    chosen = replace(index, scans=tuple(selection.of(index)))
    workers = choose_workers([scan.path for scan in chosen.scans], resources.nprocs, resources.memory_gib)
    if resources.work_dir:
        prepare_data_set(chosen, resources.work_dir, workers=workers)
    processes = Processes(workers, resources.omp_nthreads)
    outcomes = run_participants(index, out_dir, selection, job, sources, processes, log.line)
    log.line(f"ended: {len(outcomes)} scans")
    return outcomes

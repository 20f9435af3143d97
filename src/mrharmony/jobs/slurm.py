"""A study as an array of Slurm: a list of the scans to do, which never changes, and a script to submit it."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrharmony.core.atomic import require_writable, write_bytes
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.pointers import real_path
from mrharmony.jobs.run_log import settings_bytes, utc_stamp
from mrharmony.jobs.study_plan import StudyPlan
from mrharmony.scans.folders import IN_A_COPY

MOST_TASKS = 1000  # indices of an array end at 1000 where a cluster does not say otherwise
AT_ONCE = 100  # tasks, as far as one file system is concerned
ANY_MEMORY = 1e6  # GiB of all tasks together, where nobody says how much
_MARGIN_MEMORY, _MARGIN_TIME = 1.5, 3.0  # nodes differ, and heads do
_START_MINUTES = 10
_SUBMIT = """\
#!/usr/bin/env bash
# {scans} scans in {tasks} tasks; when all have ended, a job that writes the table of all scans.
# Submit with `bash submit.sh`, and add options of sbatch as you like, such as --partition=long.
set -euo pipefail
cd {here}
array=$(sbatch --parsable --job-name=mrharmony --array=1-{tasks}%{at_once} \\
    {resources} --output={logs}/task-%A-%a.log "$@" <<'TASK'
#!/bin/sh
{program} bids {study} {out} participant --config {settings} \\
    --scans {listed} --part "$SLURM_ARRAY_TASK_ID/{tasks}" --nprocs 1
TASK
)
group=$(sbatch --parsable --job-name=mrharmony-group --dependency="afterany:${{array%%;*}}" \\
    --cpus-per-task=1 --mem=2000M --time=60 --output={logs}/group-%j.log "$@" <<'GROUP'
#!/bin/sh
{program} bids {study} {out} group
GROUP
)
echo "array ${{array}}, then group ${{group}}; logs are in" {folder}
"""


@dataclass(frozen=True)
class SlurmArray:
    """An array that has been written and can be submitted.

    Parameters
    ----------
    submit
        The script; beside it lie the list of scans and the settings.
    scans, tasks
        Numbers of scans and of tasks, each of which does a part of the list.
    resources
        What `sbatch` is asked for.
    """

    submit: Path
    scans: int
    tasks: int
    resources: str

    def record(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {**vars(self), "submit": str(self.submit)}

    def __str__(self) -> str:
        """Return what there is to do and how to submit it."""
        lines = [
            f"{self.scans} scans in {self.tasks} tasks, each with {self.resources}. Nothing is submitted:",
            f"bash {shlex.quote(str(self.submit))}",
        ]
        if "--time" not in self.resources:
            lines.append(
                "How long they take is not known: add --time=MINUTES where your cluster asks for it."
            )
        return "\n".join(lines)


def write_array(
    folder: Path,
    plan: StudyPlan,
    study: Path,
    out_dir: Path,
    settings: Mapping[str, Any],
    *,
    prefix: str = "",
    most_tasks: int = MOST_TASKS,
) -> SlurmArray:
    """Write a list of scans to do and a script that submits them, in a new folder of their own.

    Parameters
    ----------
    folder
        The new one, named after the time, lies in it.
    plan
        Which scans are to do, at least one, what each takes, and how many are done side by side.
    study, out_dir
        The data set, and the folder of derivatives.
    settings
        Options of the participant level for every task, as a file of settings has them.
    prefix
        Words of a shell that stand before `mrharmony`, such as `apptainer exec image.sif`.
    most_tasks
        Each task does several scans where there are more.

    Raises `MrharmonyError` where the folder cannot be written or is the data set, or a list cannot hold the
    name of a scan, or a line of the script the prefix or a path.
    """
    if real_path(folder) == real_path(study):
        raise MrharmonyError(f"{folder}: holds the scans. Name another, such as {folder / 'code' / 'slurm'}.")
    names = [scan.relative_to(study).as_posix() for scan in plan.scans]
    study, out_dir, folder = study.absolute(), out_dir.absolute(), folder.absolute()
    _require_no_line_breaks(prefix, names, (study, out_dir, folder, Path.cwd()))
    each, tasks = shares(len(plan.scans), most_tasks)
    own = _new_folder(folder)
    array = SlurmArray(own / "submit.sh", len(plan.scans), tasks, _resources(plan, each, settings))
    write_bytes(own / "scans.txt", os.fsencode("".join(f"{name}\n" for name in names)))
    write_bytes(own / "settings.toml", settings_bytes(settings))
    script = _SUBMIT.format(
        scans=array.scans,
        tasks=tasks,
        at_once=min(plan.workers, tasks),
        resources=array.resources,
        program=_program(prefix),
        here=_quoted(Path.cwd()),
        study=_quoted(study),
        out=_quoted(out_dir),
        settings=_quoted(own / "settings.toml"),
        listed=_quoted(own / "scans.txt"),
        logs=_quoted(own).replace("%", "%%"),
        folder=_quoted(own),
    )
    write_bytes(array.submit, os.fsencode(script))
    return array


def _require_no_line_breaks(prefix: str, names: Sequence[str], folders: Sequence[Path]) -> None:
    """Raise `MrharmonyError` for what a list of lines or a script cannot hold."""
    if "\n" in prefix:
        raise MrharmonyError(f"{prefix!r}: has a line break. Give the words before `mrharmony` on one line.")
    if broken := next((name for name in names if "\n" in name), None):
        raise MrharmonyError(
            f"{broken!r}: no list can hold this name, for its line break. "
            f"Give the scan another name {IN_A_COPY}."
        )
    if broken := next((str(folder) for folder in folders if "\n" in str(folder)), None):
        raise MrharmonyError(f"{broken!r}: has a line break, which no script can hold. Rename the folder.")


def shares(scans: int, most_tasks: int) -> tuple[int, int]:
    """Return how many scans a task does, and how many tasks there are; at least one of each."""
    each = max(math.ceil(scans / most_tasks), 1)
    return each, max(math.ceil(scans / each), 1)


def _new_folder(folder: Path) -> Path:
    """Make a folder named after the time; an earlier one is never used again."""
    require_writable(folder)
    stamp, number = utc_stamp(), 1
    while True:
        own = folder / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            own.mkdir()
        except FileExistsError:
            number += 1
        else:
            return own


def _resources(plan: StudyPlan, each: int, settings: Mapping[str, Any]) -> str:
    """Return what a task of so many scans asks for; no time where it is not known."""
    memory = math.ceil(plan.memory_each_gib * _MARGIN_MEMORY * 1024 / 100) * 100
    asked = f"--cpus-per-task={settings.get('omp-nthreads', 1)} --mem={memory}M"
    if plan.seconds_each is None:
        return asked
    return f"{asked} --time={_START_MINUTES + math.ceil(plan.seconds_each * each * _MARGIN_TIME / 60)}"


def _program(prefix: str) -> str:
    """Return the words that start this program on a node: this very one, or that of a container."""
    return f"{prefix} mrharmony" if prefix else f"{shlex.quote(sys.executable)} -P -m mrharmony"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))

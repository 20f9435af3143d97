"""An array of Slurm whose tasks are killed at random, and submitted again until all scans are done.

python -m benchmarks.robustness.slurm [--scans 40] [--tasks 40] [--seed 0]

It starts a Slurm of one node itself, as root, from Debian's packages `slurm-wlm` and `munge`. In the first
two rounds, half of the tasks are killed, before their first scan or amid it, by `scancel` or by `kill -9`.
From the second round on, each script is submitted twice, so that two arrays work on one folder at once. The
results are compared to the bit with those of an undisturbed run.
"""

import csv
import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.reports import Report, save
from benchmarks._shared.slurm import one_node
from benchmarks._shared.studies import prepared_study
from mrharmony.jobs.harmonizing import HarmonizeJob
from mrharmony.jobs.opening import open_job
from mrharmony.jobs.participants import EVERYTHING, Processes, plan_tasks, run_participants
from mrharmony.jobs.records import LOGS, read_record
from mrharmony.jobs.reporting import TABLE
from mrharmony.jobs.slurm import ANY_MEMORY, SlurmArray, write_array
from mrharmony.jobs.sources import Sources
from mrharmony.jobs.study_plan import plan_study
from mrharmony.networks.card import read_card
from mrharmony.scans.bids import BidsIndex
from mrharmony.simulate.cohort import write_cohort
from mrharmony.weights import shipped_model

TARGET, METHOD = "LA", "none"
ROUNDS_WITH_KILLS, MOST_ROUNDS = 2, 6
SECONDS = 900.0  # of a round, at most
SCANCEL, KILL = "scancel", "kill -9"


@dataclass
class Victim:
    """A task that is to be killed as soon as some of its scans have begun."""

    way: str
    begun: int
    dead: bool = False


@dataclass
class Campaign:
    """A folder with a prepared study, the Slurm that works on it, and what has become of it so far."""

    folder: Path
    environment: Mapping[str, str]
    chance: random.Random
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def run(self, tasks: int, cores: int) -> dict[str, Any]:
        """Do the whole study undisturbed, then by arrays; returns what came of it."""
        self._undisturbed()
        while len(self.rounds) < MOST_ROUNDS and (array := self._freeze(tasks, cores)):
            kills = len(self.rounds) < ROUNDS_WITH_KILLS
            self._round(array, 2 if self.rounds else 1, max(array.tasks // 2, 1) if kills else 0)
            tasks = max(tasks // 2, 1)
        whole, results = _results(self.folder / "undisturbed"), _results(self.folder / "out")
        done = Counter(
            line.split()[1]
            for log in (self.folder / "out" / LOGS).glob("run-*.log")
            for line in log.read_text().splitlines()
            if ": done, " in line
        )
        with (self.folder / "out" / TABLE).open() as stream:
            statuses = Counter(row["status"] for row in csv.DictReader(stream, delimiter="\t"))
        return {
            "rounds": self.rounds,
            "files": len(whole),
            "same": sum(results.get(name) == content for name, content in whole.items()),
            "more": len(results.keys() - whole.keys()),
            "twice": sum(count > 1 for count in done.values()),
            "table": dict(statuses),
            "temporaries": len(list((self.folder / "out").rglob(".mrharmony-*"))),
        }

    def _job(self) -> HarmonizeJob:
        return replace(open_job(None, METHOD, None, TARGET), prepared=self.folder / "prepared", force=True)

    def _undisturbed(self) -> None:
        index, sources = BidsIndex.open(self.folder / "study"), Sources(read_card(shipped_model()))
        run_participants(index, self.folder / "undisturbed", EVERYTHING, self._job(), sources, Processes(1))

    def _freeze(self, tasks: int, cores: int) -> SlurmArray | None:
        index, job = BidsIndex.open(self.folder / "study"), self._job()
        sources = Sources(read_card(shipped_model()))
        planned = plan_tasks(index, self.folder / "out", EVERYTHING, job, sources)
        plan = plan_study(planned, job, cores, memory_gib=ANY_MEMORY)
        settings = {"to": TARGET, "method": METHOD, "prepared": str(self.folder / "prepared"), "force": True}
        folder, out = self.folder / "slurm", self.folder / "out"
        return write_array(folder, plan, index.root, out, settings, most_tasks=tasks) if plan.scans else None

    def _round(self, array: SlurmArray, arrays: int, kills: int) -> None:
        """Submit an array, once or twice, kill some tasks of the first, and wait until all have ended."""
        start = time.monotonic()
        before = {path: path.read_bytes() for path in array.submit.parent.parent.rglob("*.txt")}
        said = [self._ask("bash", str(array.submit)) for _ in range(arrays)]
        first = re.findall(r"\d+", said[0])[0]
        numbers = self.chance.sample(range(1, array.tasks + 1), kills)
        victims = {
            number: Victim((SCANCEL, KILL)[place % 2], self.chance.randint(0, 1) if place else 0)
            for place, number in enumerate(numbers)
        }
        end = start + SECONDS
        while jobs := self._ask("squeue", "--noheader", "--array", "--format=%F %K %T").splitlines():
            running = {
                line.split()[1] for line in jobs if line.startswith(first) and line.endswith("RUNNING")
            }
            for number, victim in victims.items():
                if not victim.dead and str(number) in running:
                    self._strike(array, first, number, victim)
            if time.monotonic() > end:
                raise TimeoutError(f"jobs are still there after {SECONDS:.0f} s: {jobs}")
            time.sleep(0.1)
        assert all(path.read_bytes() == content for path, content in before.items())
        dead = Counter(victim.way for victim in victims.values() if victim.dead)
        left = len(self._unfinished(array))
        self.rounds.append(
            {
                "round": len(self.rounds) + 1,
                "scans": array.scans,
                "tasks": array.tasks,
                "arrays": arrays,
                **{way: dead[way] for way in (SCANCEL, KILL)},
                "left": left,
                "seconds": time.monotonic() - start,
            }
        )

    def _strike(self, array: SlurmArray, job: str, number: int, victim: Victim) -> None:
        scans = (array.submit.parent / "scans.txt").read_text().splitlines()[number - 1 :: array.tasks]
        if sum(self._status(scan) is not None for scan in scans) < victim.begun:
            return
        if victim.way == SCANCEL:
            self._ask("scancel", f"{job}_{number}")
            victim.dead = True
        for process in psutil.process_iter() if victim.way == KILL else ():
            with suppress(psutil.Error):
                words = process.cmdline()
                if f"{number}/{array.tasks}" in words and str(array.submit.parent / "scans.txt") in words:
                    process.kill()
                    victim.dead = True

    def _status(self, scan: str) -> str | None:
        output = scan.replace("_T1w.nii.gz", "_desc-harmonized_T1w.nii.gz")
        record = read_record(self.folder / "out", output)
        return record.status if record else None

    def _unfinished(self, array: SlurmArray) -> list[str]:
        scans = (array.submit.parent / "scans.txt").read_text().splitlines()
        return [scan for scan in scans if self._status(scan) != "done"]

    def _ask(self, *command: str) -> str:
        return subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True, cwd=self.folder
        ).stdout


def _results(out: Path) -> dict[str, bytes]:
    found = (path for path in out.rglob("*desc-harmonized*") if LOGS not in path.parts)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found}


def main() -> None:
    asked = on_one_thread(__doc__, scans=40, tasks=40, seed=0)
    with TemporaryDirectory(prefix="mrharmony-") as name, one_node(Path(name) / "node") as environment:
        folder = Path(name)
        write_cohort(folder / "cohort", subjects=1, scanners=("mprage-3t",), seed=1, zoom=3.0)
        sites = {f"{number:03}": ("north", "south")[number % 2] for number in range(asked.scans)}
        prepared_study(folder, folder / "cohort", sites)
        record = Campaign(folder, environment, random.Random(asked.seed)).run(asked.tasks, 2)
    save(asked, report(record, asked.command), record)


def report(record: Mapping[str, Any], command: str) -> Report:
    found = Report(
        "An array of Slurm, killed and submitted again",
        f"Command: `{command}`",
        "A Slurm of one node with two cores; virtual heads of 3 mm, prepared before; method none",
        f"{record['same']} of {record['files']} files are the same to the bit as those of an undisturbed "
        f"run, {record['more']} are more; {record['twice']} scans were done twice; {record['temporaries']} "
        "temporary files are left",
        "group.tsv: " + ", ".join(f"{count} {status}" for status, count in record["table"].items()),
    )
    found.table(
        record["rounds"],
        "round: {round} | scans to do: {scans} | arrays at once: {arrays} | tasks each: {tasks} | "
        "killed by scancel: {scancel} | by kill -9: {kill -9} | scans left: {left} | s: {seconds:.0f}",
    )
    return found


if __name__ == "__main__":
    main()

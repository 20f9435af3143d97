"""Commands that are killed at random moments: is anything half-written, and does the next run end alike?

python -m benchmarks.robustness.kills [--seed 0] [--only NAME ...] [--kills 0]

Each command runs once undisturbed on small virtual data. Then it is started again and again on one folder and
killed, by SIGKILL, SIGTERM and SIGINT in turn; half of the moments are drawn from the time that it takes,
half from the number of changes in its folder that are seen. After each kill every file has to open whole. A
run to the end, after at most ten kills, has to leave no temporary file and the bytes of the undisturbed run,
but for logs and other files that hold times.
`--kills` sets the number for every command; 0 takes each one's own.
"""

import gzip
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from safetensors.numpy import load_file

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.records import kept, run_mrharmony
from benchmarks._shared.reports import Report, save
from mrharmony.core.progress import track
from mrharmony.simulate.cohort import write_recipe_cohort
from mrharmony.simulate.recipe import Recipe

RECIPE = Recipe(
    name="small",
    description="Two sites.",
    scanners=("mprage-3t", "spgr-1.5t"),
    training_subjects=2,
    test_subjects=3,
    zoom=4.0,
)
PRESET = """
working_zoom: 4
autoencoder: {channels: [8, 8], latent_channels: 4}
denoiser: {channels: [16, 32], token_size: 16}
autoencoder_stage: {steps: 4, batch: 4}
denoiser_stage: {steps: 4, batch: 4}
checkpoint_every: 1
"""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MOST_IN_A_ROW = 10
TEMPORARY = ".mrharmony-*.tmp"
SITE, OTHER = "mprage3t", "spgr15t"


@dataclass(frozen=True)
class Command:
    """A command to kill.

    Parameters
    ----------
    kills
        How often.
    words
        Its arguments; names in braces are folders, `out` that which it writes.
    timed
        Patterns of the files that hold times, beside those in folders named `logs`.
    """

    kills: int
    words: str
    timed: tuple[str, ...] = ()


COMMANDS = {
    "prepare": Command(40, "prepare {pair} {out} --workers 1", ("*_log.json",)),
    "prepare, 2 workers": Command(10, "prepare {pair} {out} --workers 2", ("*_log.json",)),
    "bids": Command(38, "bids {pair} {out} participant --to NSK --prepared {prepared} --page"),
    "train": Command(
        5,
        "train {cohort} --output {out}/model --domain-column session --method img2img --preset {preset} "
        "--prepared {prepared}",
        ("*.training/*/*.safetensors",),
    ),
    "adapt": Command(
        5,
        "adapt {cohort} --output {out}/model --domain-column session --domain " + OTHER + " --base {base} "
        "--method img2img --steps 4 --prepared {prepared}",
        ("*.training/*/*.safetensors",),
    ),
    "benchmark": Command(
        2,
        "benchmark {cohort} --output {out}/results --domain-column session --method histogram",
        ("*.json", "*.md", "*.csv", "*.png"),
    ),
}


def main() -> None:
    asked = on_one_thread(__doc__, seed=0, only=[], kills=0)
    folders = data(asked.work)
    chosen = [name for name in COMMANDS if not asked.only or name in asked.only]
    rows = [
        kept(
            asked.work / f"{name}-{asked.seed}.json",
            partial(campaign, name, asked.kills or COMMANDS[name].kills, asked.seed, asked.work, folders),
        )
        for name in chosen
    ]
    record = {"seed": asked.seed, "rows": rows}
    print(*(fault for row in rows for fault in row["faults"]), sep="\n")
    save(asked, report(record, asked.command), record)


def data(work: Path) -> dict[str, Path]:
    """Make what the commands read, once: a cohort, two scans of it, preparations, a model; by name."""
    folders = {name: (work / "data" / name).resolve() for name in ("cohort", "pair", "prepared", "base")}
    folders["preset"] = folders["cohort"].with_name("preset.yaml")
    if not folders["base"].is_dir():
        write_recipe_cohort(folders["cohort"], RECIPE)
        folders["preset"].write_text(PRESET)
        subject = sorted(folders["cohort"].glob("sub-*"))[0]
        shutil.copytree(subject, folders["pair"] / subject.name, dirs_exist_ok=True)
        run_mrharmony("prepare", folders["cohort"], folders["prepared"])
        words = f"--domain-column session --domain {SITE} --method img2img".split()
        words += ["--prepared", str(folders["prepared"]), "--preset", str(folders["preset"])]
        run_mrharmony("train", folders["cohort"], "--output", folders["base"], *words)
    return folders


def campaign(name: str, kills: int, seed: int, work: Path, folders: dict[str, Path]) -> dict[str, Any]:
    """Kill a command so many times; return what was seen."""
    command, out = COMMANDS[name], (work / name.replace(", ", "-") / "out").resolve()
    words = [word.format(**folders, out=out) for word in command.words.split()]
    shutil.rmtree(out.parent, ignore_errors=True)
    out.mkdir(parents=True)
    seconds = run_mrharmony(*words).seconds
    reference = out.rename(out.with_name("reference"))
    changes = sum(1 for _ in reference.rglob("*"))
    random = np.random.default_rng([seed, *name.encode()])
    faults: list[str] = []
    signals = dict.fromkeys((one.name for one in SIGNALS), 0)
    finished = in_a_row = 0
    for number in track(range(kills), name):
        was_killed, sent = False, SIGNALS[number % len(SIGNALS)]
        while not was_killed:
            out.mkdir(exist_ok=True)
            by_clock = bool(random.integers(2))
            after, seen = (
                (random.uniform(0, seconds), None) if by_clock else (None, int(random.integers(1, changes)))
            )
            was_killed = killed(words, out, sent, after, seen)
            in_a_row += was_killed
            faults += [f"{name} {number} {sent.name}: {fault}" for fault in half_written(out)]
            if not was_killed or in_a_row == MOST_IN_A_ROW or number == kills - 1:
                left = ended(words, reference, out, command.timed)
                faults += [f"{name} {number} {sent.name}, ended: {fault}" for fault in left]
                shutil.rmtree(out)
                finished, in_a_row = finished + 1, 0
        signals[sent.name] += 1
    return {
        "command": name,
        "seconds": seconds,
        **signals,
        "kills": sum(signals.values()),
        "finished": finished,
        "half": sum("not whole" in fault for fault in faults),
        "left": sum("temporary" in fault for fault in faults),
        "other": sum("other bytes" in fault or "ended with" in fault for fault in faults),
        "timed": ", ".join(command.timed) or "none",
        "faults": faults,
    }


def killed(
    words: list[str], out: Path, sent: signal.Signals, after: float | None, changes: int | None
) -> bool:
    """Start a command and kill it after some time or some changes; return whether it still ran."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mrharmony", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    start, before, seen = time.monotonic(), names(out), 0
    while process.poll() is None:
        now = names(out)
        seen, before = seen + len(now ^ before), now
        if (after is not None and time.monotonic() - start >= after) or (changes and seen >= changes):
            break
        time.sleep(0.01)
    running = process.poll() is None
    if running:
        process.send_signal(sent)
    process.wait()
    return running


def names(out: Path) -> set[Path]:
    """Return all that is in a folder at this moment."""
    try:
        return set(out.rglob("*"))
    except OSError:  # a folder that went while it was listed
        return set()


def half_written(out: Path) -> Iterator[str]:
    """Yield the files that do not open whole; temporary files are left out, and logs that grow."""
    for path in sorted(out.rglob("*")):
        if path.is_file() and not path.match(TEMPORARY) and path.parent.name != "logs" and not inside(path):
            try:
                open_whole(path)
            except Exception as failure:  # whatever a reader says of half a file
                yield f"{path.relative_to(out)} is not whole ({failure})"


def inside(path: Path) -> bool:
    """Say whether a file lies in a temporary folder."""
    return any(folder.match(TEMPORARY) for folder in path.parents)


def open_whole(path: Path) -> None:
    """Read a file to its end as what its name says."""
    if path.name.endswith(".nii.gz"):
        gzip.decompress(path.read_bytes())
        np.asarray(nib.load(path).dataobj)
    elif path.suffix == ".safetensors":
        load_file(path)
    elif path.suffix == ".json":
        json.loads(path.read_text("utf-8"))
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            dict(arrays)
    elif path.suffix == ".html" and not path.read_text("utf-8").rstrip().endswith("</html>"):
        raise ValueError("no end")
    elif path.suffix in (".tsv", ".csv"):
        rows = path.read_text("utf-8").splitlines()
        if len({row.count("\t") for row in rows}) != 1 and path.suffix == ".tsv":
            raise ValueError("rows of several lengths")
    elif not path.read_bytes():
        raise ValueError("empty")


def ended(words: list[str], reference: Path, out: Path, timed: tuple[str, ...]) -> list[str]:
    """Run a command to its end, where it is not there; return what is otherwise than it should be."""
    if list(differences(reference, out, timed)):
        try:
            run_mrharmony(*words)
        except SystemExit as failure:
            return [str(failure)]
    return list(differences(reference, out, timed))


def differences(reference: Path, out: Path, timed: tuple[str, ...]) -> Iterator[str]:
    """Yield what a run to the end has left otherwise than the undisturbed one."""
    yield from (f"{path.name} is a temporary file" for path in out.rglob(TEMPORARY))
    wanted, found = ({path.relative_to(folder) for path in folder.rglob("*")} for folder in (reference, out))
    for path in sorted(wanted | found):
        is_timed = "logs" in path.parts or any(path.match(pattern) for pattern in timed)
        if is_timed or path.match(TEMPORARY) or (reference / path).is_dir():
            continue
        if path not in wanted or path not in found:
            yield f"{path} has other bytes: only in one of both"
        elif (reference / path).read_bytes() != (out / path).read_bytes():
            yield f"{path} has other bytes"


def report(record: dict[str, Any], command: str) -> Report:
    shown = Report(
        "Killed commands",
        f"Command: `{command}`",
        f"Seed {record['seed']}; virtual heads of 4 mm; half the moments by the clock, half by changes seen",
        "Not whole: files that do not open after a kill. Left: temporary files after a run to the end",
        "Other bytes: files that differ from the undisturbed run's, but for logs and others that hold times",
    )
    columns = "command: {command} | undisturbed, s: {seconds:.0f} | kills: {kills} | SIGKILL: {SIGKILL} | "
    columns += "SIGTERM: {SIGTERM} | SIGINT: {SIGINT} | runs to the end: {finished} | not whole: {half} | "
    columns += "left: {left} | other bytes: {other} | others that hold times: {timed}"
    shown.table(record["rows"], columns)
    return shown


if __name__ == "__main__":
    main()

"""Whole studies through `mrharmony bids`: killed at random and resumed, compared with an undisturbed run.

    python -m benchmarks.robustness.studies --scans 1000 --kills 3
    python -m benchmarks.robustness.studies --bids BIDS_DIR --prepared PREPARED_DIR --scans 40

Without `--bids` the study is made of coarse virtual heads, whose preparations are written from the truth;
then only reading, harmonizing, writing and book-keeping count.
"""

import csv
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks._shared.command import start
from benchmarks._shared.reports import Report
from benchmarks._shared.studies import prepared_study
from mrharmony.jobs.records import LOGS
from mrharmony.simulate.cohort import write_cohort

ZOOM = 5.0  # mm
MANY = 10_000
PARTS = 4  # of a run, whose times are compared


def bids(data: Path, out: Path, *more: object, level: str = "participant") -> subprocess.Popen[str]:
    """Begin a run of `mrharmony bids`."""
    words = (sys.executable, "-m", "mrharmony", "bids", data, out, level, *more)
    return subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True, start_new_session=True)


def timed(process: subprocess.Popen[str]) -> float:
    """Wait for the end of a run; returns its seconds."""
    begin = time.monotonic()
    process.communicate()
    if process.returncode not in (0, 3):
        raise SystemExit(f"a run ended with {process.returncode}")
    return time.monotonic() - begin


def killed_and_resumed(data: Path, out: Path, options: list[object], kills: int, expected: float) -> int:
    """Kill runs at random moments, then let one come to its end; returns how many were killed."""
    chance, done = random.Random(0), 0
    for _ in range(kills):
        process = bids(data, out, *options)
        try:
            process.wait(timeout=3 + chance.random() * expected / (kills + 1))
        except subprocess.TimeoutExpired:
            done += 1
            process.send_signal(chance.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
            process.communicate()
            time.sleep(2)  # for its workers to see that
    timed(bids(data, out, *options))
    return done


def results(out: Path) -> dict[str, bytes]:
    """Return the harmonized images and their sidecars by name."""
    files = (path for path in out.rglob("*desc-harmonized_T1w*") if LOGS not in path.parts)
    return {path.name: path.read_bytes() for path in files}


def slowing(out: Path) -> float:
    """Return the time of the last quarter of a run as a multiple of that of its second."""
    moments = sorted(path.stat().st_mtime for path in out.rglob("*desc-harmonized_T1w.nii.gz"))
    part = len(moments) // PARTS
    quarters = [moments[(k + 1) * part - 1] - moments[k * part] for k in range(PARTS)]
    return quarters[-1] / quarters[1]


def growth(out: Path) -> float:
    """Return how much more memory, GiB, processes held in the last quarter of scans than in the second."""
    records = [json.loads(path.read_text("utf-8")) for path in (out / LOGS / "scans").rglob("*.json")]
    records = sorted((one for one in records if one["seconds"]), key=lambda one: str(one["started"]))
    part = len(records) // PARTS
    peaks = [float(one["peak_memory_gib"]) for one in records]
    return statistics.median(peaks[-part:]) - statistics.median(peaks[part : 2 * part])


def many(folder: Path) -> dict[str, float]:
    """Return the seconds of a dry run and of the group level on 10,000 scans that no run has touched."""
    image = nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.diag([5.0, 5.0, 5.0, 1.0]))
    rows = ["participant_id\tsite"]
    for number in range(MANY):
        path = folder / "data" / f"sub-{number:05d}" / "anat" / f"sub-{number:05d}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number == 0:
            nib.save(image, path)
        elif not path.exists():
            path.hardlink_to(folder / "data" / "sub-00000" / "anat" / "sub-00000_T1w.nii.gz")
        rows.append(f"sub-{number:05d}\t{'ab'[number % 2]}")
    (folder / "data" / "participants.tsv").write_text("\n".join([*rows, ""]), "utf-8")
    options = ("--to", "LA", "--method", "none")
    dry = timed(bids(folder / "data", folder / "out", *options, "--dry-run"))
    timed(bids(folder / "data", folder / "out", *options, "--participant-label", "00000"))
    return {"dry": dry, "group": timed(bids(folder / "data", folder / "out", level="group"))}


def judge(data: Path, folder: Path, options: list[object], kills: int) -> dict[str, object]:
    """Run a study undisturbed and disturbed, and compare."""
    seconds = timed(bids(data, folder / "whole", *options))
    killed = killed_and_resumed(data, folder / "killed", options, kills, seconds)
    group = timed(bids(data, folder / "killed", level="group"))
    with (folder / "killed" / "group.tsv").open(encoding="utf-8") as stream:
        states = [row["status"] for row in csv.DictReader(stream, delimiter="\t")]
    whole, resumed = results(folder / "whole"), results(folder / "killed")
    return {
        "scans": len(states),
        "done": states.count("done"),
        "missing": sum(state not in ("done", "refused") for state in states),
        "killed": killed,
        "differing": sum(whole.get(name) != content for name, content in resumed.items())
        + len(whole.keys() ^ resumed.keys()),
        "left": len([path for path in (folder / "killed").rglob(".mrharmony-*")]),
        "seconds": seconds / len(states),
        "slowing": slowing(folder / "whole"),
        "growth": growth(folder / "whole"),
        "group": group,
    }


def main() -> None:
    """Run the studies and write the table."""
    asked = start(__doc__, bids="", prepared="", scans=1000, kills=3, processes=2)
    real = bool(asked.bids)
    shutil.rmtree(asked.work, ignore_errors=True)
    asked.work.mkdir(parents=True)
    data, prepared = Path(asked.bids), Path(asked.prepared)
    if not real:
        write_cohort(asked.work / "heads", subjects=1, scanners=["mprage-3t"], seed=1, zoom=ZOOM)
        sites = {f"{number:05d}": "ab"[number % 2] for number in range(asked.scans)}
        prepared_study(asked.work, asked.work / "heads", sites)
        data, prepared = asked.work / "study", asked.work / "prepared"
    options = ["--prepared", prepared, "--nprocs", asked.processes, "--force"]
    options += ["--to", "NSK"] if real else ["--to", "LA", "--method", "none"]
    row = judge(data, asked.work, options, asked.kills)
    report = Report(
        "A study, killed and resumed",
        f"Command: `{asked.command.replace(str(data), 'BIDS_DIR').replace(str(prepared), 'PREPARED_DIR')}`",
        "Differing, left: results whose bytes are not those of an undisturbed run, and temporary files",
        "Slowing: time of the last quarter of the undisturbed run over that of its second; growth: of memory",
    )
    report.table(
        [row],
        "scans: {scans} | done: {done} | neither done nor refused: {missing} | runs killed: {killed} | "
        "differing: {differing} | left: {left} | s a scan, done or refused: {seconds:.2f} | "
        "slowing: {slowing:.2f} | growth, GiB: {growth:+.2f} | group, s: {group:.0f}",
    )
    if not real:
        cost = many(asked.work / "many")
        report.text(
            f"10,000 scans that no run has touched: `--dry-run` {cost['dry']:.0f} s, group level "
            f"{cost['group']:.0f} s, the start of the program counted in."
        )
    report.write(asked.stem.with_name("studies_real") if real else asked.stem)


if __name__ == "__main__":
    main()

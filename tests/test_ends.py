"""Processes that are told to end, and what they leave."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from mrharmony.core import ending
from mrharmony.core.atomic import read_json, write_json, write_text
from mrharmony.core.temporaries import new_temporary

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="cannot block signals")
IN_ORDER = "mrharmony: ended by {}. {}"
GO_ON, START_OVER = "What is finished stays; call again to go on.", "Call again to start over."
PREPARE_FIRST = (
    "Call again to start over, or run `mrharmony prepare` first and name its folder with --prepared: "
    "what that has finished stays."
)


@pytest.fixture
def scans_to_prepare(scan: Path, tmp_path: Path) -> Path:
    """A data set of two people."""
    for label in ("1", "2"):
        path = tmp_path / "study" / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        shutil.copy(scan, path)
    return tmp_path / "study"


def _start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mrharmony", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_imports_ends_in_one_sentence(number):
    process = _start("domains")
    _wait_for_blocked_signals(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert errors.strip() == IN_ORDER.format(number.name, "Call again.")


@pytest.mark.parametrize(
    ("number", "send"),
    [(signal.SIGINT, os.kill), (signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)],
    ids=["alone", "terminal", "terminated"],
)
def test_workers_end_with_the_process(number, send, scans_to_prepare: Path, tmp_path: Path):
    process = _start("prepare", scans_to_prepare, tmp_path / "out", "--workers", "2")
    end = time.monotonic() + 60
    while len(_members(process.pid)) < 5 and time.monotonic() < end:  # with workers and trackers
        time.sleep(0.05)
    send(process.pid, number)
    before = time.monotonic()
    assert process.wait(timeout=20) == 128 + number
    assert time.monotonic() - before < 2
    deadline = time.monotonic() + 4  # a worker may be amid a computation that Python cannot interrupt
    while _members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _members(process.pid)
    assert process.communicate()[1].strip() == IN_ORDER.format(number.name, GO_ON)
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_an_ended_evaluation_leaves_no_brains_and_does_not_promise_any(
    scans_to_prepare: Path, tmp_path: Path, monkeypatch
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    rows = ["participant_id\tsite\tage", "sub-1\tA\t30", "sub-2\tA\t40", "sub-3\tA\t50"]
    (scans_to_prepare / "participants.tsv").write_text("\n".join(rows))
    third = scans_to_prepare / "sub-3" / "anat" / "sub-3_T1w.nii.gz"
    third.parent.mkdir(parents=True)
    shutil.copy(scans_to_prepare / "sub-1" / "anat" / "sub-1_T1w.nii.gz", third)
    process = _start("evaluate", "biology", scans_to_prepare, "--to", "A", "--workers", "1")
    end = time.monotonic() + 60
    while not list(scratch.rglob("*.npz")) and time.monotonic() < end:
        time.sleep(0.05)
    (before,) = scratch.rglob("*.npz")
    assert before.parent.stat().st_mode & 0o077 == 0
    process.terminate()
    _, errors = process.communicate(timeout=20)
    *_, last = errors.strip().splitlines()
    assert last.startswith("mrharmony: ended by SIGTERM")
    assert last.endswith(PREPARE_FIRST)
    assert not list(scratch.rglob("*.npz"))
    assert not list(scratch.glob(".mrharmony-*"))


_HOLD_A_FOLDER = """
import time
from mrharmony.core.ending import end_in_order
from mrharmony.core.temporaries import temporary_folder
end_in_order()
with temporary_folder() as folder:
    (folder / "brain").write_text("of a person")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_temporary_folder_goes_with_its_process_or_with_the_next_one(number, tmp_path: Path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", _HOLD_A_FOLDER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder.parent == tmp_path
        assert folder.is_dir()
        process.send_signal(number)
    if number is signal.SIGKILL:
        assert folder.exists()
        once = "from mrharmony.core.temporaries import temporary_folder as t\nwith t(): pass"
        subprocess.run([sys.executable, "-c", once], check=True, env=environment)
    assert not list(tmp_path.iterdir())


_HOLD_WORKERS = """
import time
from mrharmony.core.ending import end_in_order
from mrharmony.core.workers import worker_pool
end_in_order()
if __name__ == "__main__":
    with worker_pool(1, ["json"]) as pool:
        print(pool.submit(abs, -1).result(), flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("name", ["t", "long" * 25], ids=["usual", "too long for a socket"])
def test_what_workers_were_asked_for_by_goes_with_their_process(tmp_path: Path, name: str):
    short = Path(tempfile.mkdtemp())  # `tmp_path` may be long
    script, scratch = tmp_path / "hold.py", short / name
    script.write_text(_HOLD_WORKERS)
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    command = [sys.executable, script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        assert list(scratch.iterdir())
        process.terminate()
    assert not list(scratch.iterdir())
    shutil.rmtree(short)


def _wait_for_blocked_signals(process: int) -> None:
    """Wait until a process that has just started waits for signals."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        status = Path(f"/proc/{process}/status").read_text()
        blocked = next(line for line in status.splitlines() if line.startswith("SigBlk:"))
        if int(blocked.split()[1], 16) & 1 << signal.SIGTERM - 1:
            return
        time.sleep(0.01)


def _members(group: int) -> list[str]:
    """Return the command lines of the living processes of a group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(stat.with_name("cmdline").read_text())
        except OSError:
            continue
    return found


def test_what_a_killed_process_left_is_cleared_and_that_of_a_living_one_stays(tmp_path: Path):
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    mine = new_temporary(tmp_path)
    host = mine.name.split("-")[1]
    left = tmp_path / f".mrharmony-{host}-{ended.pid}-{'0' * 16}.tmp"
    elsewhere = tmp_path / f".mrharmony-other-{ended.pid}-{'0' * 16}.tmp"
    folder = tmp_path / f".mrharmony-{host}-{ended.pid}-{'1' * 16}.tmp"
    for path in (mine, left, elsewhere):
        path.write_text("half")
    folder.mkdir()
    code = "import sys, pathlib, mrharmony.core.atomic as a; a.write_text(pathlib.Path(sys.argv[1]), 'b')"
    subprocess.run([sys.executable, "-c", code, tmp_path / "a"], check=True)
    assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere, tmp_path / "a"])


def test_temporaries_of_a_process_outside_this_container_stay(tmp_path: Path):
    container = ["unshare", "--pid", "--fork", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.call([*container, "true"], stderr=subprocess.DEVNULL):
        pytest.skip("containers of processes cannot be made here")
    mine = new_temporary(tmp_path)
    mine.write_text("half")
    code = "import sys, pathlib, mrharmony.core.atomic as a; a.write_text(pathlib.Path(sys.argv[1]), 'b')"
    subprocess.run([*container, sys.executable, "-c", code, tmp_path / "a"], check=True)
    assert sorted(tmp_path.iterdir()) == sorted([mine, tmp_path / "a"])


def test_old_leavings_of_another_machine_are_cleared(tmp_path: Path):
    elsewhere = tmp_path / f".mrharmony-other-1-{'0' * 16}.tmp"
    elsewhere.write_text("half")
    os.utime(elsewhere, (time.time() - 2 * 86_400,) * 2)
    write_text(tmp_path / "a", "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_names_that_are_not_utf8_are_written_and_read_back(tmp_path: Path):
    name = os.fsdecode(b"sub-\xe9")
    write_json(tmp_path / "a.json", {"Sources": [name]})

    assert read_json(tmp_path / "a.json") == {"Sources": [name]}


def test_a_terminal_without_unicode_ends_no_command(tmp_path: Path):
    scan = tmp_path / os.fsdecode("Müller_T1w.nii.gz".encode("latin-1"))
    scan.write_bytes(b"no scan")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "mrharmony", "check", os.fsencode(scan)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr


def test_variables_that_libraries_read_for_work_not_done_here_end_no_command(tmp_path: Path):
    environment = {**os.environ, "MPLBACKEND": "nonsense", "SOURCE_DATE_EPOCH": "abc"}
    command = [sys.executable, "-m", "mrharmony", "report", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, "no harmonized scans" in done.stderr) == (2, True), done.stderr


def _ends_with(shell_words: str, *arguments: str | Path) -> tuple[int, str]:
    """Run a command with redirections of a shell; returns its exit status and what it says of errors."""
    words = shlex.join([sys.executable, "-m", "mrharmony", *map(str, arguments)])
    done = subprocess.run(
        ["bash", "-c", f"{words} {shell_words}"], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_under_what_is_printed_is_told_in_one_sentence():
    status, errors = _ends_with("> /dev/full", "--version")
    assert (status, errors.count("\n")) == (2, 1)
    assert "standard output cannot be written (No space left on device)" in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_command_that_keeps_nothing_does_not_say_that_it_does():
    assert _ends_with("> /dev/full", "domains")[1].strip().endswith(START_OVER)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("bids DATA OUT participant --to LA", GO_ON),
        ("prepare DATA OUT", GO_ON),
        ("train DATA --output OUT", GO_ON),
        ("adapt DATA --output OUT", GO_ON),
        ("simulate OUT --anatomy DATA", GO_ON),
        ("benchmark DATA --output OUT", GO_ON),
        ("evaluate paper DATA --from A --to B --output OUT", GO_ON),
        ("evaluate unlearning DATA --work OUT", GO_ON),
        ("evaluate unlearning DATA", PREPARE_FIRST),
        ("evaluate biology DATA --to A", PREPARE_FIRST),
        ("evaluate biology DATA --to A --prepared HERE", START_OVER),
        ("evaluate sites DATA", PREPARE_FIRST),
        ("evaluate repeat DATA DATA", PREPARE_FIRST),
        ("evaluate repeat DATA DATA --mask DATA", START_OVER),
        ("check DATA", START_OVER),
        ("report DATA", START_OVER),
        (
            "harmonize DATA --to LA --output OUT",
            "What is finished stays; call again with the other scans.",
        ),
    ],
)
def test_what_is_said_at_the_end_is_what_the_command_keeps(run, tmp_path: Path, command: str, sentence: str):
    places = {"DATA": tmp_path / "missing", "OUT": tmp_path / "out", "HERE": tmp_path}
    ending.note_remedy("of another command")
    run(*(places.get(word, word) for word in command.split()))
    assert ending.remedy() == sentence


def test_a_reader_that_leaves_is_no_unexpected_end():
    status, errors = _ends_with("| true; exit ${PIPESTATUS[0]}", "domains")
    assert (status in (0, 141), errors) == (True, "")


def test_closed_streams_end_no_work_and_get_into_no_file(tmp_path: Path):
    study = tmp_path / "study" / "sub-1" / "anat"
    study.mkdir(parents=True)
    (study / "sub-1_T1w.nii").write_text("no scan")
    out = tmp_path / "out"
    arguments = ("bids", study.parents[1], out, "participant", "--to", "LA", "--method", "none")
    assert _ends_with("<&- >&- 2>&-", *arguments)[0] == 3
    record = read_json(out / "logs" / "scans" / "sub-1" / "anat" / "sub-1.json")
    assert record["status"] == "refused"
    assert not (out / "logs" / "claims.lock").read_bytes()

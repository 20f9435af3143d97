"""Workers of a process that is killed do not go on writing into its folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.workers import side_by_side, worker_pool

PARENT = """
import itertools, sys, time
from pathlib import Path
from mrharmony.core.workers import side_by_side, worker_pool


def beat(file):
    for number in itertools.count():
        Path(file).write_text(str(number))
        time.sleep(0.02)


"""
POOL = """
if __name__ == "__main__":
    with worker_pool(1, {preloaded}) as pool:
        pool.submit(beat, sys.argv[1]).result()
"""
WORK = {
    "a pool": POOL.format(preloaded=()),
    "a preloaded pool": POOL.format(preloaded=("mrharmony.core.workers",)),
    "side by side": "list(side_by_side(beat, [sys.argv[1]] * 2, 2))",
}


@pytest.mark.parametrize("work", WORK)
def test_a_worker_ends_when_its_parent_is_killed(tmp_path, work):
    script, beats = tmp_path / "parent.py", tmp_path / "beats"
    script.write_text(PARENT + WORK[work], "utf-8")
    with subprocess.Popen([sys.executable, str(script), str(beats)]) as parent:
        assert within(120, beats.is_file)
        parent.kill()
    assert within(30, lambda: is_still(beats))


def test_a_worker_has_one_thread():
    with worker_pool(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1


def within(seconds, condition):
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return true


def is_still(file):
    before = file.read_text("utf-8")
    time.sleep(1)
    return file.read_text("utf-8") == before


def test_a_process_that_is_ended_from_outside_is_told():
    with pytest.raises(MrharmonyError, match="ended from outside"):
        list(side_by_side(os._exit, [1, 1], 2))


def test_jobs_come_back_from_processes_and_from_this_one():
    for count in (1, 2):
        assert list(side_by_side(abs, [-1, -2, 3], count)) == [1, 2, 3]


def test_jobs_side_by_side_have_one_thread_each():
    assert list(side_by_side(threads, [None] * 2, 2)) == [1, 1]


def threads(_: None) -> int:
    return torch.get_num_threads()

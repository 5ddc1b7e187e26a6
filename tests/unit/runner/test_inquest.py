"""Which rank is to blame, by what it left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from perwatt.results.schema import Status
from perwatt.runner import inquest, trail
from perwatt.runner.team import FAILED
from perwatt.runner.trail import Step

BUSY = (("/x/site-packages/torch/nn/functional.py", 12, "linear"), ("/x/own.py", 3, "run"))
SLEEP = (("/x/faulty/work.py", 7, "sleeps"),)
REDUCE = (("/x/torch/distributed/distributed_c10d.py", 900, "all_reduce"), ("/x/own.py", 4, "run"))
HOOK = (
    ("/x/torch/_ops.py", 1, "__call__"),
    ("/x/torch/distributed/_functional_collectives.py", 2, "wait_tensor"),
)
DEVICE = (("/x/torch/cuda/__init__.py", 3, "synchronize"),)


def step(rank, count, *threads, waiting=False, since=0.0, alive=True):
    return Step(rank=rank, count=count, waiting=waiting, since=since, alive=alive, frames=threads)


@pytest.mark.parametrize(
    ("steps", "status", "words"),
    [
        ([step(0, 9, waiting=True), step(1, 8, SLEEP)], "rank_failed", "rank 1 hangs in sleeps (faulty/work.py:7)"),
        ([step(0, 8, SLEEP), step(1, 9, waiting=True), step(2, 9, waiting=True)], "rank_failed", "ranks 1, 2 wait for"),
        ([step(0, 8, REDUCE), step(1, 8, SLEEP)], "rank_failed", "rank 1 hangs in sleeps"),
        ([step(0, 8, BUSY, HOOK), step(1, 8, SLEEP)], "rank_failed", "rank 1 hangs"),  # in autograd's thread
        ([step(0, 8, SLEEP), step(1, 8, DEVICE)], "rank_failed", "rank 0 hangs"),
        ([step(0, 8, REDUCE), step(1, 8, HOOK)], "rank_failed", "rank 0 hangs, as all wait for each other"),
        ([step(0, 8, BUSY), step(1, 8, BUSY)], "timeout", "late"),
        ([step(0, 9, waiting=True, since=59.5), step(1, 8, BUSY)], "timeout", "late"),  # merely slow
        ([step(0, 9, waiting=True), step(1, 8, alive=False)], "rank_failed", "rank 1 is gone"),
        ([step(1, 9, waiting=True)], "rank_failed", "rank 0 did not come up"),
        ([], "rank_failed", "no rank came up"),
    ],
)  # fmt: skip
def test_the_rank_that_others_wait_for(steps, status, words):
    found = inquest.judge(steps, max(len(steps), 2), 60.0, "late")
    assert (found.status, found.reason.endswith("late")) == (Status(status), True)
    assert words in found.reason


def left(folder, code, last=""):
    (folder / FAILED).write_text(json.dumps({"rank": 1, "exitcode": code}))
    if last:
        (folder / "rank-1.last").write_text(last)


@pytest.mark.parametrize(
    ("code", "last", "memory", "status", "reason"),
    [
        (-9, "", False, "rank_failed", "rank 1 killed by SIGKILL in f (a.py:1)"),
        (-9, "", True, "oom", "the kernel killed rank 1 because memory ran out"),
        (-11, "", True, "rank_failed", "rank 1 killed by SIGSEGV in f (a.py:1)"),
        (7, "", False, "rank_failed", "rank 1 exited with code 7: its last line"),
        (75, "OutOfMemoryError: no", False, "rank_failed", "rank 1 gave up: OutOfMemoryError: no"),
    ],
)
def test_how_a_rank_died(tmp_path, code, last, memory, status, reason):
    left(tmp_path, code, last)
    found = inquest.death(tmp_path, memory=memory, words="its last line", frame="f (a.py:1)")
    assert (found.status, found.reason) == (Status(status), reason)


def test_a_rank_that_failed_while_the_others_wait_for_it_elsewhere(tmp_path):
    trail.last_words(tmp_path, 1).write_text("ValueError: boo")
    found = inquest.hanging(tmp_path, 2, "late")
    assert found.status == Status.RANK_FAILED
    assert found.reason == "rank 1 failed and the others hang: ValueError: boo; late"


def test_where_the_launcher_itself_died_nothing_is_said_of_ranks(tmp_path):
    assert inquest.death(tmp_path, memory=False, words="", frame="") is None
    (tmp_path / FAILED).write_text("{")
    assert inquest.death(tmp_path, memory=False, words="", frame="") is None


LOOP = """
import sys, time
from pathlib import Path
from perwatt.runner.trail import Trail
trail = Trail(Path(sys.argv[1]), 0)
for _ in range(3):
    trail.come()
    trail.go()
def forlorn():
    print("ready", flush=True)
    while True:
        pass
forlorn()
"""


def test_a_process_that_answers_nobody_is_read_all_the_same(tmp_path):
    command = [sys.executable, "-c", LOOP, str(tmp_path)]
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as process:
        assert process.stdout.readline() == "ready\n"
        found = trail.steps(tmp_path, 2)
        process.kill()
        process.wait()
        gone = trail.steps(tmp_path, 1)
    assert [(one.rank, one.count, one.waiting, one.alive) for one in found] == [(0, 3, False, True)]
    assert found[0].frames[0][0][2] == "forlorn"
    assert [one.alive for one in gone] == [False]

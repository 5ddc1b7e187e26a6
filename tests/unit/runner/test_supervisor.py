"""Causes of death, with workers that never get as far as torch. The rest is in tests/e2e/test_run_faults.py."""

from __future__ import annotations

import math
import os
import re
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest

from perwatt.errors import MissingHardware
from perwatt.runner import inquest, supervisor
from perwatt.runner.channel import Channel
from perwatt.runner.supervisor import Worker, WorkerLost


@pytest.fixture
def worker(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    worker = Worker("cpu", tmp_path / "worker.log", "R")
    yield worker
    worker.kill()


def test_a_signal_is_named(worker):
    os.kill(worker._process.pid, signal.SIGABRT)
    with pytest.raises(MissingHardware, match="does not start: worker killed by SIGABRT"):
        worker.wait_ready()


def test_sigkill_without_the_kernel_running_out_of_memory(worker):
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(MissingHardware, match="worker killed by SIGKILL"):
        worker.wait_ready()


def test_sigkill_when_the_kernel_ran_out_of_memory(worker, monkeypatch):
    before = supervisor.oom.kills()
    monkeypatch.setattr(supervisor.oom, "kills", lambda: before + 1)
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(MissingHardware, match="the kernel killed the worker because memory ran out"):
        worker.wait_ready()


def test_a_worker_that_is_not_up_in_time(worker, monkeypatch):
    monkeypatch.setattr(supervisor, "START_S", 0.0)
    with pytest.raises(MissingHardware, match="was not up after 0 s"):
        worker.wait_ready()


def test_the_rank_that_a_team_waits_for_while_it_starts_is_named(tmp_path, monkeypatch, faulty):
    fakes = Path(__file__).resolve().parents[2] / "fakes" / "faulty"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(fakes), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("STILLBORN", "hangs")
    team = Worker("stillborn/2", tmp_path / "team.log", "T", 2)
    try:
        end, found = time.monotonic() + 120, ""
        while "hangs" not in found and time.monotonic() < end:
            time.sleep(1.0)
            found = inquest.hanging(team._scratch, 2, "late").reason
    finally:
        team.kill()
    assert re.fullmatch(r"rank 1 hangs in join \(faulty/stillborn\.py:\d+\), rank 0 waits for \d+ s; late", found)


class Speaking:
    """The worker's end of the conversation, in a thread of this process: speaks when it is told to."""

    def __init__(self, worker: Worker) -> None:
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        worker._channel = Channel(ours_in, ours_out)
        self.channel = Channel(theirs_in, theirs_out)

    def say(self, *events: str, pause_s: float) -> None:
        self.channel.receive()
        for event in events:
            time.sleep(pause_s)
            self.channel.send({"event": event})
            self.channel.receive()


@pytest.mark.parametrize(("quiet_s", "pause_s", "quiet"), [(math.inf, 0.1, False), (5.0, 0.0, False), (0.1, 0.5, True)])
def test_silence_is_told_where_that_is_wanted(worker, quiet_s, pause_s, quiet):
    speaking = Speaking(worker)
    thread = threading.Thread(target=speaking.say, args=("phase", "done"), kwargs={"pause_s": pause_s}, daemon=True)
    thread.start()
    heard = [event["event"] for event in worker.ask({}, 60, quiet_s)]
    assert ("quiet" in heard) == quiet
    assert [event for event in heard if event != "quiet"] == ["phase"]
    thread.join(10)
    assert not thread.is_alive()  # every message of its own was answered, and nothing else was


def test_silence_does_not_put_off_the_end(worker):
    Speaking(worker)
    with pytest.raises(WorkerLost, match=r"no result within timeout_s = 0\.3"):
        list(worker.ask({}, 0.3, 0.1))


def test_nothing_is_left_behind(worker, tmp_path):
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["perwatt-R"]
    worker.kill()
    worker.kill()
    assert list((tmp_path / "scratch").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(worker._process.pid, 0)


def test_what_a_killed_run_left_is_cleared(worker, tmp_path):
    (tmp_path / "scratch" / "perwatt-R" / "left").write_text("")
    again = Worker("cpu", tmp_path / "worker.log", "R")
    assert list((tmp_path / "scratch" / "perwatt-R").iterdir()) == []
    again.kill()


def test_last_words_are_those_of_this_request_and_name_no_folders(worker, tmp_path):
    log = tmp_path / "worker.log"
    with log.open("a") as file:
        file.write("of an earlier worker\n")
        worker._log_from = file.tell()
        file.write('Fatal Python error: Segmentation fault\n\n  File "/srv/somebody/x/kernel.py", line 3 in run\n')
        file.write("the end\n\n")
    assert worker._last_words() == ("the end", "run (kernel.py:3)")


def test_kills_are_counted_where_linux_counts_them(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor.oom, "VMSTAT", tmp_path / "vmstat")
    assert supervisor.oom.kills() == 0
    (tmp_path / "vmstat").write_text("oom_kill_other 9\noom_kill 4\nx 1\n")
    assert supervisor.oom.kills() == 4

"""Causes of death, with workers that never get as far as torch. The rest is in tests/e2e/test_run_faults.py."""

from __future__ import annotations

import os
import signal
import tempfile

import pytest

from perwatt.errors import MissingHardware
from perwatt.runner import supervisor
from perwatt.runner.supervisor import Worker


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

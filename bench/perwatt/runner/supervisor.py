"""The orchestrator's side of a worker: starts it, asks it, and finds out what it died of."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from perwatt.errors import MissingHardware
from perwatt.results.schema import Status
from perwatt.runner import inquest, oom
from perwatt.runner.channel import Channel

START_S = 600.0  # a Neuron runtime takes minutes where a GPU takes seconds
LEAVE_S = 10.0  # for a worker to end by itself: a Neuron core is free only when its process is gone
LAST_WORDS = 160  # characters of the log quoted in a row
NOISE = re.compile(r"\.cpp:\d+\] profiler_(start|stop)")  # what torch's profiler prints for other tools to see
FRAME = re.compile(r'File "(?:.*/)?(.+?)", line (\d+) in (.+)')  # of a faulthandler dump


class WorkerLost(Exception):
    """The worker died, or was killed, while it measured.

    Attributes:
        status: what the row of the impl it was busy with gets.
        reason: why, in one line.
    """

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Worker:
    """One worker process, in a session and a temporary folder of its own; both are cleared when it is gone.

    Args:
        backend: address of the backend it starts.
        log: file that its standard output and error are appended to.
        run_id: of the run it works for. It names the temporary folder, so that what a killed run left is found again.
        world: number of ranks of a team, each on a device of its own; None for a worker by itself.
    """

    def __init__(self, backend: str, log: Path, run_id: str, world: int | None = None) -> None:
        self._backend, self._log, self._world = backend, log, world
        self._kills = oom.kills()
        self._scratch = Path(tempfile.gettempdir(), f"perwatt-{run_id}")
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(mode=0o700)
        self._log_from = 0
        self._process, self._channel = self._spawn()
        self._environment: dict[str, Any] | None = None

    def _spawn(self) -> tuple[subprocess.Popen[bytes], Channel]:
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        arguments = [self._backend, str(os.getpid()), str(theirs_in), str(theirs_out)]
        arguments += [] if self._world is None else [str(self._world)]
        module = "perwatt.runner.worker" if self._world is None else "perwatt.runner.team"
        with self._log.open("ab") as log:
            self._log_from = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-u", "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs_in, theirs_out),
                env={**os.environ, "TMPDIR": str(self._scratch)},
                start_new_session=True,
            )
        os.close(theirs_in)
        os.close(theirs_out)
        return process, Channel(ours_in, ours_out, _pidfd(process.pid))

    def wait_ready(self) -> dict[str, Any]:
        """Facts of the environment that only the worker can know, once it is up.

        Raises:
            MissingHardware: it died or hung before it was.
        """
        if self._environment is None:
            try:
                self._environment = self._channel.receive(time.monotonic() + START_S)["environment"]
                self._channel.send({})
            except TimeoutError:
                late = f"the {self._backend} worker was not up after {START_S:g} s"
                stuck = inquest.hanging(self._scratch, self._world, late).reason if self._world else late
                raise MissingHardware(stuck) from None
            except (EOFError, BrokenPipeError):
                raise MissingHardware(f"the {self._backend} worker does not start: {self._autopsy()[1]}") from None
        return self._environment

    def ask(
        self, request: Mapping[str, Any], timeout_s: float, quiet_s: float = math.inf
    ) -> Iterator[dict[str, Any]]:  # fmt: skip
        """Events of one request; the worker waits while one is dealt with, and goes on when the next is asked for.

        Args:
            request: what it is to do.
            timeout_s: longest wait for all of it.
            quiet_s: where nothing is heard for so long, the event ``quiet`` says so, again and again; the worker did
                not send it and does not wait.

        Raises:
            WorkerLost: it died, or took longer than ``timeout_s``.
        """
        self._log_from = self._log.stat().st_size
        deadline = time.monotonic() + timeout_s
        try:
            self._channel.send(request)
            while (event := self._next(deadline, quiet_s))["event"] != "done":
                yield event
                if event["event"] != "quiet":
                    self._channel.send({})
            self._channel.send({})
        except TimeoutError:
            raise WorkerLost(*self._overdue(timeout_s)) from None
        except (EOFError, BrokenPipeError):
            raise WorkerLost(*self._autopsy()) from None

    def _next(self, deadline: float, quiet_s: float) -> dict[str, Any]:
        patience = time.monotonic() + quiet_s
        try:
            return self._channel.receive(min(deadline, patience))
        except TimeoutError:
            if deadline <= patience:
                raise
            return {"event": "quiet"}

    def stop(self) -> None:
        """Hang up, give the worker time to end by itself, and clear up after it."""
        self._channel.close()
        self._wait(LEAVE_S)
        self.kill()

    def kill(self) -> None:
        """End the worker and all it started, at once, and clear up after it."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # a driver may hold it for ever
                self._process.wait(LEAVE_S)
        if self._world is not None:
            _end_all(str(self._scratch))
        self._channel.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _wait(self, seconds: float) -> os.waitid_result | None:
        """How the worker ended. It stays a zombie, so that its process group cannot become another's before `kill`."""
        end = time.monotonic() + seconds
        while (result := os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None:
            if time.monotonic() > end:
                break
            time.sleep(0.01)
        return result

    def _overdue(self, timeout_s: float) -> tuple[Status, str]:
        late = f"no result within timeout_s = {timeout_s:g}"
        if self._world is None:
            return Status.TIMEOUT, late
        found = inquest.hanging(self._scratch, self._world, late)
        return found.status, found.reason

    def _autopsy(self) -> tuple[Status, str]:
        result = self._wait(LEAVE_S)
        if result is None:
            return Status.CRASHED, "worker hung up but did not end"
        last, frame = self._last_words()
        killed = oom.kills() > self._kills
        if self._world and (found := inquest.death(self._scratch, memory=killed, words=last, frame=frame)):
            return found.status, found.reason
        if result.si_code == os.CLD_EXITED:
            return Status.CRASHED, f"worker exited with code {result.si_status}" + (f": {last}" if last else "")
        if result.si_status == signal.SIGKILL and killed:
            return Status.OOM, "the kernel killed the worker because memory ran out"
        killed_by = f"worker killed by {signal.Signals(result.si_status).name}"
        return Status.CRASHED, killed_by + (f" in {frame}" if frame else "")

    def _last_words(self) -> tuple[str, str]:
        """The last line logged since the request, and the innermost frame of a crash dump."""
        with self._log.open("rb") as log:
            log.seek(self._log_from)
            text = log.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip() and not NOISE.search(line)]
        frame = FRAME.search(text)
        return (lines[-1][:LAST_WORDS] if lines else ""), ("{2} ({0}:{1})".format(*frame.groups()) if frame else "")


def _end_all(scratch: str) -> None:
    """End what a team's processes left: those have sessions of their own, but all have its scratch folder."""
    import psutil

    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TMPDIR") == scratch:
                process.kill()
                left.append(process)
    psutil.wait_procs(left, LEAVE_S)


def _pidfd(pid: int) -> int | None:
    """A descriptor that tells the end of a process, or None where the kernel or a sandbox has none."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None

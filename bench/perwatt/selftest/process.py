"""The other end of a child: asking it with a time limit, and ending it with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from perwatt.runner.channel import Channel

START_S = 120.0  # for loading torch and starting the device
GRACE_S = 5.0  # from being told to end to being killed


class Gone(Exception):
    """The child did not answer: it died, or its time was over. The text says which, in a few words."""


class Child:
    """A process that runs kernels.

    Args:
        address: of the backend.
        target: generation to simulate, or None.
        lnc: cores of a simulated device.
        folder: where it works, and compilers leave their files.
        log: file that its output is added to.

    Raises:
        Gone: it does not start.
    """

    def __init__(self, address: str, target: str | None, lnc: int, folder: Path, log: Path) -> None:
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        words = [address, target or "-", str(lnc), str(os.getpid()), str(theirs_in), str(theirs_out)]
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "perwatt.selftest.child", *words], cwd=folder, stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, pass_fds=(theirs_in, theirs_out), start_new_session=True,
                env={**os.environ, "PYTHONPATH": paths},
            )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._channel = Channel(ours_in, ours_out, _pidfd(self._process.pid))
        self.environment: dict[str, Any] = self._answer(START_S)["environment"]

    def ask(self, case: dict[str, Any], impl: str, timeout_s: float, *, compiled: bool = False) -> dict[str, Any]:
        """What came of a case, by an implementation as it is or given to ``torch.compile``.

        Raises:
            Gone: the child died or took too long, and is ended.
        """
        with contextlib.suppress(BrokenPipeError):  # then waiting for the answer says why
            self._channel.send({"case": case, "impl": impl, "compiled": compiled})
        return self._answer(timeout_s)

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        try:
            return self._channel.receive(time.monotonic() + timeout_s)
        except TimeoutError:
            self.close(now=True)
            raise Gone(f"no answer in {timeout_s:g} s, so it was ended") from None
        except EOFError:
            code = self.close()
            words = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise Gone(f"its process died: {words}") from None

    def close(self, *, now: bool = False) -> int:
        """End it and what it started; its exit code."""
        self._channel.close()
        if not now:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()


def _pidfd(pid: int) -> int | None:
    """A descriptor that tells the end of a process, or None where the kernel or a sandbox has none."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None

"""neuron-monitor: what the cores did and the memory errors of the chips, once a period. It has no field of power.

By the neuron-monitor user guide of SDK 2.32: one JSON object for each report on stdout, a line each. Keys that are not
known are passed over, as the tool grows; a known key with another type than documented is an error. Process numbers,
tags, models' paths and what names the instance or its owner are not taken in.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from perwatt.hardware.neuron_report import MonitorError, Report, report

COMMAND = ("neuron-monitor",)
MOST_BYTES = 16 * 2**20  # of a line; a report of 64 cores is some tens of kilobytes
LEAVE_S = 5.0  # for the tool to end when it is asked to


def config(period_s: int) -> dict[str, Any]:
    """What to ask the tool for. Periods are whole seconds: ``1.0s`` was seen to be ignored, which gives five."""
    if period_s < 1:
        raise ValueError(f"period is {period_s} s, expected 1 s or more")
    runtime = {"tag_filter": ".*", "metrics": [{"type": "neuroncore_counters"}, {"type": "execution_stats"}]}
    return {
        "period": f"{period_s}s",
        "neuron_runtimes": [runtime],
        "system_metrics": [{"type": "neuron_hw_counters"}],
    }


class Monitor:
    """A running neuron-monitor.

    Args:
        period_s: whole seconds between two reports.
        command: the tool, with what comes before its own arguments.

    Raises:
        MonitorError: it cannot be started.
    """

    def __init__(self, period_s: int = 1, command: Sequence[str] = COMMAND) -> None:
        self._rest = b""
        text = json.dumps(config(period_s)).encode()
        handle, self._config = tempfile.mkstemp(prefix="perwatt-", suffix=".json")
        os.write(handle, text)
        os.close(handle)
        try:
            self._child = subprocess.Popen(
                [*command, "-c", self._config],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            os.unlink(self._config)
            raise MonitorError(f"neuron-monitor cannot be started: {error}") from None
        assert self._child.stdout is not None  # asked for above
        self._out = self._child.stdout.fileno()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, timeout_s: float) -> Report | None:
        """The next report, or None if there was no whole one for ``timeout_s``.

        Raises:
            MonitorError: the tool ended, or said what is not documented.
        """
        until = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            left = max(0.0, until - time.monotonic())
            if not select.select([self._out], [], [], left)[0]:
                return None
            self._take()
        line, self._rest = self._rest.split(b"\n", 1)
        return report(_object(line))

    def close(self) -> None:
        """End the tool. Never raises."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(LEAVE_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
        with contextlib.suppress(OSError):
            os.unlink(self._config)

    def _take(self) -> None:
        got = os.read(self._out, 2**16)
        if not got:
            raise MonitorError(f"neuron-monitor ended with code {self._code()}")
        self._rest += got
        if len(self._rest) > MOST_BYTES:
            raise MonitorError(f"neuron-monitor wrote {len(self._rest)} bytes without an end of line")

    def _code(self) -> int | str:
        try:
            return self._child.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            return "unknown, its output closed"


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise MonitorError(f"neuron-monitor wrote what is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MonitorError(f"neuron-monitor wrote {type(value).__name__}, expected an object")
    return value

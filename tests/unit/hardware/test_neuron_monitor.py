"""neuron-monitor as a program that answers, lies, hangs, ends and does not want to end."""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fakes import neuron_monitor as fake
from perwatt.hardware import neuron_monitor
from perwatt.hardware.neuron_monitor import Monitor
from perwatt.hardware.neuron_report import MonitorError, report

COMMAND = [sys.executable, fake.__file__]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is left of the configuration that the tool was given."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.iterdir()) == []


def test_reports_are_read_one_after_another():
    with Monitor(command=COMMAND) as monitor:
        for _ in range(3):
            said = monitor.read(20)
            assert said is not None
            assert said.utilization == {0: 42.01, 1: 43.01, 2: 44.01, 3: 45.01}
            [runtime] = said.runtimes
            assert runtime.cores[1].flops == 1234567891012
            assert runtime.cores[1].physical == pytest.approx({"nc_v3.2": 21.01, "nc_v3.3": 63.01})
            assert runtime.period_s == 1.0  # the tool understood what it was asked for
            assert runtime.executions is not None
            assert runtime.executions.outcomes["completed"] == 123
            assert runtime.executions.device_latency is not None
            assert runtime.executions.device_latency["p50"] == pytest.approx(0.01, abs=1e-6)
            assert said.ecc[0]["mem_ecc_corrected"] == 3
            assert said.hardware is not None
            assert (said.hardware.chip, said.hardware.cores_per_chip, said.hardware.lnc) == ("trainium2", 4, 2)
            assert said.instance_type == "trn2.48xlarge"
            assert said.errors == ()


def test_nothing_that_names_the_owner_is_kept():
    kept = repr(report(fake.report(1.0, "")))
    for secret in ("secret_project", "4242", "My_Instance", "i-0011", "ami-", "subnet-", "us-west"):
        assert secret not in kept


def test_unknown_keys_are_passed_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERWATT_FAKE", "more")
    with Monitor(command=COMMAND) as monitor:
        said = monitor.read(20)
    assert said is not None
    assert said == report(fake.report(1.0, ""))


def test_a_line_may_come_in_pieces(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERWATT_FAKE", "halves")
    with Monitor(command=COMMAND) as monitor:
        assert [monitor.read(20) for _ in range(2)] == [report(fake.report(1.0, ""))] * 2


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("bad-json", "what is not JSON"),
        ("wrong-type", "neuroncore_utilization is '42.01', expected a number"),
        ("exit", "ended with code 3"),
    ],
)
def test_faults_are_told(monkeypatch: pytest.MonkeyPatch, fault: str, why: str):
    monkeypatch.setenv("PERWATT_FAKE", fault)
    with Monitor(command=COMMAND) as monitor, pytest.raises(MonitorError, match=why) as raised:
        [monitor.read(20) for _ in range(2)]
    assert "\n" not in str(raised.value)


def test_a_tool_that_hangs_is_waited_for_no_longer_than_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERWATT_FAKE", "hang")
    with Monitor(command=COMMAND) as monitor:
        assert monitor.read(20) is not None
        start = time.monotonic()
        assert monitor.read(0.1) is None
        assert time.monotonic() - start < 5


def test_a_tool_that_never_ends_a_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERWATT_FAKE", "flood")
    monkeypatch.setattr(neuron_monitor, "MOST_BYTES", 2**17)
    with Monitor(command=COMMAND) as monitor, pytest.raises(MonitorError, match="without an end of line"):
        monitor.read(20)


def test_a_tool_that_does_not_want_to_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERWATT_FAKE", "stubborn")
    monkeypatch.setattr(neuron_monitor, "LEAVE_S", 0.2)
    monitor = Monitor(command=COMMAND)
    assert monitor.read(20) is not None
    assert running()
    monitor.close()
    assert not running()
    monitor.close()  # again does no harm


def test_a_tool_that_is_not_there():
    with pytest.raises(MonitorError, match="cannot be started"):
        Monitor(command=["neuron-monitor-of-nobody"])


def test_periods_are_whole_seconds():
    assert neuron_monitor.config(1)["period"] == "1s"
    with pytest.raises(ValueError, match="1 s or more"):
        neuron_monitor.config(0)


def running() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if fake.__file__ in child.cmdline()]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


def test_a_wrong_type_anywhere_is_refused_or_does_not_matter():
    good = json.loads(json.dumps(fake.report(1.0, "")))
    want = report(good)
    refused = 0
    for place in places(good):
        bad = copy.deepcopy(good)
        inner = bad
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = True
        try:
            said = report(bad)
        except MonitorError:
            refused += 1
        else:
            assert said == want, place
    assert refused > 80


@pytest.mark.parametrize("value", [-1, 250.0, float("nan"), None, "1", [1]])
def test_a_utilization_that_cannot_be(value: object):
    said = fake.report(1.0, "")
    said["neuron_runtime_data"][0]["report"]["neuroncore_counters"]["neuroncores_in_use"]["0"] = {
        "neuroncore_utilization": value
    }
    with pytest.raises(MonitorError, match="neuroncore_utilization"):
        report(said)


def test_what_the_tool_could_not_find_out():
    said = fake.report(1.0, "")
    said["neuron_hardware_info"] = {"error": "no driver"}
    said["system_data"]["neuron_hw_counters"] = {"period": 1.0, "neuron_devices": None, "error": "no devices"}
    said["neuron_runtime_data"][0]["report"]["neuroncore_counters"] = {"period": 1.0, "error": "no counters"}
    read = report(said)
    assert read.errors == ("no devices", "no driver")
    assert (read.hardware, read.ecc) == (None, {})
    assert (read.runtimes[0].error, read.utilization) == ("no counters", {})


def test_idle_has_no_latency():
    said = fake.report(1.0, "")
    said["neuron_runtime_data"][0]["report"]["execution_stats"]["latency_stats"] = {
        "total_latency": None,
        "device_latency": None,
    }
    executions = report(said).runtimes[0].executions
    assert executions is not None
    assert executions.device_latency is None

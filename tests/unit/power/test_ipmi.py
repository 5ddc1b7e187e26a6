"""Node power through a program that prints as ipmitool does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fakes import ipmitool
from fakes.hurried import Hurried, watched
from perwatt.power.base import Lost, Target
from perwatt.power.sensors import ipmi


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A machine with the program and a BMC's device."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/ipmi0").touch()
    ipmitool.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(ipmi, "SBIN", ())
    return Target(backend="cuda", chip="any", root=tmp_path)


def test_it_is_read_where_it_is_asked_for(target: Target) -> None:
    assert ipmi.SENSOR.use(target) == "asked"
    assert ipmi.SENSOR.detect(target).state == "readable"
    facts = ipmi.SENSOR.open(target).facts
    assert (facts.sensor, facts.source, facts.scope, facts.kind, facts.quantity) == (
        "ipmi", "sampled", "node", "samples", "W",
    )  # fmt: skip
    assert facts.window_s >= 60 * facts.poll_s
    assert facts.note.endswith("statistics are of 5 s")


@pytest.mark.parametrize("layout", ipmitool.LAYOUTS)
@pytest.mark.parametrize("watts", [0, 214, 65535])  # two bytes in DCMI
def test_watts_in_the_layouts_of_its_versions(
    target: Target, monkeypatch: pytest.MonkeyPatch, layout: str, watts: int
) -> None:
    monkeypatch.setenv("FAKE_IPMITOOL_LAYOUT", layout)
    monkeypatch.setenv("FAKE_IPMITOOL_WATTS", str(watts))
    probe = ipmi.SENSOR.open(target)
    reading = probe.read()
    assert reading is not None
    assert reading.values == (watts,)
    assert f"{watts:8d} Watts" in reading.raw
    assert probe.facts.note.endswith("statistics are of 5 s")


FAULTS = {
    "invalid": "exits with 1: 'DCMI request failed because: Invalid command (c1)'",
    "invalid_old": "printed 'DCMI request failed because: Invalid command (c1)'",
    "silent": "Unable to get DCMI information",
    "no_device": "Permission denied",
    "empty": "printed ''",
    "deactivated": "power reading is deactivated",
    "twice": "expected one power reading and its state",
    "cut": "expected one power reading and its state",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_makes_no_sense_is_no_reading(target: Target, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    probe = ipmi.SENSOR.open(target)
    monkeypatch.setenv("FAKE_IPMITOOL_FAULT", fault)
    with pytest.raises(Lost) as error:
        probe.read()
    assert FAULTS[fault] in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(Lost):
        ipmi.SENSOR.open(target)


def test_a_busy_controller_is_a_gap(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = ipmi.SENSOR.open(target)
    monkeypatch.setenv("FAKE_IPMITOOL_FAULT", "busy")
    assert probe.read() is None
    monkeypatch.delenv("FAKE_IPMITOOL_FAULT")
    assert probe.read() is not None


def test_two_readings_are_none() -> None:
    line = "    Instantaneous power reading:         214 Watts\n"
    with pytest.raises(Lost, match="expected one power reading"):
        ipmi.parse(2 * line + "    Power reading state is:   activated\n")


@pytest.mark.parametrize("text", ["-5 Watts", "1e3 Watts", "nan Watts", "214 milliwatts", "999999 Watts", "Watts"])
def test_numbers_that_are_none(text: str) -> None:
    with pytest.raises(Lost, match="expected one power reading"):
        ipmi.parse(f"    Instantaneous power reading:    {text}\n    Power reading state is:   activated\n")


def test_a_program_that_hangs_is_given_up(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = ipmi.SENSOR.open(target)
    monkeypatch.setattr(ipmi, "TIMEOUT_S", 0.3)
    monkeypatch.setenv("FAKE_IPMITOOL_FAULT", "hangs")
    with pytest.raises(Lost, match=r"did not answer for 0\.3 s"):
        probe.read()


def test_a_program_that_is_gone_ends_the_trace(target: Target) -> None:
    probe, clock = ipmi.SENSOR.open(target), Hurried(end=3.0)
    (target.root / "bin/ipmitool").unlink()
    trace = watched(probe, clock)
    assert (trace.readings, trace.lost) == ([], "ipmi: ipmitool does not start: No such file or directory")


def test_a_minute_of_readings(target: Target) -> None:
    trace = watched(ipmi.SENSOR.open(target), Hurried(end=10.0))
    assert trace.lost == ""
    assert len(trace.times) >= 10
    assert {reading.values for reading in trace.readings} == {(214.0,)}
    assert trace.message()["raw"]


def test_machines_without(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "ipmi0" and whole(path, mode))
    denied = ipmi.SENSOR.detect(target)
    assert (denied.state, "setfacl" in denied.remedy) == ("denied", True)
    with pytest.raises(Lost, match="for root only"):
        ipmi.SENSOR.open(target)
    (target.root / "dev/ipmi0").unlink()
    assert ipmi.SENSOR.detect(target).detail == "no IPMI device (/dev/ipmi0)"
    (target.root / "bin/ipmitool").unlink()
    assert ipmi.SENSOR.detect(target).remedy.startswith("install ipmitool")

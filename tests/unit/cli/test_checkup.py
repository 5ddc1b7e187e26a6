"""What `doctor` makes of what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perwatt import backends, configs
from perwatt.backends.base import Backend
from perwatt.backends.cpu import Cpu
from perwatt.cli import _checkup
from perwatt.finding import Finding
from perwatt.power import choice
from support.power import PaperSensor

SUITE = """\
suite: a
cases:
  - {workload: gemm, params: {m: 8, n: 8, k: 8}, sweep: {precision: [fp32, tf32, bf16]}}
  - {workload: gemm, params: {m: 4e6, n: 4e6, k: 4e6}}
"""


@pytest.fixture
def ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a suite called ``a`` the only one that is shipped."""

    def write(text: str) -> None:
        (tmp_path / "suites").mkdir()
        (tmp_path / "suites" / "a.yaml").write_text(text)
        monkeypatch.setattr(configs, "root", lambda: tmp_path)

    return write


def test_rows_that_cannot_be_measured_are_counted_by_reason(ship: Callable[[str], None]):
    ship(SUITE)
    found = _checkup.checkup("cpu")["suites"]
    assert [(suite["name"], suite["rows"], suite["measurable"]) for suite in found] == [("a", 4, 2)]
    reasons = sorted(found[0]["reasons"].items())
    assert [count for _, count in reasons] == [1, 1]
    assert reasons[0][0].startswith("needs at least 2.56e+05 GB of memory, the device has ")
    assert reasons[1][0].startswith("precision tf32 is not supported on cpu")


def test_a_broken_suite_does_not_hide_the_rest(ship: Callable[[str], None]):
    ship("suite: a\ncases: 3\n")
    facts = _checkup.checkup("cpu")
    assert facts["suites"][0]["error"].endswith("a.yaml:2: cases: found 3, expected a list")
    assert facts["device"] == "cpu"


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_machine_without_a_device(ship: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, device: str):
    ship(SUITE)
    for backend in backends.available().values():
        monkeypatch.setattr(type(backend), "missing", lambda self: "no torch: install it")
    facts = _checkup.checkup(device)
    assert facts["device"] is None
    assert {"name": "cpu", "missing": "no torch: install it", "device": None} in facts["backends"]
    ((reason, count),) = facts["suites"][0]["reasons"].items()
    assert (reason.count("no torch: install it"), count) == (len(backends.available()) if device == "auto" else 1, 4)
    assert ("--device cpu: " in reason) == (device == "cpu")


def found(facts: dict[str, Any], whose: str) -> dict[str, dict[str, str]]:
    """Findings of one backend by what was looked at."""
    return {one["what"]: one for one in facts["findings"] if one["of"] == whose}


class Guest(Cpu):
    """A backend of somebody else's."""

    name = "guest"
    priority = -1

    def busy(self, devices: int = 1) -> str | None:
        return "guest is in use by python3 (pid 7): stop that"

    def uncompilable(self) -> str | None:
        raise KeyError("compiler")

    def findings(self) -> Iterator[Finding]:
        yield Finding(what="firmware", state="problem", found="of last year", remedy="guestctl update")
        raise OSError("the\nbus is gone")


@pytest.fixture
def invite(ship: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> Callable[[Backend], None]:
    """Adds a backend to those that are here."""
    ship(SUITE)
    known = backends.available()

    def add(guest: Backend) -> None:
        monkeypatch.setattr(backends, "available", lambda: {**known, guest.name: guest})

    return add


def test_every_backend_brings_its_findings(invite: Callable[[Backend], None]):
    invite(Guest())
    facts = _checkup.checkup("auto")
    guest = found(facts, "guest")
    assert guest["other users"] == {
        "of": "guest", "what": "other users", "state": "warning", "found": "guest is in use by python3 (pid 7)",
        "remedy": "stop that",
    }  # fmt: skip
    assert guest["torch.compile"]["state"] == "problem"
    assert "KeyError: 'compiler'" in guest["torch.compile"]["found"]
    assert guest["guest"]["found"] == "could not be looked at: OSError: the bus is gone"
    assert {"other work", "governor", "cores", "threads", "memory"} <= found(facts, "cpu").keys()
    assert found(facts, "results")["disk"]["state"] in ("ok", "warning")


def test_a_named_device_is_told_with_its_host_alone(invite: Callable[[Backend], None]):
    invite(Guest())
    assert {one["of"] for one in _checkup.checkup("cpu")["findings"]} == {"cpu", "results"}
    assert {one["of"] for one in _checkup.checkup("guest")["findings"]} == {"cpu", "guest", "results"}


@pytest.mark.parametrize("method", ["missing", "describe"])
def test_a_backend_that_breaks_its_promise_is_shown_and_hides_nobody(
    invite: Callable[[Backend], None], monkeypatch: pytest.MonkeyPatch, method: str
):
    def broken(self: Guest) -> None:
        raise RuntimeError("no such bus")

    monkeypatch.setattr(Guest, method, broken)
    invite(Guest())
    facts = _checkup.checkup("auto")
    (guest,) = [one for one in facts["backends"] if one["name"] == "guest"]
    assert guest["missing"].endswith("RuntimeError: no such bus")
    assert facts["device"] == "cpu"


def test_a_sensor_that_raises_is_shown(ship: Callable[[str], None], monkeypatch: pytest.MonkeyPatch):
    class Broken(PaperSensor):
        def detect(self, target: Any) -> Any:
            raise ValueError("what is a watt")

    ship(SUITE)
    monkeypatch.setattr(choice, "sensors", lambda: {"broken": Broken("broken", 0), "fake": PaperSensor("fake", 0)})
    seen = {one["name"]: one for one in _checkup.checkup("cpu")["sensors"]}
    assert (seen["broken"]["state"], seen["broken"]["detail"]) == ("failed", "ValueError: what is a watt")
    assert seen["fake"]["state"] == "readable"


@pytest.mark.parametrize(
    ("free", "writable", "state", "words"),
    [(10**12, True, "ok", "1000.0 GB are free"), (5 * 10**8, True, "warning", "0.5 GB are left for results"),
     (10**12, False, "warning", "cannot be written here")],
)  # fmt: skip
def test_room_for_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, writable: bool, state: str, words: str
):
    monkeypatch.setattr(_checkup.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    monkeypatch.setattr(_checkup.os, "access", lambda path, mode: writable)
    seen = _checkup._disk(tmp_path / "results" / "runs")
    assert (seen.state, bool(seen.remedy)) == (state, state != "ok")
    assert words in seen.found.replace(str(tmp_path / "results" / "runs"), "results")

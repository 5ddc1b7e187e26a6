"""What `doctor` makes of what it finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perwatt import backends, configs
from perwatt.cli import _checkup

QUIET: dict[str, Any] = {
    "machine": {"busy_cores": 0.1, "usable_cores": 4, "logical_cores": 4, "governors": ["performance"]},
    "disk": {"folder": "results", "free_bytes": 10**12},
    "busy": None,
}


def warned(machine: dict[str, Any], disk: dict[str, Any] | None = None) -> list[str]:
    facts = {**QUIET, "machine": QUIET["machine"] | machine, "disk": QUIET["disk"] | (disk or {})}
    found = _checkup.warnings(facts)
    assert all(warning["remedy"] for warning in found)
    return [warning["cause"] for warning in found]


def test_a_quiet_machine_gives_no_warning():
    assert warned({}) == []
    assert warned({"governors": []}) == []


@pytest.mark.parametrize(
    ("machine", "disk", "cause"),
    [
        ({"busy_cores": 1.1}, {}, "other work keeps 1.1 cores busy"),
        ({"governors": ["performance", "powersave"]}, {}, "clocks follow the governor performance, powersave"),
        ({"usable_cores": 3}, {}, "this process may use 3 of 4 cores"),
        ({}, {"free_bytes": 5 * 10**8}, "0.5 GB are left for results"),
    ],
)
def test_each_warning_has_its_cause(machine: dict[str, Any], disk: dict[str, Any], cause: str):
    assert warned(machine, disk) == [cause]


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
    assert facts["busy"] is None
    ((reason, count),) = facts["suites"][0]["reasons"].items()
    assert (reason.count("no torch: install it"), count) == (len(backends.available()) if device == "auto" else 1, 4)
    assert ("--device cpu: " in reason) == (device == "cpu")


def test_a_device_in_use_is_a_warning() -> None:
    (found,) = _checkup.warnings({**QUIET, "busy": "cuda is in use by python3 (pid 7): stop that"})
    assert found == {"cause": "cuda is in use by python3 (pid 7)", "remedy": "stop that"}

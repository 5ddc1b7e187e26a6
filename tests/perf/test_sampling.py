"""What reading a sensor costs: a load while its sensor is read, against the same load while nothing is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perf.abba import compare
from perwatt.backends.cpu import BACKEND
from perwatt.power.base import Probe
from perwatt.power.plan import plan
from perwatt.power.sensors.rapl import POWERCAP, SENSOR
from perwatt.runner import window
from perwatt.runner.supervisor import Worker
from perwatt.spec.case import build
from perwatt.spec.suite import Energy

PAIRS = 20
LOAD_S = 3.0
MOST = 1.005
CASE: dict[str, Any] = {"workload": "gemm", "params": {"m": 512, "n": 512, "k": 512}, "impl": ["torch"]}


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    """RAPL by files like the kernel's: what is counted does not matter here."""
    zone = tmp_path / POWERCAP / "intel-rapl:0"
    zone.mkdir(parents=True)
    for name, text in (("name", "package-0"), ("energy_uj", "1"), ("max_energy_range_uj", "262143328850")):
        (zone / name).write_text(text + "\n")
    return SENSOR.open(replace(BACKEND.target(), root=tmp_path))


@pytest.fixture
def seconds(tmp_path: Path, probe: Probe) -> Iterator[Callable[[list[Probe]], float]]:
    """Seconds of an iteration of a load while these probes are read."""
    worker = Worker("cpu", tmp_path / "worker.log", "sampling")
    worker.wait_ready()
    usual = plan(Energy(mode="all"), None, probe.facts)
    request = {"case": build(CASE).message(), "impl": "torch", "seed": 0, "window_s": LOAD_S}

    def of(probes: list[Probe]) -> float:
        found = window.take(
            worker, request, probes, replace(usual, quiet_s=0.0), BACKEND.clock, lambda event: None, 60.0
        )
        marks = found.marks
        return (marks[-1][0] - marks[0][0]) / marks[-1][1]

    yield of
    worker.stop()


def test_sampling_costs_less_than_half_a_percent(seconds: Any, probe: Probe, benchmark: Any) -> None:
    found = compare(benchmark, lambda: seconds([probe]), lambda: seconds([]), PAIRS)
    assert found.lo <= MOST, f"sampling costs {found.median - 1:.2%} ({found.lo - 1:.2%} to {found.hi - 1:.2%})"

"""What the worker process costs: a case through it against the same case in this process, start-up aside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perf.abba import compare
from perwatt.backends.cpu import BACKEND
from perwatt.runner.part import Part
from perwatt.runner.supervisor import Worker
from perwatt.spec.case import build
from perwatt.timing.measure import measure
from perwatt.timing.statistics import estimate

PAIRS = 40
MOST = 1.02
SAMPLES = 20  # the same number on both sides, whatever the interval
CASE: dict[str, Any] = {
    "workload": "gemm", "params": {"m": 512, "n": 512, "k": 512}, "impl": ["torch"],
    "measure": {"target_ci": 1e-9, "min_samples": SAMPLES, "max_samples": SAMPLES, "max_time_s": 60, "cache": "hot"},
}  # fmt: skip
OPTIONS: dict[str, Any] = {"impls": ["torch"], "seed": 0, "process": 0, "round": 0, "aa": False, "max_time_s": 60.0}


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[tuple[Callable[[], Part], Callable[[], Part]]]:
    """The case through a worker, and in this process."""
    case, worker = build(CASE), Worker("cpu", tmp_path / "worker.log", "overhead")
    BACKEND.start()
    worker.wait_ready()

    def through() -> Part:
        events = list(worker.ask({"case": case.message(), **OPTIONS}, 600))
        return next(Part.from_message(event["part"]) for event in events if event["event"] == "part")

    def inside() -> Part:
        return next(iter(list(measure(case, backend=BACKEND, report=lambda event: None, **OPTIONS))))

    yield through, inside
    worker.stop()


def _median(side: Callable[[], Part]) -> float:
    return estimate(side().samples).median


def _wall(side: Callable[[], Part]) -> float:
    began = time.perf_counter()
    side()
    return time.perf_counter() - began


@pytest.mark.parametrize("seconds", [_median, _wall], ids=["time of an iteration", "wall time of a visit"])
def test_the_worker_adds_at_most_two_percent(sides: Any, seconds: Any, benchmark: Any) -> None:
    through, inside = sides
    found = compare(benchmark, lambda: seconds(through), lambda: seconds(inside), PAIRS)
    assert found.lo <= MOST, f"the worker adds {found.median - 1:.1%} ({found.lo - 1:.1%} to {found.hi - 1:.1%})"

"""What the distributed path costs where it is not needed: a case on one rank of a team against the same in a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perf.abba import compare
from perwatt.backends.base import Timing
from perwatt.backends.cpu import BACKEND
from perwatt.runner.part import Part
from perwatt.runner.ranks import Ranks
from perwatt.runner.supervisor import Worker
from perwatt.spec.case import build
from perwatt.timing.statistics import estimate

PAIRS, BATCHES = 40, 400
MOST = 1.01
SAMPLES = 20  # the same number on both sides, whatever the interval
CASE: dict[str, Any] = {
    "workload": "gemm", "params": {"m": 512, "n": 512, "k": 512}, "impl": ["torch"],
    "measure": {"target_ci": 1e-9, "min_samples": SAMPLES, "max_samples": SAMPLES, "max_time_s": 60, "cache": "hot"},
}  # fmt: skip
OPTIONS: dict[str, Any] = {"impls": ["torch"], "seed": 0, "process": 0, "round": 0, "aa": False, "max_time_s": 60.0}


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[list[Callable[[], float]]]:
    """The median of the case in a team of one rank, and in a worker by itself."""
    workers = [Worker("cpu", tmp_path / "worker.log", f"overhead-{world}", world) for world in (1, None)]
    for worker in workers:
        worker.wait_ready()

    def median_of(worker: Worker) -> Callable[[], float]:
        def median() -> float:
            events = list(worker.ask({"case": build(CASE).message(), **OPTIONS}, 600))
            part = next(Part.from_message(event["part"]) for event in events if event["event"] == "part")
            return estimate(part.samples).median

        return median

    yield [median_of(worker) for worker in workers]
    for worker in workers:
        worker.stop()


def test_agreeing_adds_at_most_one_percent_to_a_batch(tmp_path: Path, benchmark: Any) -> None:
    """The same in one process, batch by batch, which a busy machine disturbs less."""
    import torch
    import torch.distributed as dist

    BACKEND.start()
    group = dist.ProcessGroupGloo(dist.HashStore(), 0, 1, timedelta(seconds=60))
    ranks, ring = Ranks(group, 0, 1, tmp_path), [None]
    a, b = torch.rand(2, 512, 512)
    calls = 8

    def alone() -> Timing:
        return BACKEND.time(lambda slot: a @ b, calls, 0, ring)

    found = compare(benchmark, lambda: ranks.timed(alone).total_s, lambda: alone().total_s, BATCHES)
    assert found.lo <= MOST, f"agreeing adds {found.median - 1:.1%} ({found.lo - 1:.1%} to {found.hi - 1:.1%})"


def test_a_team_of_one_adds_at_most_one_percent(sides: list[Callable[[], float]], benchmark: Any) -> None:
    team, alone = sides
    found = compare(benchmark, team, alone, PAIRS)
    assert found.lo <= MOST, f"the team adds {found.median - 1:.1%} ({found.lo - 1:.1%} to {found.hi - 1:.1%})"

"""On a GPU: the card's energy counter against its own power summed over time, and against zeus where that is installed.

``make gpu`` runs these and keeps the log. Without a GPU each is skipped and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perwatt.backends.cuda import BACKEND
from perwatt.power import choice, evaluate
from perwatt.power.plan import plan
from perwatt.runner import window
from perwatt.runner.supervisor import Worker
from perwatt.runner.window import Window
from perwatt.spec.case import build
from perwatt.spec.suite import Energy

REASON = BACKEND.missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"needs an NVIDIA GPU: {REASON}")
CASE: dict[str, Any] = {
    "workload": "gemm", "params": {"m": 8192, "n": 8192, "k": 8192}, "precision": "bf16", "measure": {"cache": "hot"},
}  # fmt: skip
AGREE = 0.03
Take = Callable[[Callable[[dict[str, Any]], None]], Window]


@pytest.fixture
def take(tmp_path: Path) -> Iterator[Take]:
    """Ten seconds of a product in bf16 while counter and power of the card are read."""
    target = BACKEND.target()
    probes = [choice.sensors()[name].open(target) for name in ("nvml", "nvml-instant")]
    usual = replace(plan(Energy(mode="all"), None, probes[0].facts), quiet_s=0.5)
    worker = Worker("cuda", tmp_path / "worker.log", "energy")
    worker.wait_ready()
    request = {"case": build(CASE).message(), "impl": "torch", "seed": 0, "window_s": usual.window_s}
    yield lambda tell: window.take(worker, request, probes, usual, BACKEND.clock, tell, 120.0)
    worker.stop()


def test_counter_and_power_agree(take: Take) -> None:
    found = take(lambda event: None)
    start, end = found.marks[0][0] + 1.0, found.marks[-1][0]
    counter, power = (evaluate.measured(trace, start, end).mean for trace in found.traces)
    print(f"\ncounter {counter:.1f} W, power {power:.1f} W, {power / counter - 1:+.2%}")
    assert abs(power / counter - 1) <= AGREE


def test_zeus_agrees(take: Take) -> None:
    monitor = pytest.importorskip("zeus.monitor").ZeusMonitor(gpu_indices=[BACKEND.gpu.index])
    found = take(lambda event: monitor.begin_window("load") if event["phase"] == "window" else None)
    seen = monitor.end_window("load")
    theirs = seen.total_energy / seen.time
    ours = evaluate.measured(found.traces[0], found.traces[0].times[0], found.traces[0].times[-1]).mean
    print(f"\nzeus {theirs:.1f} W, ours {ours:.1f} W, {ours / theirs - 1:+.2%}")
    assert abs(ours / theirs - 1) <= AGREE

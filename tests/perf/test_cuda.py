"""On a GPU: our times against other timers on the same inputs in the same process, and what data do to a rate.

``make gpu`` runs these and keeps the log. Without a GPU each is skipped and says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.benchmark import Timer

from perf.abba import compare
from perwatt.backends.cuda import BACKEND
from perwatt.spec.case import Case, build
from perwatt.timing.body import Body

REASON = BACKEND.missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"needs an NVIDIA GPU: {REASON}")
SAMPLE_S = 0.1
LARGE = {"m": 8192, "n": 8192, "k": 8192}
SMALL = {"m": 1024, "n": 1024, "k": 1024}  # some 10 us on an H100


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    BACKEND.start()


def case(params: dict[str, int], **fields: Any) -> Case:
    work = {"workload": "gemm", "params": params, "precision": "bf16", "measure": {"cache": "hot"}}
    return build({**work, **fields})


def opened(made: Case, impl: str = "torch") -> tuple[Any, Callable[[], float]]:
    """A session, and our time of one iteration of it."""
    session = made.workload.open(made, made.workload.impls()[impl], BACKEND, 0)
    body = Body(session, BACKEND)
    once = min(body.batch(1).total_s for _ in range(5))
    count = max(1, round(SAMPLE_S / once))
    return session, lambda: body.batch(count).total_s / count


def test_a_large_product_agrees_with_torch_timer(benchmark: Any) -> None:
    session, ours = opened(case(LARGE))
    timer = Timer(stmt="run(0)", globals={"run": session.run})
    found = compare(benchmark, ours, lambda: float(timer.timeit(100).mean), pairs=30)
    assert 0.98 <= found.median <= 1.02


def test_a_large_product_agrees_with_triton(benchmark: Any) -> None:
    testing = pytest.importorskip("triton.testing", reason="needs triton")
    session, ours = opened(case(LARGE))

    def theirs() -> float:
        """Its default clears the cache before each call, which a product of 8192 does not notice."""
        return float(testing.do_bench(lambda: session.run(0), warmup=20, rep=100, return_mode="median")) / 1e3

    found = compare(benchmark, ours, theirs, pairs=30)
    assert 0.98 <= found.median <= 1.02


def test_a_small_product_takes_what_its_graph_takes(benchmark: Any) -> None:
    """Handing over must not be what is measured, where a graph shows that the device could go faster."""
    session, graph = opened(case(SMALL), "torch+graph")[1], _replays(case(SMALL))
    found = compare(benchmark, session, graph, pairs=30)
    assert 0.95 <= found.median <= 1.05


def _replays(made: Case, calls: int = 200) -> Callable[[], float]:
    """Seconds of one product in a graph of many, by torch alone."""
    session = made.workload.open(made, made.workload.impls()["torch"], BACKEND, 0)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            session.run(0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            session.run(0)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def once() -> float:
        start.record()
        for _ in range(20):
            graph.replay()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3 / (20 * calls)

    return once


def test_zeros_are_faster_than_numbers(benchmark: Any) -> None:
    """Bits that do not change cost no power, so a GPU at its limit is faster on zeros: they are never what we time."""
    _, numbers = opened(case(LARGE))
    _, zeros = opened(case(LARGE, data="zeros"))
    found = compare(benchmark, numbers, zeros, pairs=30)
    print(f"numbers / zeros {found.median:.3f} [{found.lo:.3f}, {found.hi:.3f}]")
    assert found.lo > 1.0

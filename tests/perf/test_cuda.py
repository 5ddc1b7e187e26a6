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
from perwatt.timing import host
from perwatt.timing.body import Body

REASON = BACKEND.missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"needs an NVIDIA GPU: {REASON}")
SAMPLE_S = 0.1
LARGE = {"m": 8192, "n": 8192, "k": 8192}
SMALL_S = 10e-6
SIZES = range(512, 4096, 128)  # of square products, among which the first is looked for that takes so long


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    BACKEND.start()


def case(params: dict[str, int], **fields: Any) -> Case:
    work = {"workload": "gemm", "params": params, "precision": "bf16", "measure": {"cache": "hot"}}
    return build({**work, **fields})


def opened(made: Case, impl: str = "torch") -> tuple[Any, Callable[[], float]]:
    """A session, and our time of one iteration of it."""
    session = made.workload.open(made, made.workload.impls()[impl], BACKEND, 0)
    body = sized(Body(session, BACKEND))
    return session, lambda: body.batch().total_s / body.iterations


def sized(body: Body) -> Body:
    """The body with batches that take :data:`SAMPLE_S`."""
    body.batch()  # a graph is recorded
    body.calibrate(min(body.batch().total_s for _ in range(5)) / body.iterations, SAMPLE_S)
    return body


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


@pytest.fixture(scope="module")
def small() -> tuple[Case, Callable[[], float]]:
    """The smallest square product of 10 us, and its time in a graph by torch alone."""
    for size in SIZES:
        made = case({"m": size, "n": size, "k": size})
        replays = _replays(made)
        if min(replays() for _ in range(5)) >= SMALL_S:
            return made, replays
    pytest.fail(f"no product up to {SIZES[-1]} takes {SMALL_S:g} s")


@pytest.mark.parametrize("impl", ["torch", "torch+graph"])
def test_a_small_product_takes_what_its_graph_takes(
    benchmark: Any, small: tuple[Case, Callable[[], float]], impl: str
) -> None:
    """Handing over must not be what is measured where a graph shows that the device could go faster, or it is told."""
    made, replays = small
    body = sized(Body(made.workload.open(made, made.workload.impls()[impl], BACKEND, 0), BACKEND))
    found = compare(benchmark, lambda: body.batch().total_s / body.iterations, replays, pairs=30)
    timing = body.batch()
    shares = timing.total_s / body.iterations, timing.enqueue_s / body.iterations, body.busy_s()
    bound = host.bound(*shares)
    print(f"{made.params}, {impl}: time, enqueue and kernels of an iteration {shares}, so bound by {bound}")
    assert 0.95 <= found.median <= 1.05 or (impl == "torch" and bound == "host")


def _replays(made: Case, calls: int = 200) -> Callable[[], float]:
    """Seconds of one product in a graph of many, by torch alone."""
    session = made.workload.open(made, made.workload.impls()["torch"], BACKEND, 0)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
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

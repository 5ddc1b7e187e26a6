"""Our timing against torch.utils.benchmark.Timer, on the same callable, with the same threads, in one process."""

from typing import Any

import pytest
import torch
from torch.utils.benchmark import Timer

from perf.abba import compare
from perwatt.backends.cpu import BACKEND
from perwatt.spec.case import build
from perwatt.timing.body import Body

CASES: dict[str, dict[str, Any]] = {
    "gemm 1024^3": {"workload": "gemm", "params": {"m": 1024, "n": 1024, "k": 1024}},
    "train_step": {"workload": "train_step", "params": {"model": "llama-tiny", "batch": 4, "seq": 128}},
}
SAMPLE_S = 0.06
ROUNDS = {"gemm 1024^3": 200, "train_step": 120}  # many short ones: what disturbs a shared machine disturbs few of them


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_torch_timer(name: str, benchmark: Any) -> None:
    BACKEND.start()
    case = build({**CASES[name], "measure": {"cache": "hot"}})
    session = case.workload.open(case, case.workload.impls()["torch"], BACKEND, 0)
    body, timer = Body(session, BACKEND), _timer(session.run)
    once = min(body.batch(1).total_s for _ in range(5))
    count = max(1, round(SAMPLE_S / once))

    def ours() -> float:
        body.batch(2)  # after a change of turns nothing is counted at first; Timer runs two calls of its own before
        return body.batch(count).total_s

    def theirs() -> float:
        return float(timer.timeit(count).mean) * count

    found = compare(benchmark, ours, theirs, pairs=ROUNDS[name])
    if found.lo >= 0.98 and found.hi <= 1.02:
        return
    itself = compare(_Plain(), theirs, theirs, pairs=ROUNDS[name])
    assert found.lo <= 1 <= found.hi
    assert found.hi - found.lo <= itself.hi - itself.lo, f"ratio {found}, Timer against itself {itself}"


def _timer(run: Any) -> Timer:
    return Timer(stmt="run(0)", globals={"run": run}, num_threads=torch.get_num_threads())


class _Plain:
    """Runs rounds as pytest-benchmark's fixture does, without recording them: a test has one fixture."""

    extra_info: dict[str, Any] = {}  # noqa: RUF012

    def pedantic(self, function: Any, rounds: int, iterations: int, warmup_rounds: int) -> None:
        for _ in range(rounds + warmup_rounds):
            function()

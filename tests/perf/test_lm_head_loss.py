"""The loss in chunks against the loss over all logits, forward and backward, at a vocabulary of 128k."""

from typing import Any

import pytest

from perf.abba import compare
from perwatt.backends.cpu import BACKEND
from perwatt.spec.case import build
from perwatt.timing.body import Body
from support.memory import peak_bytes

CASE = {
    "workload": "lm_head_loss", "params": {"tokens": 2048, "hidden": 256, "vocab": 131072}, "pass": "fwd+bwd",
    "measure": {"cache": "hot"},
}  # fmt: skip
MOST = 1.15  # times the time
LEAST = 8  # times less memory


@pytest.mark.timeout(900)
def test_chunks_cost_at_most_fifteen_percent_and_an_eighth_of_the_memory(benchmark: Any) -> None:
    BACKEND.start()
    case = build(CASE)
    impls = case.workload.impls()
    sessions = {impl: case.workload.open(case, impls[impl], BACKEND, 0) for impl in ("chunked", "torch")}
    peaks = {impl: peak_bytes(session.run) for impl, session in sessions.items()}
    print(f"\npeak bytes {peaks}")
    assert peaks["torch"] >= LEAST * peaks["chunked"]
    chunked, whole = (Body(sessions[impl], BACKEND) for impl in ("chunked", "torch"))
    found = compare(benchmark, lambda: chunked.batch(1).total_s, lambda: whole.batch(1).total_s, pairs=10)
    assert found.hi <= MOST

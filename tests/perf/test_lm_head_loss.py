"""The loss in chunks against the loss over all logits, forward and backward, at a vocabulary of 128k."""

from typing import Any

import pytest

from perf.abba import compare
from perwatt.backends.cpu import BACKEND
from perwatt.spec.case import build
from perwatt.timing.body import Body

CASE = {
    "workload": "lm_head_loss", "params": {"tokens": 2048, "hidden": 256, "vocab": 131072}, "pass": "fwd+bwd",
    "measure": {"cache": "hot"},
}  # fmt: skip
MOST = 1.15


@pytest.mark.timeout(900)
def test_chunks_cost_at_most_fifteen_percent(benchmark: Any) -> None:
    BACKEND.start()
    case = build(CASE)
    bodies = [
        Body(case.workload.open(case, case.workload.impls()[i], BACKEND, 0), BACKEND) for i in ("chunked", "torch")
    ]
    found = compare(benchmark, *(lambda body=body: body.batch(1).total_s for body in bodies), pairs=10)  # type: ignore[misc]
    assert found.hi <= MOST

"""Our training step against a loop of the same model written by hand, eager and compiled."""

from typing import Any

import pytest

from perf.abba import compare
from perf.handwritten_llama import Loop
from perwatt.backends.cpu import BACKEND
from perwatt.spec.case import build
from perwatt.timing.body import Body

CASE = {"workload": "train_step", "params": {"model": "llama-tiny", "batch": 4, "seq": 128}}


@pytest.mark.parametrize("impl", ["torch", "torch.compile"])
def test_is_as_fast_as_a_handwritten_loop(impl: str, benchmark: Any) -> None:
    """At least 0.99 of its tokens a second, so at most 1 / 0.99 of its time."""
    BACKEND.start()
    case = build(CASE)
    session = case.workload.open(case, case.workload.impls()[impl], BACKEND, 0)
    ours, loop = Body(session, BACKEND), Loop(compiled=impl == "torch.compile")
    ring: list[Any] = [None] * 4
    found = compare(
        benchmark, lambda: ours.batch(1).total_s, lambda: BACKEND.time(loop.step, 1, 0, ring).total_s, pairs=120
    )
    assert found.median <= 1 / 0.99

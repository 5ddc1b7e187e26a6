"""The gate of functions goes block by block: it needs the memory that is declared, and finds what the whole shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from perwatt.accuracy import blocks
from perwatt.accuracy.tally import Tally
from perwatt.workloads.base import Accuracy
from support import faults
from support.memory import peak_bytes
from support.sessions import case, opened

pytestmark = pytest.mark.usefixtures("one_thread")

BOUND: dict[str, dict[str, Any]] = {  # by memory
    "rmsnorm": {"tokens": 1024, "hidden": 512},
    "softmax": {"tokens": 1024, "hidden": 512},
    "cross_entropy": {"tokens": 512, "vocab": 1024},
    "rope": {"tokens": 256, "heads": 16, "head_dim": 128},
    "embedding": {"tokens": 1024, "vocab": 512, "hidden": 512},
}
COMPOSED: dict[str, dict[str, Any]] = {
    "lm_head_loss": {"tokens": 512, "hidden": 64, "vocab": 1024},
    "mlp": {"tokens": 1024, "hidden": 96, "intermediate": 256},
    "transformer_layer": {"batch": 8, "seq": 128, "hidden": 64, "intermediate": 176, "heads": 4},
}
SMALL: dict[str, dict[str, Any]] = {
    "rmsnorm": {"tokens": 300, "hidden": 96},
    "softmax": {"tokens": 300, "hidden": 96},
    "cross_entropy": {"tokens": 300, "vocab": 512},
    "rope": {"tokens": 100, "heads": 6, "head_dim": 32},
    "embedding": {"tokens": 300, "vocab": 128, "hidden": 96, "ids": "zipf"},
    "lm_head_loss": {"tokens": 300, "hidden": 32, "vocab": 256},
    "mlp": {"tokens": 300, "hidden": 32, "intermediate": 64},
    "transformer_layer": {"batch": 6, "seq": 24, "hidden": 32, "intermediate": 48, "heads": 2},
}


def counted(session: Any) -> float:
    """Bytes of operands, what flows in and what comes out, and the peak that the gate adds to them."""
    found: list[float] = []
    verify = session._verify

    def watched(operands: Any, incoming: Any, result: Any, gradients: Any) -> Accuracy:
        held = [*operands, result, *(gradients or ()), *([] if incoming is None else [incoming])]
        outcome: list[Accuracy] = []
        peak = peak_bytes(lambda _: outcome.append(verify(operands, incoming, result, gradients)))
        found.append(sum(t.nbytes for t in held) + peak)
        return outcome[0]

    session._verify = watched
    assert session.check(1).ok
    return found[0]


@pytest.mark.parametrize("name", BOUND)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("pass_", ["fwd", "fwd+bwd"])
def test_the_gate_of_memory_bound_work_needs_what_is_declared(
    name: str, precision: str, pass_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a body this small a block is the larger part, so that its estimate is what is tried."""
    monkeypatch.setattr(blocks, "BLOCK", 2**17)
    made = case(name, BOUND[name], precision=precision, pass_=pass_)
    declared = made.workload.memory(made) + made.workload.gate_memory(made)
    needed = counted(opened(made))
    assert needed <= declared <= 1.5 * max(needed, made.workload.memory(made))


@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("pass_", ["fwd", "fwd+bwd"])
def test_the_gate_of_products_needs_at_most_what_is_declared(
    name: str, pass_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 2**17)
    made = case(name, COMPOSED[name], precision="bf16", pass_=pass_)
    body = made.workload.memory(made)
    needed = counted(opened(made))
    assert needed <= body + made.workload.gate_memory(made) <= 2 * max(needed, body)


@pytest.mark.parametrize("name", BOUND)
def test_the_gate_of_large_work_needs_little_beside_the_body(name: str) -> None:
    """Ten times the rows: the body grows tenfold, the gate by the norms of rows only."""
    rows = {"rope": "heads"}.get(name, "tokens")
    base = BOUND[name] | {"tokens": 2**14} | ({"heads": 64} if name == "rope" else {})
    small, large = (case(name, base | {rows: scale * base[rows]}, pass_="fwd+bwd") for scale in (1, 10))
    body, gate = (getattr(large.workload, part)(large) for part in ("memory", "gate_memory"))
    assert body > 5 * small.workload.memory(small)
    assert gate < small.workload.gate_memory(small) + 0.1 * body


def judged(made: Any, block: int, fault: Callable[..., Any] | None, monkeypatch: pytest.MonkeyPatch) -> Accuracy:
    monkeypatch.setattr(blocks, "BLOCK", block)
    session = opened(made)
    if fault:
        session._function = fault(session._function)
    found: Accuracy = session.check(0)
    return found


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("fault", [None, "a result scaled by 0.99", "a lost tile"])
def test_blocks_say_what_the_whole_says(
    name: str, precision: str, fault: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = case(name, SMALL[name], precision=precision, pass_="fwd+bwd")
    change = faults.IN_RESULT[fault] if fault else None
    if fault == "a lost tile" and not made.workload.result(made.params, made.precision).shape:
        pytest.skip("a loss is one number and has no tile")
    whole, streamed = (judged(made, block, change, monkeypatch) for block in (2**40, 2**9))
    assert streamed.ok == whole.ok == (fault is None)
    if not fault:  # of several things that are wrong another one may come first
        assert streamed.rel_err == pytest.approx(whole.rel_err, rel=0.3)
        assert streamed.bound == pytest.approx(whole.bound, rel=0.3)


@pytest.mark.parametrize("along", [0, 1, 2])
def test_errors_by_blocks_are_those_of_the_whole(along: int) -> None:
    truth = torch.randn(6, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    actual = truth + 1e-3 * torch.randn(6, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    actual[4, 5] *= 1.1
    whole, streamed = Tally(), Tally(along)
    whole.add(actual, truth)
    for pair in zip(actual.split(2, dim=along), truth.split(2, dim=along), strict=True):
        streamed.add(*pair)
    assert streamed.error == pytest.approx(float((actual - truth).norm() / truth.norm()), rel=1e-12)
    assert whole.error == pytest.approx(streamed.error, rel=1e-12)
    for bound in (1.0, streamed.error, streamed.error / 2):
        found, other = streamed.judged(bound, "y"), whole.judged(bound, "y")
        assert (found.ok, found.detail) == (other.ok, other.detail)
        assert found.rel_err == pytest.approx(other.rel_err, rel=1e-12)
    assert streamed.judged(1.0, "y").ok
    assert streamed.judged(streamed.error * 1.001, "y").detail == "y: row 37 differs"


def test_a_truth_of_zero_has_the_error_itself() -> None:
    tally = Tally()
    tally.add(torch.tensor(0.5), torch.tensor(0.0, dtype=torch.float64))
    assert tally.error == 0.5

"""lm_head_loss: FLOPs, the impl in chunks, and faults of its own."""

from __future__ import annotations

import pytest
import torch

from perwatt.backends.cpu import BACKEND
from support.memory import peak_bytes
from support.sessions import PASSES, assert_passes, case, counted_flops, faulty, opened

PARAMS = {"tokens": 200, "hidden": 64, "vocab": 512}


@pytest.mark.parametrize("pass_", PASSES)
def test_flops_agree_with_the_counter(pass_: str) -> None:
    made = case("lm_head_loss", PARAMS, pass_=pass_)
    counts = made.workload.counts(made.params, pass_, made.precision)
    assert counted_flops(made) == counts.flops
    assert counts.tokens == 200


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16_master"])
@pytest.mark.parametrize("pass_", ["fwd", "fwd+bwd"])
def test_in_chunks_it_passes_its_gate(precision: str, pass_: str) -> None:
    assert_passes(case("lm_head_loss", {**PARAMS, "tokens": 2100}, precision=precision, pass_=pass_), "chunked")


def test_in_chunks_no_pass_can_be_timed_that_would_flatter_it() -> None:
    for fields in ({"pass_": "bwd"}, {"pass_": "fwd", "grad": True}):
        made = case("lm_head_loss", PARAMS, impl=["chunked"], **fields)
        reason = made.workload.unsupported(made, made.workload.impls()["chunked"], BACKEND)
        assert reason is not None
        assert "fwd+bwd" in reason


def test_chunks_take_an_eighth_of_the_memory_at_a_vocabulary_of_128k() -> None:
    made = case("lm_head_loss", {"tokens": 2048, "hidden": 16, "vocab": 131072}, pass_="fwd+bwd")
    peaks = {impl: peak_bytes(opened(made, impl).run) for impl in ("torch", "chunked")}
    assert peaks["chunked"] <= peaks["torch"] / 8, peaks


FAULTS = {
    "a chunk left out": lambda x, w, y: _loss(x[20:], w, y[20:]),
    "labels of another chunk": lambda x, w, y: _loss(x, w, y.roll(20)),
    "no gradient to the weight": lambda x, w, y: _loss(x, w.detach() + 0 * w, y),
}


def _loss(x: torch.Tensor, w: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(x @ w.T, y)


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_caught(name: str) -> None:
    assert not faulty(case("lm_head_loss", PARAMS, pass_="fwd+bwd"), lambda function: FAULTS[name]).ok

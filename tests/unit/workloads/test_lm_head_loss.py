"""lm_head_loss: FLOPs, the impl in chunks, and faults of its own."""

from __future__ import annotations

import pytest
import torch

from perwatt.backends.cpu import BACKEND
from perwatt.spec.case import Case
from perwatt.workloads import autocast
from perwatt.workloads.function import IDS
from perwatt_kernels.dtypes import dtype
from support.memory import peak_by_shape, peak_bytes
from support.sessions import PASSES, assert_passes, case, counted_flops, faulty, opened

PARAMS = {"tokens": 200, "hidden": 64, "vocab": 512}
CHUNKED = {"tokens": 1000, "hidden": 32, "vocab": 256}
"""Several groups of rows, the last one shorter."""


@pytest.mark.parametrize("pass_", PASSES)
def test_flops_agree_with_the_counter(pass_: str) -> None:
    made = case("lm_head_loss", PARAMS, pass_=pass_)
    counts = made.workload.counts(made.params, pass_, made.precision)
    assert counted_flops(made) == counts.flops
    assert counts.tokens == 200


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "bf16_master", "bf16_autocast"])
@pytest.mark.parametrize("pass_", ["fwd", "fwd+bwd"])
def test_in_chunks_it_passes_its_gate(precision: str, pass_: str) -> None:
    assert_passes(case("lm_head_loss", CHUNKED, precision=precision, pass_=pass_), "chunked")


def test_in_chunks_no_pass_can_be_timed_that_would_flatter_it() -> None:
    for fields in ({"pass_": "bwd"}, {"pass_": "fwd", "grad": True}):
        made = case("lm_head_loss", PARAMS, impl=["chunked"], **fields)
        reason = made.workload.unsupported(made, made.workload.impls()["chunked"], BACKEND)
        assert reason is not None
        assert "fwd+bwd" in reason


def _peak(made: Case) -> int:
    """By shape, of the case's only impl."""
    (impl,) = made.impls
    function = autocast.cast(made.workload.impls()[impl].build(made, BACKEND), made.precision, BACKEND)
    operands = made.workload.operands(made.params, made.precision)
    return peak_by_shape(
        function, [(one.shape, torch.int64 if one.format == IDS else dtype(one.format)) for one in operands]
    )


def _estimate(made: Case) -> float:
    """Without the operands."""
    return made.workload.memory(made) - sum(one.bytes for one in made.workload.operands(made.params, made.precision))


LARGE = [("fp32", 2048, 256), *((p, tokens, 4096) for p in ("bf16", "bf16_autocast") for tokens in (2048, 4096, 8192))]


@pytest.mark.parametrize(("precision", "tokens", "hidden"), LARGE)
def test_at_a_vocabulary_of_128k_chunks_take_a_sixteenth_beside_what_no_impl_can_do_without(
    precision: str, tokens: int, hidden: int
) -> None:
    """That is gradients and autocast's copies. With them it is an eighth in all, where they alone do not take more."""
    params = {"tokens": tokens, "hidden": hidden, "vocab": 131072}
    made = {
        impl: case("lm_head_loss", params, precision=precision, pass_="fwd+bwd", impl=[impl])
        for impl in ("torch", "chunked")
    }
    peaks = {impl: _peak(one) for impl, one in made.items()}
    for impl, one in made.items():
        assert _estimate(one) <= peaks[impl] <= _estimate(one) + 64 * tokens, impl
    x, w, _ = made["torch"].workload.operands(made["torch"].params, made["torch"].precision)
    needed = x.bytes + w.bytes + made["torch"].workload.cast_bytes(made["torch"])
    assert peaks["chunked"] - needed <= peaks["torch"] / 16
    if needed <= peaks["torch"] / 10:
        assert peaks["chunked"] <= peaks["torch"] / 8


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16_autocast"])
@pytest.mark.parametrize("impl", ["torch", "chunked"])
@pytest.mark.parametrize("pass_", ["fwd", "fwd+bwd"])
def test_memory_is_what_the_allocator_counts(precision: str, impl: str, pass_: str) -> None:
    made = case("lm_head_loss", CHUNKED, precision=precision, pass_=pass_, impl=[impl])
    session = opened(made, impl)
    session.run(0)
    counted = peak_bytes(session.run)
    assert _estimate(made) <= counted <= _estimate(made) + 64 * CHUNKED["tokens"]
    if pass_ == "fwd+bwd":
        assert abs(_peak(made) - counted) <= 64 * CHUNKED["tokens"]


@pytest.mark.parametrize("precision", ["bf16", "bf16_autocast"])
def test_the_weight_s_gradient_in_chunks_errs_less_than_twice_as_much_as_over_all_logits(precision: str) -> None:
    made = case("lm_head_loss", CHUNKED, precision=precision, pass_="fwd+bwd")
    errors = {}
    for impl in ("torch", "chunked"):
        session = opened(made, impl)
        _, (_, found) = session.run(0)
        x, w, labels = (t.detach() for t in session._sets[0])
        exact = w.double().requires_grad_()
        (true,) = torch.autograd.grad(_loss(x.double(), exact, labels), exact, torch.tensor(0.5).double())
        errors[impl] = float((found - true).norm() / true.norm())
    assert errors["chunked"] <= 2 * errors["torch"], errors


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

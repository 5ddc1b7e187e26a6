"""rmsnorm: bytes, and faults of its own."""

import pytest
import torch

from support.sessions import case, faulty

PARAMS = {"tokens": 64, "hidden": 96}


def _normed(x: torch.Tensor, w: torch.Tensor, eps: float) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * w


def test_bytes_of_each_pass() -> None:
    made = case("rmsnorm", PARAMS, precision="bf16")
    x, w = 64 * 96 * 2, 96 * 2
    counts = {p: made.workload.counts(made.params, p, made.precision) for p in made.workload.passes}
    assert {p: c.bytes for p, c in counts.items()} == {
        "fwd": 2 * x + w, "bwd": 3 * x + 2 * w, "fwd+bwd": 5 * x + 3 * w,
    }  # fmt: skip
    assert all(c.flops is None and c.tokens is None for c in counts.values())


@pytest.mark.parametrize(
    "fault",
    {
        "no eps": lambda x, w: _normed(x, w, 0.0),
        "no weight": lambda x, w: _normed(x, torch.ones_like(w), 1e-1),
        "the mean taken off": lambda x, w: _normed(x - x.mean(-1, keepdim=True), w, 1e-1),
        "the mean absolute value": lambda x, w: x / (x.abs().mean(-1, keepdim=True) + 1e-1) * w,
    }.items(),
    ids=lambda item: item[0],
)
def test_another_formula_is_caught(fault) -> None:
    made = case("rmsnorm", {**PARAMS, "eps": 1e-1})
    assert not faulty(made, lambda function: fault[1]).ok


def test_eps_is_in_the_key() -> None:
    assert case("rmsnorm", {**PARAMS, "eps": 1e-6}).match_key != case("rmsnorm", PARAMS).match_key

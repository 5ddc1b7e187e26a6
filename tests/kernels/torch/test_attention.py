"""Attention in NKI, and AWS's, as operations of torch: in simulation, and what is refused before anything is launched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from perwatt_kernels import registry
from perwatt_kernels.nki_torch import site


def request(**changes: Any) -> registry.Request:
    params = {
        "batch": 1, "heads": 4, "kv_heads": 2, "q_len": 40, "kv_len": 40, "head_dim": 16, "causal": True, "window": 0,
        "varlen": None, "scale": 0.25, "dropout": 0.0,
    }  # fmt: skip
    fields = {"device": "cpu", "compute": "fp32", "output": "fp32", "gradients": True, "params": params}
    own = {name: changes.pop(name) for name in list(changes) if name in fields}
    return registry.Request(**{**fields, **own, "params": {**params, **changes}}, compile=lambda function: function)


def impl(name: str) -> registry.Kernel:
    return registry.kernels("attention")[name]


@pytest.mark.parametrize("causal", [True, False])
def test_forward_backward_and_what_is_saved(causal: bool) -> None:
    q = torch.randn(1, 40, 4, 16).transpose(1, 2).requires_grad_()  # as a projection leaves them
    k, v = (torch.randn(1, 40, 2, 16).transpose(1, 2).requires_grad_() for _ in range(2))
    incoming = torch.randn(1, 4, 40, 16)
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=0.25, enable_gqa=True)
    gradients = torch.autograd.grad(wanted, (q, k, v), incoming)
    with site.simulated("trn2", 2):
        attend = impl("nki").build(request(causal=causal))
        for function in (attend, torch.compile(attend, backend="aot_eager", fullgraph=True)):
            found = function(q, k, v)
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
            for one, true in zip(torch.autograd.grad(found, (q, k, v), incoming), gradients, strict=True):
                torch.testing.assert_close(one, true, rtol=1e-4, atol=1e-4)
        saved = attend(q, k, v).grad_fn._saved_logsumexp
    scores = q @ k.repeat_interleave(2, dim=1).mT * 0.25
    scores = scores.masked_fill(torch.ones(40, 40, dtype=torch.bool).triu(1), float("-inf")) if causal else scores
    torch.testing.assert_close(saved, scores.logsumexp(dim=-1).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"window": 8}, "found a window of 8, expected 0"),
        ({"varlen": (20, 20)}, "found 2 packed documents, expected one"),
        ({"dropout": 0.1, "gradients": False}, "found dropout 0.1, expected 0"),
        ({"head_dim": 192}, "found head_dim 192, expected 1 to 128; nearest 128"),
        ({"q_len": 40_000}, "found q_len 40000, expected 1 to 32768"),
        ({"compute": "tf32"}, "found tf32 operands, expected one of"),
        ({"output": "bf16"}, "found bf16 output, expected that of the operands, fp32"),
    ],
)
def test_what_it_does_not_take_is_refused_with_the_limit(changes: dict[str, Any], reason: str) -> None:
    with site.simulated("trn2", 2):
        assert reason in (impl("nki").unsupported(request(**changes)) or "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "found q_len 40, expected a multiple of 128 for attention_bwd; nearest 128"),
        ({"q_len": 640, "kv_len": 640}, "found kv_len 640, expected a multiple of 512 for attention_bwd; nearest 512"),
        ({"q_len": 256, "kv_len": 512}, "found q_len 256 and kv_len 512, expected equal ones"),
        ({"head_dim": 192}, "found head_dim 192, expected at most 128"),
        ({"batch": 200}, "found 800 heads of all sequences, expected at most 512"),
        ({"q_len": 65_536, "gradients": False}, "found q_len 65536, expected at most 36864"),
        ({"compute": "fp32", "output": "fp32"}, "found fp32 operands, expected one of bf16"),
        ({"gradients": False}, "NKI kernels run on neuron devices, found cpu"),
    ],
)
def test_limits_of_the_library_are_checked_beforehand(changes: dict[str, Any], reason: str) -> None:
    assert reason in (impl("nkilib").unsupported(request(**{"compute": "bf16", "output": "bf16"} | changes)) or "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kv_heads": 2}, "found 4 heads for 2 of keys"),
        ({"q_len": 513}, "found q_len 513, expected a multiple of 512 for the rewrite; nearest 512"),
        ({"window": 8}, "found a window of 8"),
        ({"head_dim": 192}, "found head_dim 192, expected at most 128"),
        ({"device": "cuda"}, "the rewrite to NKI is of neuron devices, found cuda"),
    ],
)
def test_conditions_of_the_rewrite(changes: dict[str, Any], reason: str) -> None:
    fits = {"device": "neuron", "heads": 4, "kv_heads": 4, "q_len": 512, "kv_len": 1024}
    assert impl("sdpa-nki").unsupported(request(**fits)) is None
    assert reason in (impl("sdpa-nki").unsupported(request(**fits | changes)) or "")


def test_the_rewrite_can_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_NEURONX_ENABLE_NKI_SDPA", "0")
    fits = {"device": "neuron", "heads": 4, "kv_heads": 4, "q_len": 512, "kv_len": 512}
    assert "TORCH_NEURONX_ENABLE_NKI_SDPA is off" in (impl("sdpa-nki").unsupported(request(**fits)) or "")

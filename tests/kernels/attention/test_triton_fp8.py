"""Attention in Triton with operands in 8 bits, in the interpreter."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from perwatt_kernels.matmul import quantize

pytestmark = pytest.mark.usefixtures("triton_interpreter", "one_thread")


def narrow() -> Any:
    return importlib.import_module("perwatt_kernels.attention.triton_fp8")


def dequantized(x: Tensor) -> Tensor:
    """In float64, by the rule written out in float32 arithmetic: a scale for each head."""
    elements, scales = quantize.quantized(x.float(), "e4m3fn", "tensor", -1)
    assert scales.shape == (*x.shape[:2], 1, 1)
    return elements.double() * scales.double()


def exact(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    k, v = (one.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for one in (k, v))
    scores = q @ k.mT * scale
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    return torch.softmax(scores, -1) @ v, scores.logsumexp(-1)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "q_len", "kv_len", "dim", "causal"),
    [(2, 1, 70, 70, 32, True), (2, 2, 20, 45, 64, False), (1, 1, 33, 33, 16, True)],
)
def test_only_weights_lose_bits_beyond_the_quantization(
    heads: int, kv_heads: int, q_len: int, kv_len: int, dim: int, causal: bool
) -> None:
    q = torch.randn(2, q_len, heads, dim).bfloat16().transpose(1, 2)
    k, v = (torch.randn(2, kv_len, kv_heads, dim).bfloat16().transpose(1, 2) for _ in range(2))
    k[1] *= 30  # heads have scales of their own
    k[1, :, :, 1:] /= 30
    out, lse = narrow().attention(q, k, v, causal, 0, [], dim**-0.5)
    wanted, sums = exact(*map(dequantized, (q, k, v)), causal, dim**-0.5)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(lse.double(), sums, rtol=0, atol=1e-4)
    away = (out.double() - wanted).norm(dim=-1) / v.double().norm(dim=-1).mean()
    assert away.max() < 2.0**-4  # the weights' rounding
    whole = float((out.double() - wanted).norm() / wanted.norm())
    assert whole < 2.0**-5


def test_arguments_are_checked_and_nothing_gives_nothing() -> None:
    q = torch.randn(0, 2, 8, 16).bfloat16()
    out, lse = narrow().attention(q, q, q, True, 0, [], 1.0)
    assert out.shape == q.shape
    assert lse.shape == q.shape[:3]
    with pytest.raises(ValueError, match="scale: found 0"):
        narrow().attention(q, q, q, True, 0, [], 0.0)

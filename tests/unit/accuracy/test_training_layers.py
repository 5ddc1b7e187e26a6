"""The training gate catches faults within layers: attention, products, rotation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from perwatt.models import attention, kernels, places
from support.training import STRETCHED, examine

pytestmark = pytest.mark.usefixtures("one_thread")


def late_edge(q: Tensor, k: Tensor, v: Tensor, *unused: object) -> Tensor:
    """Every query sees one key too many."""
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def lost_pair(q: Tensor, k: Tensor, v: Tensor, *unused: object) -> Tensor:
    """The last query does not see itself: one pair of many."""
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
    mask[-1, -1] = False
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def swapped_heads(q: Tensor, k: Tensor, v: Tensor, *unused: object) -> Tensor:
    return F.scaled_dot_product_attention(q, k.flip(1), v.flip(1), is_causal=True, enable_gqa=True)


def interleaved_heads(q: Tensor, k: Tensor, v: Tensor, *unused: object) -> Tensor:
    """Query head i served by key head i modulo their number, as tile() instead of repeat_interleave() gives."""
    times = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(q, k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1), is_causal=True)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("fault", [late_edge, swapped_heads, interleaved_heads])
def test_faulty_attention_is_caught(fault: object, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "attend", fault)
    assert not examine(precision).ok


def test_one_lost_pair_is_caught_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "attend", lost_pair)
    assert not examine().ok


def secretly_bf16(x: Tensor, weight: Tensor, bias: None) -> Tensor:
    return F.linear(x.bfloat16(), weight.bfloat16()).to(x.dtype)


def bf16_accumulation(x: Tensor, weight: Tensor, bias: None) -> Tensor:
    """Partial sums of eight terms, added up in bf16."""
    total = torch.zeros((), dtype=torch.bfloat16)
    for terms, weights in zip(x.split(8, dim=-1), weight.split(8, dim=-1), strict=True):
        total = total + F.linear(terms, weights.to(x.dtype)).bfloat16()
    return total.to(x.dtype)


@pytest.mark.parametrize("fault", [secretly_bf16, bf16_accumulation])
def test_faulty_products_of_fp32_are_caught(fault: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "linear", fault)
    assert not examine("fp32").ok


@pytest.mark.parametrize("precision", ["bf16", "bf16_master", "bf16_autocast"])
def test_bf16_accumulation_is_caught_in_bf16(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "linear", bf16_accumulation)
    assert not examine(precision).ok


def test_unscaled_rotation_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that ignores llama3 scaling."""
    plain = places.rotation
    monkeypatch.setattr(
        places,
        "rotation",
        lambda rope, head_dim, positions: plain(rope.model_copy(update={"kind": "default"}), head_dim, positions),
    )
    assert not examine("bf16_master", model=STRETCHED).ok

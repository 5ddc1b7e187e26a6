"""transformer_layer: FLOPs, grouped queries, and faults of its own."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from perwatt.errors import InputError
from perwatt.models import attention, decoder
from support.sessions import PASSES, assert_passes, case, counted_flops, faulty

PARAMS = {"batch": 2, "seq": 48, "hidden": 64, "intermediate": 176, "heads": 4, "kv_heads": 2}


@pytest.mark.parametrize("pass_", PASSES)
def test_flops_agree_with_the_counter(pass_: str) -> None:
    """The counter takes the whole square of attention, of which causal attention sees (S + 1) / 2 S."""
    made = case("transformer_layer", {**PARAMS, "kv_heads": 4}, pass_=pass_)
    with sdpa_kernel(SDPBackend.MATH):
        counted = counted_flops(made)
    counts = made.workload.counts(made.params, pass_, made.precision)
    products = {"fwd": 1, "bwd": 2, "fwd+bwd": 3}[pass_]
    square = 4 * 2 * 48 * 48 * 64 * products
    assert counted > square
    assert counts.flops == counted - square + square * 49 / 96
    assert counts.tokens == 96


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16_master"])
@pytest.mark.parametrize("shape", [{}, {"kv_heads": 1}, {"head_dim": 32}])
def test_shapes_pass_their_gate(precision: str, shape: dict[str, int]) -> None:
    assert_passes(case("transformer_layer", {**PARAMS, **shape}, precision=precision, pass_="fwd+bwd"))


def test_heads_as_many_as_keys_is_one_spelling() -> None:
    plain = {name: value for name, value in PARAMS.items() if name != "kv_heads"}
    assert case("transformer_layer", plain).match_key == case("transformer_layer", {**PARAMS, "kv_heads": 4}).match_key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_heads": 3}, "does not divide heads"),
        ({"heads": 3, "kv_heads": 3}, "does not divide hidden"),
        ({"head_dim": 5}, "odd"),
    ],
)
def test_shapes_that_make_no_sense_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        case("transformer_layer", {**PARAMS, **change})


def _uncausal(q, k, v, *unused):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def _next_kv_head(q, k, v, *unused):
    return REAL(q, k.roll(1, 1), v.roll(1, 1), *unused)


REAL = attention.attend


@pytest.mark.parametrize("wrong", [_uncausal, _next_kv_head])
def test_wrong_attention_is_caught(wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(function):
        monkeypatch.setattr(attention, "attend", wrong)
        return function

    assert not faulty(case("transformer_layer", PARAMS, pass_="fwd+bwd"), fault).ok


def test_a_missing_addition_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = decoder.Block.forward

    def fault(function):
        monkeypatch.setattr(decoder.Block, "forward", lambda self, x, places: real(self, x, places) - x)
        return function

    assert not faulty(case("transformer_layer", PARAMS), fault).ok


@pytest.mark.parametrize("precision", ["fp32", "bf16_master"])
def test_one_token_of_many_is_seen(precision: str) -> None:
    def one_off(function):
        def wrong(x, *weights):
            scale = torch.ones(x.shape[1], 1, dtype=x.dtype)
            scale[-3] = 0.9
            return function(x, *weights) * scale

        return wrong

    made = case("transformer_layer", {**PARAMS, "batch": 1, "seq": 512}, precision=precision)
    assert not faulty(made, one_off).ok

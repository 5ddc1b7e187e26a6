"""Conventions of counting, against numbers worked out by hand and what sources print of their own models."""

from __future__ import annotations

import pytest

from perwatt.results.published.conventions import CONVENTIONS
from perwatt.results.published.rows import flops_per_token
from perwatt.spec.model import resolve

SHAPE = {"hidden": 8, "intermediate": 16, "layers": 2, "heads": 2, "kv_heads": 1, "vocab": 10}
SEQ = 4
# Of a layer: q and o 8 x 8, k and v 8 x 4, three branches 8 x 16, two norms of 8; 80 of each embedding, a norm of 8.
PRODUCTS = 2 * (2 * 64 + 2 * 32 + 3 * 128) + 80
ALL = PRODUCTS + 80 + 2 * 16 + 8
SQUARE = 12 * 2 * 8 * SEQ


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("6n", 6 * ALL),
        ("6n-causal", 6 * ALL + SQUARE / 2),
        ("llm-foundry", 6 * ALL + SQUARE),
        ("torchtitan", 6 * (ALL - 80) + SQUARE),
        ("megatron", 6 * PRODUCTS + SQUARE / 2),
        ("maxtext", 6 * PRODUCTS + SQUARE),
    ],
)
def test_operations_of_a_token(name: str, flops: float):
    assert CONVENTIONS[name].per_token(resolve(SHAPE), SEQ) == flops


def test_every_convention_that_counts_is_tested_above():
    assert {name for name, convention in CONVENTIONS.items() if convention.per_token} == {
        "6n", "6n-causal", "llm-foundry", "torchtitan", "megatron", "maxtext",
    }  # fmt: skip


def test_a_tied_embedding_is_the_output_projection():
    tied = resolve(SHAPE | {"tied": True})
    assert CONVENTIONS["torchtitan"].per_token(tied, SEQ) == 6 * (ALL - 80) + SQUARE
    assert CONVENTIONS["6n"].per_token(tied, SEQ) == 6 * (ALL - 80)


def test_llm_foundry_counts_what_it_prints():
    """459.5096 TFLOP/s at 10,643 tokens/s of a model of 6,658,859,008 parameters (it has learned positions too)."""
    counted = CONVENTIONS["llm-foundry"].per_token(resolve("mpt-7b"), 2048)
    assert counted == pytest.approx(459.5096e12 / 10_643, rel=0.002)
    assert CONVENTIONS["6n"].per_token(resolve("mpt-7b"), 2048) == pytest.approx(6 * 6_658_859_008, rel=0.002)


@pytest.mark.parametrize("model", ["llama-3-8b", "mixtral-8x7b"])
def test_ours_is_megatrons_but_for_the_diagonal(model: str):
    shape, seq = resolve(model), 4096
    ours, theirs = flops_per_token(shape, seq), CONVENTIONS["megatron"].per_token(shape, seq)
    assert ours - theirs == pytest.approx(6 * shape.layers * shape.heads * shape.head_dim, rel=1e-6)

"""Ways of counting the operations of training, as sources of published results state them.

Each is a function of a model and a sequence length that gives the operations of one token, forward and backward, with
a multiply-add as two. Our own count is that of the workload `train_step`; `megatron` is the nearest to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from perwatt.spec.model import ModelShape

UNKNOWN = "unknown"
RATE = "rate"
GEMM = "gemm"


@dataclass(frozen=True, kw_only=True, slots=True)
class Convention:
    """One way of counting.

    Attributes:
        formula: for people. N parameters, L layers, h heads x head_dim, S tokens of a sequence.
        stated: where it is stated, or why there is none.
        per_token: operations of one token; None where a source prints a rate of operations, or its count is unknown.
    """

    formula: str
    stated: str
    per_token: Callable[[ModelShape, int], float] | None = None


def six_n(shape: ModelShape, seq: int) -> float:
    """All parameters, the input embedding too, and no attention."""
    return 6.0 * shape.parameters


def six_n_causal(shape: ModelShape, seq: int) -> float:
    """All parameters, and half of attention's square."""
    return six_n(shape, seq) + square(shape, seq) / 2


def llm_foundry(shape: ModelShape, seq: int) -> float:
    """All parameters, of which MPT's tied embedding is the output projection, and attention's whole square."""
    return six_n(shape, seq) + square(shape, seq)


def torchtitan(shape: ModelShape, seq: int) -> float:
    """All parameters but the input embedding, norms too, and attention's whole square."""
    embedding = 0 if shape.tied else shape.vocab * shape.hidden
    return 6.0 * (shape.parameters - embedding) + square(shape, seq)


def megatron(shape: ModelShape, seq: int) -> float:
    """Products only, with the experts that a token takes, and half of attention's square."""
    return 6.0 * shape.linear_parameters + square(shape, seq) / 2


def maxtext(shape: ModelShape, seq: int) -> float:
    """Products only, with the experts that a token takes, and attention's whole square."""
    return 6.0 * shape.linear_parameters + square(shape, seq)


def square(shape: ModelShape, seq: int) -> float:
    """Both products of attention for one token that sees the whole sequence, forward and backward."""
    return 12.0 * shape.layers * shape.heads * shape.head_dim * seq


CONVENTIONS = {
    "6n": Convention(formula="6 N", stated="Kaplan et al. 2020, arXiv 2001.08361", per_token=six_n),
    "6n-causal": Convention(
        formula="6 N + 6 L h S", stated="6 N with the pairs that a causal mask leaves", per_token=six_n_causal
    ),
    "llm-foundry": Convention(
        formula="6 N + 12 L h S", stated="llm-foundry, scripts/train/benchmarking/README.md", per_token=llm_foundry
    ),
    "torchtitan": Convention(
        formula="6 (N - input embedding) + 12 L h S", stated="torchtitan, FLOPs of a token of its Llama models",
        per_token=torchtitan,
    ),
    "megatron": Convention(
        formula="6 (N of products met) + 6 L h S", stated="Megatron-LM, count for causal attention", per_token=megatron
    ),
    "maxtext": Convention(
        formula="6 (N of products met) + 12 L h S", stated="MaxText before pull request 1988 of 2025-07",
        per_token=maxtext,
    ),
    GEMM: Convention(formula="2 m n k", stated="one matrix product"),
    RATE: Convention(formula="none", stated="the source prints operations per second; only the peak is at stake"),
    UNKNOWN: Convention(formula="unknown", stated="not stated"),
}  # fmt: skip

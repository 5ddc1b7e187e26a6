"""What autograd keeps of one token from forward to backward, counted tensor by tensor in the order of the model."""

from __future__ import annotations

from perwatt.spec import routing
from perwatt.spec.model import ModelShape
from perwatt.spec.precision import FORMATS, Precision

FP32 = FORMATS["fp32"]


def eager_bytes(shape: ModelShape, precision: Precision, seq: int) -> float:
    """Bytes of a token in all layers, the final norm and the cap on logits, as eager torch keeps them."""
    logits = FORMATS[precision.logits] * shape.vocab if shape.logit_softcap else 0.0
    return token_bytes(shape, FORMATS[precision.activations], FORMATS[precision.norm], seq) + logits


def token_bytes(shape: ModelShape, act: float, inside: float, seq: int) -> float:
    """Bytes of a token in all layers and the final norm.

    Args:
        shape: of the model.
        act: bytes of an activation.
        inside: bytes of a number within norms.
        seq: tokens of a sequence; scores that are written out keep a row of so many.
    """
    norm = _norm(shape, shape.hidden, act, inside)
    after = (
        norm - shape.hidden * act if shape.post_norm else 0.0
    )  # its result is added to the stream, which keeps nothing
    attention = _capped(shape, act, seq) if shape.attention_softcap else _fused(shape, act)
    heads = _head_norms(shape, act, inside) if shape.qk_norm else 0.0
    return shape.layers * (2 * (norm + after) + attention + heads + _feed_forward(shape, act, seq)) + norm


def compiled_bytes(shape: ModelShape, precision: Precision, seq: int) -> float:
    """Bytes of a token in all layers and the final norm, as torch's compiler keeps them.

    It keeps what comes out of products and what goes into them (a normalized row, rotated queries and keys, the
    activated branch), since to compute an operand again would take a kernel of its own; and the stream at every norm.
    What lies between, in whatever format, is computed again within the kernels of the backward pass.
    """
    act = FORMATS[precision.activations]
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    changed = q + kv if shape.positions == "rope" or shape.qk_norm else 0
    scores = shape.heads * seq if shape.attention_softcap else 0
    wide = (3 if shape.gated else 2) * shape.intermediate * (shape.experts_per_token or 1)
    norms = 2 * shape.hidden  # the stream, and its normalized row
    layer = 2 * norms + (q + 2 * kv) + changed + q + scores + wide
    return act * (shape.layers * layer + norms) + FP32 * shape.layers * shape.heads


def _norm(shape: ModelShape, width: int, act: float, inside: float) -> float:
    """Its input in its own format, for RMS norm also the normalized row, and its result for the product after it."""
    return width * ((2 if shape.norm == "rmsnorm" else 1) * inside + act)


def _head_norms(shape: ModelShape, act: float, inside: float) -> float:
    """As :func:`_norm` of queries and keys; their input is in the projection's result unless it is widened."""
    width = (shape.heads + shape.kv_heads) * shape.head_dim
    widened = inside if inside > act else 0.0
    return width * (widened + (inside if shape.norm == "rmsnorm" else 0.0))


def _fused(shape: ModelShape, act: float) -> float:
    """Queries, keys and values as projected, what of them is changed afterwards, the result, a sum for each head."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    changed = q + kv if shape.positions == "rope" or shape.qk_norm else 0
    return act * ((q + 2 * kv) + changed + q) + FP32 * shape.heads


def _capped(shape: ModelShape, act: float, seq: int) -> float:
    """Copies of queries, keys and values, capped scores and shares in float32, shares as multiplied, the result."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    scores = 2 * FP32 + (act if act < FP32 else 0.0)
    return act * (q + 2 * kv + q) + shape.heads * seq * scores


def _feed_forward(shape: ModelShape, act: float, seq: int) -> float:
    """Gate and up, the activated gate, and their product; up and its activation where nothing is gated.

    Experts have that for each of a token's choices and the rows that fill them up, and keep every choice's input and
    result and its share.
    """
    inner = (4 if shape.gated else 2) * shape.intermediate
    if not shape.experts:
        return act * inner
    each = shape.experts_per_token
    rows = shape.experts * routing.capacity(seq, shape.experts, each) / seq
    shares = FP32 + (act if act < FP32 else 0.0)
    return act * (rows * (inner + shape.hidden) + each * shape.hidden) + each * shares

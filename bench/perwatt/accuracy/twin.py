"""The reduced twin of a training step: every flag of the real one, small enough for a float64 reference in no time."""

from __future__ import annotations

import math

from perwatt.spec.model import ModelShape
from perwatt.workloads.function import fan_in
from perwatt.workloads.train_params import TrainStepParams

BATCH, SEQ, VOCAB, LAYERS, HEAD_DIM = 2, 32, 192, 2, 16
MOST_QUERIES = 4  # query heads for each key head; larger groups are cut to this
WIDE_QUERIES = 2  # the same where heads are as wide as the case's
WIDTH_MULTIPLE = 8
MOST_WIDTH = 4.0  # intermediate over hidden, and hidden over all heads together
STRETCH_FROM = 16  # positions: llama3 scaling starts here in the twin, or a short sequence would not show it
WINDOW = 12  # keys, fewer than SEQ
SPARE_POSITIONS = 8  # learned positions beyond the sequence, which must stay as they are
EXPERT_WIDTH = 2.0  # as MOST_WIDTH, of one expert
MOST_EXPERTS, MOST_CHOICES = 3, 2  # experts that do not come out even, so that padded rows are there
CAP = 2.0  # soft caps are at most this, as the twin's scores and logits are about 1


def twin_of(
    params: TrainStepParams, devices: int = 1, head_dim: int = HEAD_DIM, multiple: int = WIDTH_MULTIPLE
) -> TrainStepParams:
    """Parameters of the twin: same optimizer, loss, clipping, formats, and a :func:`shrunk` shape.

    Args:
        params: of the real step.
        devices: that it is spread over; each has as much of the twin as one alone would have.
        head_dim: width of a head; the case's own where its kernels are for such heads.
        multiple: of which the intermediate width is one.
    """
    shape, batch = shrunk(params.shape, head_dim, multiple), BATCH * devices
    fields = {"model": shape.model_dump(mode="json"), "layers": None, "batch": batch, "seq": SEQ}
    fields["grad_accum"] = batch if params.part(devices).grad_accum > 1 else 1
    return TrainStepParams.model_validate(params.model_dump(mode="json") | fields)


def shrunk(shape: ModelShape, head_dim: int = HEAD_DIM, multiple: int = WIDTH_MULTIPLE) -> ModelShape:
    """A small shape of the same kind, in which everything the shape has shows."""
    queries = min(shape.heads // shape.kv_heads, MOST_QUERIES if head_dim <= HEAD_DIM else WIDE_QUERIES)
    even = shape.positions != "alibi" or shape.heads.bit_count() == 1  # other numbers of heads have slopes of two kinds
    kv_heads = min(shape.kv_heads, 2 if even else 3)
    heads = queries * kv_heads
    hidden = _multiple(min(shape.hidden / (shape.heads * shape.head_dim), MOST_WIDTH) * heads * head_dim, 16)
    width = min(shape.intermediate / shape.hidden, EXPERT_WIDTH if shape.experts else MOST_WIDTH) * hidden
    fields = shape.model_dump() | {
        "hidden": hidden,
        "intermediate": _multiple(width, multiple),
        "layers": min(shape.layers, max(LAYERS, shape.window_every + 1)),  # the second layer with a window, too
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "vocab": VOCAB,
        "max_positions": SEQ + SPARE_POSITIONS if shape.max_positions else 0,
        "window": min(shape.window, WINDOW),
        "attention_scale": shape.attention_scale * math.sqrt(shape.head_dim / head_dim),
        "attention_softcap": min(shape.attention_softcap, CAP),
        "logit_softcap": min(shape.logit_softcap, CAP),
        "embedding_scale": hidden ** math.log(shape.embedding_scale, max(shape.hidden, 2)),  # the same power of it
    }
    if shape.rope.kind == "llama3":
        fields["rope"]["original_positions"] = min(shape.rope.original_positions, STRETCH_FROM)
    return ModelShape.model_validate(fields | _few_experts(shape))


def _few_experts(shape: ModelShape) -> dict[str, int]:
    """Fewer to choose from, but still a choice where there was one."""
    each = min(shape.experts_per_token, MOST_CHOICES)
    choice = shape.experts > shape.experts_per_token
    return {"experts": min(shape.experts, MOST_EXPERTS) if choice else each, "experts_per_token": each}


def exponent_of(shape: ModelShape) -> int:
    """Power of two by which the twin's weights are scaled, so that activations are about 1, attention not flat."""
    return fan_in(shape.hidden)


def _multiple(value: float, of: int) -> int:
    return max(of, round(value / of) * of)

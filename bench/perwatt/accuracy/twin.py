"""The reduced twin of a training step: every flag of the real one, small enough for a float64 reference in no time."""

from __future__ import annotations

import math

from perwatt.spec.model import ModelShape
from perwatt.workloads.train_params import TrainStepParams

BATCH, SEQ, VOCAB, LAYERS, HEAD_DIM = 2, 32, 192, 2, 16
MOST_QUERIES = 4  # query heads for each key head; larger groups are cut to this
MOST_WIDTH = 4.0  # intermediate over hidden, and hidden over all heads together
STRETCH_FROM = 16  # positions: llama3 scaling starts here in the twin, or a short sequence would not show it
NORMAL_DEVIATION = 2 / math.sqrt(3)  # of the data recipe `normal`


def twin_of(params: TrainStepParams) -> TrainStepParams:
    """Parameters of the twin: optimizer, loss, clipping, formats, tying, head grouping and rotation are the same."""
    shape = shrunk(params.shape)
    fields = {"model": shape.model_dump(mode="json"), "layers": None, "batch": BATCH, "seq": SEQ}
    fields["grad_accum"] = min(params.grad_accum, BATCH)
    return TrainStepParams.model_validate(params.model_dump(mode="json") | fields)


def shrunk(shape: ModelShape) -> ModelShape:
    """A small shape of the same kind."""
    queries = min(shape.heads // shape.kv_heads, MOST_QUERIES)
    kv_heads = min(shape.kv_heads, 2)
    heads = queries * kv_heads
    hidden = _multiple(min(shape.hidden / (shape.heads * shape.head_dim), MOST_WIDTH) * heads * HEAD_DIM, 16)
    width = min(shape.intermediate / shape.hidden, MOST_WIDTH) * hidden
    small: dict[str, object] = {
        "hidden": hidden,
        "intermediate": _multiple(width, 8),
        "layers": min(shape.layers, LAYERS),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": HEAD_DIM,
        "vocab": VOCAB,
    }
    if shape.rope.kind == "llama3":
        start = min(shape.rope.original_positions, STRETCH_FROM)
        small["rope"] = shape.rope.model_copy(update={"original_positions": start})
    return shape.model_copy(update=small)


def exponent_of(shape: ModelShape) -> int:
    """Power of two by which the twin's weights are scaled, so that activations are about 1, attention not flat."""
    return round(math.log2(shape.hidden**-0.5 / NORMAL_DEVIATION))


def _multiple(value: float, of: int) -> int:
    return max(of, round(value / of) * of)

"""How much memory a training step takes: what autograd keeps, counted tensor by tensor, and what the optimizer keeps.

The counts are those of the eager model: by torch's allocator the peak of a step is within 0.3 % of them (torch 2.13,
CPU, all three policies, tied and untied, in micro-batches), and up to 8 % above with recomputation, by what one layer's
backward pass holds. A process's resident memory grows by up to 30 % more, which is glibc's heap keeping freed blocks.
Compiled code keeps less, by an amount that is the compiler's to choose, so its estimate leaves out what can be computed
again; the allocator's peak was 7 to 27 % above it.
"""

from __future__ import annotations

from dataclasses import dataclass

from perwatt.spec.model import ModelShape
from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads.train_params import TrainStepParams

FP32 = FORMATS["fp32"]
REFERENCE_FACTOR = 2.0  # activations the written-out reference keeps, over those of the eager model in float32
REFERENCE_SCORES = 4.0  # score-sized tensors of an attention layer that it keeps


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """Bytes by kind.

    Attributes:
        weights: parameters, master copies included.
        moments: of the optimizer.
        gradients: of all parameters at the end of the backward pass.
        activations: kept from forward to backward of a micro-batch, weights cast for products included.
        again: of one layer, what is computed anew while its backward pass runs; 0 without recomputation.
        logits: at the start of the backward pass, with the loss in float32.
        table: of a tied embedding, its gradient as a table, and without master weights the sum with that as a head.
        micro_batches: whose gradients are added up.
    """

    weights: float
    moments: float
    gradients: float
    activations: float
    again: float
    logits: float
    table: float
    micro_batches: int = 1

    @property
    def peak(self) -> float:
        """Largest sum over a step: when a backward pass starts, in its first layer, or when its last gradient is there.

        From the second micro-batch on, the gradients of those before are there all the time.
        """
        earlier = self.gradients if self.micro_batches > 1 else 0.0
        within = self.activations + max(self.logits, self.again)
        return self.weights + self.moments + max(earlier + within, self.gradients + self.table)


def footprint(params: TrainStepParams, precision: Precision, compiled: bool = False) -> Footprint:
    """Memory of one training step by formula."""
    shape, tokens = params.shape, params.micro_batch * params.seq
    stored = FORMATS[precision.weights if precision.master_weights == "none" else precision.master_weights]
    cast = FORMATS[precision.weights] if precision.master_weights != "none" else 0.0
    bytes_of = _compiled_bytes if compiled else _eager_bytes
    activations = tokens * bytes_of(shape, precision) + cast * shape.linear_parameters
    again = 0.0
    if params.recompute == "full":
        none = shape.model_copy(update={"layers": 0})
        outside = tokens * bytes_of(none, precision) + cast * shape.hidden * shape.vocab
        again = (activations - outside) / shape.layers
        activations = outside + tokens * shape.layers * shape.hidden * FORMATS[precision.activations]
    return Footprint(
        weights=stored * shape.parameters,
        moments=FORMATS[precision.moments] * moments_of(params.optimizer, shape),
        gradients=stored * shape.parameters,
        activations=activations,
        again=again,
        logits=tokens * shape.vocab * FP32 * (1 if compiled else 3),
        table=(1 if cast else 2) * stored * shape.hidden * shape.vocab if shape.tied else 0.0,
        micro_batches=params.grad_accum,
    )


def moments_of(optimizer: str, shape: ModelShape) -> int:
    """Numbers an optimizer keeps: two for a parameter by AdamW, of which Muon keeps one for the layers' matrices."""
    hidden = shape.linear_parameters - shape.hidden * shape.vocab
    return {"sgd": 0, "adamw": 2 * shape.parameters, "muon": 2 * shape.parameters - hidden}[optimizer]


def reference_bytes(params: TrainStepParams) -> float:
    """What the float32 reference needs beside the weights and moments of the real run, gradients dropped."""
    shape, tokens = params.shape, params.tokens
    scores = FP32 * shape.heads * params.seq * REFERENCE_SCORES
    kept = min(scores * tokens, REFERENCE_SCORES * 2**26) * shape.layers + scores * params.seq
    activations = REFERENCE_FACTOR * tokens * _token_bytes(shape, FP32, FP32)
    return FP32 * 2 * shape.parameters + activations + kept + 4 * FP32 * tokens * shape.vocab


def _eager_bytes(shape: ModelShape, precision: Precision) -> float:
    return _token_bytes(shape, FORMATS[precision.activations], FORMATS[precision.norm])


def _token_bytes(shape: ModelShape, act: float, inside: float) -> float:
    """Bytes that one token keeps in all layers and the final norm, in the order of the model.

    A norm keeps its input and the normalized rows in its own format, the product after it keeps its input. Attention
    keeps queries, keys and values as projected, rotated queries and keys, and its result. The feed-forward layer keeps
    gate and up, the activated gate, and their product.
    """
    norm = shape.hidden * (2 * inside + act)
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = act * ((q + 2 * kv) + (q + kv) + q) + FP32 * shape.heads
    return shape.layers * (2 * norm + attention + 4 * shape.intermediate * act) + norm


def _compiled_bytes(shape: ModelShape, precision: Precision) -> float:
    """As :func:`_token_bytes`, without what compilers compute again: normalized rows, activated gates, casts."""
    act = FORMATS[precision.activations]
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return shape.layers * act * (2 * shape.hidden + (q + 2 * kv) + q + 2 * shape.intermediate)

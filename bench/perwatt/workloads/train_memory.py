"""How much memory a training step takes: what autograd keeps, counted tensor by tensor, and what the optimizer keeps.

The counts are those of the eager model: by torch's allocator the peak of a step is within 0.1 % of them (torch 2.13,
CPU, all three policies, Llama-style models tied and untied), and what autograd keeps is within 2 % for every family. A
process's resident memory grows by up to 30 % more, which is glibc's heap keeping freed blocks. Compiled code keeps
less, by an amount that is the compiler's to choose, so its estimate leaves out what can be computed again; the
allocator's peak was 7 to 27 % above it.
"""

from __future__ import annotations

from dataclasses import dataclass

from perwatt.spec.model import ModelShape
from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads.train_activations import compiled_bytes, eager_bytes, token_bytes
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
        activations: kept from forward to backward in all layers, weights cast for products included.
        logits: at the start of the backward pass, with the loss in float32.
        masks: that are added to scores, one for all layers of a kind.
        table: of a tied embedding, its gradient as a table, and without master weights the sum with that as a head.
    """

    weights: float
    moments: float
    gradients: float
    activations: float
    logits: float
    masks: float
    table: float

    @property
    def peak(self) -> float:
        """Largest sum over a step: when the backward pass starts, or when its last gradient is there."""
        starting = self.activations + self.logits
        return self.weights + self.moments + self.masks + max(starting, self.gradients + self.table)


def footprint(params: TrainStepParams, precision: Precision, compiled: bool = False) -> Footprint:
    """Memory of one training step by formula."""
    shape = params.shape
    stored = FORMATS[precision.weights if precision.master_weights == "none" else precision.master_weights]
    kept_moments = 2 if params.optimizer == "adamw" else 0
    used = FORMATS[precision.activations]  # a weight in another format than products want is cast, and the copy kept
    cast = used if used < stored else 0.0
    per_token = (compiled_bytes if compiled else eager_bytes)(shape, precision, params.seq)
    return Footprint(
        weights=stored * shape.parameters,
        moments=kept_moments * FORMATS[precision.moments] * shape.parameters,
        gradients=stored * shape.parameters,
        activations=params.tokens * per_token + cast * shape.product_parameters,
        logits=params.tokens * shape.vocab * FP32 * (1 if compiled else 3),
        masks=FORMATS[precision.activations] * _masks(shape, params.seq),
        table=(1 if cast else 2) * stored * shape.hidden * shape.vocab if shape.tied else 0.0,
    )


def reference_bytes(params: TrainStepParams) -> float:
    """What the float32 reference needs beside the weights and moments of the real run, gradients dropped."""
    shape, tokens = params.shape, params.tokens
    scores = FP32 * shape.heads * params.seq * REFERENCE_SCORES
    kept = min(scores * tokens, REFERENCE_SCORES * 2**26) * shape.layers + scores * params.seq
    activations = REFERENCE_FACTOR * tokens * token_bytes(shape, FP32, FP32, params.seq)
    return FP32 * 2 * shape.parameters + activations + kept + 4 * FP32 * tokens * shape.vocab


def _masks(shape: ModelShape, seq: int) -> int:
    """Numbers in the masks of :class:`~perwatt.models.places.Places`."""
    whole = shape.positions == "alibi" or shape.attention_softcap > 0
    near = 0 < shape.window < seq
    return (whole + near) * (shape.heads if shape.positions == "alibi" else 1) * seq**2

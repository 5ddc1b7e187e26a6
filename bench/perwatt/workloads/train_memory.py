"""How much memory a training step takes: what autograd keeps, counted tensor by tensor, and what the optimizer keeps.

The counts are those of the eager model: by torch's allocator the peak of a step is within 0.3 % of them (torch 2.13,
CPU, all three policies, Llama-style models tied and untied, in micro-batches), and up to 8 % above with recomputation,
by what one layer's backward pass holds. What autograd keeps is within 2 % for every family. A process's resident memory
grows by up to 30 % more, which is glibc's heap keeping freed blocks. Compiled code keeps less, see
:func:`~.train_activations.compiled_bytes`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from perwatt.models import chunked_loss
from perwatt.spec.model import ModelShape
from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads.train_activations import compiled_bytes, eager_bytes, token_bytes
from perwatt.workloads.train_params import TrainStepParams

FP32 = FORMATS["fp32"]
QUANTIZING = 2  # copies in float32 of an operand that is quantized: divided by its scale, and kept within its format
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
        again: of one layer, what is computed anew while its backward pass runs, and what is made of an operand on its
            way to 8 bits; 0 without either.
        logits: at the start of the backward pass, with the loss in float32; in chunks, some rows of them and the
            gradients that are taken at once.
        masks: that are added to scores, one for all layers of a kind.
        table: of a tied embedding, its gradient as a table, and without master weights the sum with that as a head.
        micro_batches: whose gradients are added up.
    """

    weights: float
    moments: float
    gradients: float
    activations: float
    again: float
    logits: float
    masks: float
    table: float
    micro_batches: int = 1

    @property
    def peak(self) -> float:
        """Largest sum over a step: when a backward pass starts, in its first layer, or when its last gradient is there.

        From the second micro-batch on, the gradients of those before are there all the time.
        """
        earlier = self.gradients if self.micro_batches > 1 else 0.0
        within = self.activations + max(self.logits, self.again)
        return self.weights + self.moments + self.masks + max(earlier + within, self.gradients + self.table)


def footprint(
    params: TrainStepParams, precision: Precision, compiled: bool = False, devices: int = 1, parallel: str = "",
    chunked: bool = False,
) -> Footprint:  # fmt: skip
    """Memory of one training step by formula.

    Args:
        params: of the whole step.
        precision: policy.
        compiled: whether forward and loss are.
        devices: that it is spread over; the result is of each.
        parallel: how. With ``fsdp`` a device has its share of the state, and the whole of what is outside the layers.
        chunked: whether the loss is taken in chunks.
    """
    alone = _alone(params.part(devices), precision, compiled)
    if chunked:
        alone = replace(alone, logits=_chunked_bytes(params.part(devices), precision))
    if parallel != "fsdp" or devices == 1:
        return alone
    outside = FORMATS[precision.stored] * params.shape.model_copy(update={"layers": 0}).parameters
    return replace(
        alone,
        weights=alone.weights / devices + outside,
        moments=alone.moments / devices,
        gradients=alone.gradients / devices,
    )


def _alone(params: TrainStepParams, precision: Precision, compiled: bool) -> Footprint:
    shape, tokens = params.shape, params.micro_batch * params.seq
    stored = FORMATS[precision.stored]
    used = FORMATS[precision.activations]  # a weight in another format than products want is cast, and the copy kept
    cast = used if used < stored else 0.0
    bytes_of = compiled_bytes if compiled else eager_bytes
    activations = tokens * bytes_of(shape, precision, params.seq) + cast * shape.product_parameters
    again = 0.0
    if params.recompute == "full":
        none = shape.model_copy(update={"layers": 0})
        outside = tokens * bytes_of(none, precision, params.seq) + cast * none.product_parameters
        again = (activations - outside) / shape.layers
        activations = outside + tokens * shape.layers * shape.hidden * FORMATS[precision.activations]
    if precision.scaling != "none":
        again += QUANTIZING * FP32 * _widest(shape, tokens)
    return Footprint(
        weights=stored * shape.parameters,
        moments=FORMATS[precision.moments] * moments_of(params.optimizer, shape),
        gradients=stored * shape.parameters,
        activations=activations,
        again=again,
        logits=_logits_bytes(params, precision, compiled),
        masks=FORMATS[precision.activations] * _masks(shape, params.seq),
        table=(1 if cast else 2) * stored * shape.hidden * shape.vocab if shape.tied else 0.0,
        micro_batches=params.grad_accum,
    )


def _widest(shape: ModelShape, tokens: int) -> int:
    """Numbers of the largest operand of a linear layer: a gradient of all tokens, or a weight."""
    branches = (2 if shape.gated else 1) * shape.intermediate
    projections = shape.head_dim * (shape.heads + 2 * shape.kv_heads)
    return max(branches, projections) * max(tokens, shape.hidden)


def _logits_bytes(params: TrainStepParams, precision: Precision, compiled: bool) -> float:
    """What there is of logits when the backward pass starts.

    Eager: logits in float32, their softmax and its gradient. Compiled: logits, whose gradient takes their place, and
    what follows from it while it is there. That is the output projection's gradient; the compiler puts off that of a
    tied embedding until it can be added to the table's, so that the last layer's branches have theirs first.
    """
    shape, tokens = params.shape, params.micro_batch * params.seq
    if not compiled:
        return 3 * FP32 * tokens * shape.vocab
    logits = FORMATS[precision.logits if params.logits == "policy" else params.logits]
    used = FORMATS[precision.activations]
    follows = used * shape.hidden * shape.vocab
    if shape.tied and used == FORMATS[precision.stored]:
        follows = max(follows, used * tokens * (2 if shape.gated else 1) * shape.intermediate)
    return logits * tokens * shape.vocab + follows


def _chunked_bytes(params: TrainStepParams, precision: Precision) -> float:
    """What a loss in chunks has when the backward pass starts, or just before: a group's logits, and both gradients."""
    shape, tokens = params.shape, params.micro_batch * params.seq
    stored = FORMATS[precision.stored]
    extents = tokens, shape.hidden, shape.vocab
    work = chunked_loss.working(*extents, precision.activations, wider=stored > FORMATS[precision.activations])
    return work + FORMATS[precision.stream] * tokens * shape.hidden + stored * shape.hidden * shape.vocab


def moments_of(optimizer: str, shape: ModelShape) -> int:
    """Numbers an optimizer keeps: two for a parameter by AdamW, of which Muon keeps one for the layers' matrices."""
    hidden = shape.product_parameters - shape.hidden * shape.vocab
    return {"sgd": 0, "adamw": 2 * shape.parameters, "muon": 2 * shape.parameters - hidden}[optimizer]


def reference_bytes(params: TrainStepParams) -> float:
    """What the float32 reference needs beside the weights and moments of the real run, gradients dropped.

    It goes sequence by sequence, with a copy of the weights, the gradients so far and those of the sequence.
    """
    shape, tokens = params.shape, params.seq
    scores = FP32 * shape.heads * params.seq * REFERENCE_SCORES
    kept = min(scores * tokens, REFERENCE_SCORES * 2**26) * shape.layers + scores * params.seq
    activations = REFERENCE_FACTOR * tokens * token_bytes(shape, FP32, FP32, params.seq)
    return FP32 * 3 * shape.parameters + activations + kept + 4 * FP32 * tokens * shape.vocab


def _masks(shape: ModelShape, seq: int) -> int:
    """Numbers in the masks of :class:`~perwatt.models.places.Places`."""
    whole = shape.positions == "alibi" or shape.attention_softcap > 0
    near = 0 < shape.window < seq
    return (whole + near) * (shape.heads if shape.positions == "alibi" else 1) * seq**2

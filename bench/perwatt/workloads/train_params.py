"""Parameters of a training step, and how they stand in the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field

from perwatt.errors import InputError
from perwatt.spec.precision import Precision
from perwatt.workloads.model_params import ModelParams
from perwatt.workloads.optimizer_params import Format, OptimizerParams

FP16_SCALE = 2.0**12  # gradients of a mean loss, of norms about 1 to 10, come to within fp16's 65504 and 6e-8
ARRANGEMENT = ("grad_accum", "recompute")  # how a step is cut up, which is not in the work


class TrainStepParams(ModelParams, OptimizerParams):
    """Parameters of a training step. Gradients are clipped at 1, as in the papers of the optimizer's defaults.

    Attributes:
        batch: sequences in a step.
        seq: tokens of a sequence.
        grad_accum: micro-batches that a step adds up the gradients of, each of ``batch / grad_accum`` sequences.
        recompute: ``full`` keeps the inputs of layers only and computes the layers again in the backward pass.
        clip: largest global norm of the gradients; 0 does not clip.
        loss_reduction: over the tokens that count.
        ignore_index: label that adds nothing to the loss.
        dropout: probability; only 0 can be measured so far.
        logits: number format of the logits; ``policy`` takes it from the precision policy.
        accumulate: accumulation contract of products.
    """

    batch: int = Field(ge=1, le=2**20)
    seq: int = Field(ge=1, le=2**24)
    grad_accum: int = Field(default=1, ge=1, le=2**20)
    recompute: Literal["none", "full"] = "none"
    clip: float = Field(default=1.0, ge=0, le=1e12)
    loss_reduction: Literal["mean", "sum"] = "mean"
    ignore_index: int = Field(default=-100, ge=-(2**31), le=2**31)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    logits: Format = "policy"
    accumulate: Format = "policy"

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.batch * self.seq

    @property
    def micro_batch(self) -> int:
        """Sequences that go through the model at once."""
        return self.batch // self.grad_accum

    def part(self, devices: int) -> Self:
        """What one of several devices does of a step: its sequences, and no larger micro-batches than before.

        Args:
            devices: a divisor of ``batch``, that divides ``batch``.
        """
        own = self.batch // devices
        micro = next(size for size in range(min(self.micro_batch, own), 0, -1) if own % size == 0)
        return self.model_copy(update={"batch": own, "grad_accum": own // micro})

    def loss_scale(self, precision: Precision) -> float:
        """What the loss is multiplied by before the backward pass, and its gradients divided by after it.

        In fp16 the gradient of a mean over many tokens would be below the smallest number; that of a sum is not.
        """
        return FP16_SCALE if precision.activations == "fp16" and self.loss_reduction == "mean" else 1.0

    def refuse_uneven(self) -> None:
        """Refuse micro-batches of different sizes.

        Raises:
            InputError: ``grad_accum`` does not divide ``batch``.
        """
        if self.batch % self.grad_accum:
            message = f"found {self.grad_accum}, expected a divisor of batch {self.batch}"
            raise InputError(message, field="params.grad_accum")

    def work(self, precision: Precision) -> dict[str, Any]:
        """The parameters as they stand in the work: the shape for the model, one spelling for equal mathematics."""
        fields = self.model_dump(
            mode="json", exclude={*ARRANGEMENT, *ModelParams.model_fields, *OptimizerParams.model_fields}
        )
        fields["model"] = self.shape.at(self.seq).model_dump(mode="json")
        own: Mapping[str, str] = {"logits": precision.logits, "accumulate": precision.accumulate}
        fields |= {name: "policy" for name, value in own.items() if fields[name] == value}
        if precision.activations == "fp16":
            fields["loss_scale"] = self.loss_scale(precision)
        return fields | self.optimizer_work(precision.moments)

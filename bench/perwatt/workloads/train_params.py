"""Parameters of a training step, and how they stand in the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from perwatt.spec.precision import Precision
from perwatt.workloads.model_params import ModelParams
from perwatt.workloads.optimizer_params import Format, OptimizerParams


class TrainStepParams(ModelParams, OptimizerParams):
    """Parameters of a training step. Gradients are clipped at 1, as in the papers of the optimizer's defaults.

    Attributes:
        batch: sequences in a step.
        seq: tokens of a sequence.
        clip: largest global norm of the gradients; 0 does not clip.
        ignore_index: label that adds nothing to the loss.
        dropout: probability; only 0 can be measured so far.
        logits: number format of the logits; ``policy`` takes it from the precision policy.
        accumulate: accumulation contract of products.
    """

    batch: int = Field(ge=1, le=2**20)
    seq: int = Field(ge=1, le=2**24)
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

    def work(self, precision: Precision) -> dict[str, Any]:
        """The parameters as they stand in the work: the shape for the model, one spelling for equal mathematics."""
        fields = self.model_dump(mode="json", exclude={"model", "layers", *OptimizerParams.model_fields})
        fields["model"] = self.shape.model_dump(mode="json")
        own: Mapping[str, str] = {"logits": precision.logits, "accumulate": precision.accumulate}
        fields |= {name: "policy" for name, value in own.items() if fields[name] == value}
        return fields | self.optimizer_work(precision.moments)

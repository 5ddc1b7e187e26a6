"""Cross entropy of given logits, mean over the tokens.

Stands for: the loss at the end of a training step, whose logits are its widest activation.
Formula: mean over tokens of log(sum_v exp(z_v)) - z_label, in float32.
FLOPs: not counted; a rate of operations would say nothing of a chip here.
Bytes: the forward reads the logits [tokens, vocab] and the labels; the backward reads both again and writes the
gradient of the logits. A float32 copy of the logits, which the framework makes, is not compulsory and not counted.
Gate: loss and gradient against float64, at most twice the error of the same formula in the policy's formats.
Leaves out: ignored labels, label smoothing and the z-loss; `train_step` has the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads.base import Counts
from perwatt.workloads.function import FunctionWorkload, Operand, by_pass, indices, scalar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from perwatt.accuracy.reference_parts import Arithmetic
    from perwatt.spec.case import Case

LABEL_BYTES = 8


class CrossEntropyParams(BaseModel):
    """Parameters of a loss.

    Attributes:
        tokens: rows of logits.
        vocab: width of a row, as padded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tokens: int = Field(ge=1, le=2**31)
    vocab: int = Field(ge=1, le=2**24)


class CrossEntropy(FunctionWorkload):
    """See the module."""

    name = "cross_entropy"
    summary = "mean cross entropy of given logits"
    Params = CrossEntropyParams

    def label(self, params: CrossEntropyParams) -> str:
        """``8192x128256``."""
        return f"{params.tokens}x{params.vocab}"

    def counts(self, params: CrossEntropyParams, pass_: str, precision: Precision) -> Counts:
        """See the module."""
        logits = params.tokens * params.vocab * FORMATS[precision.logits]
        labels = params.tokens * LABEL_BYTES
        return Counts(bytes=by_pass(logits + labels, 2 * logits + labels)[pass_])

    def memory(self, case: Case, devices: int = 1) -> float:
        """As declared, and the logits in float32, with a backward their gradient in it too."""
        params: CrossEntropyParams = case.params  # type: ignore[assignment]
        return super().memory(case) + 4.0 * params.tokens * params.vocab * (2 if case.grad else 1)

    def operands(self, params: CrossEntropyParams, precision: Precision) -> Sequence[Operand]:
        """Logits and labels."""
        logits = Operand(name="logits", shape=(params.tokens, params.vocab), format=precision.logits, rows=True)
        return logits, indices("labels", params.tokens, params.vocab)

    def result(self, params: CrossEntropyParams, precision: Precision) -> Operand:
        """The loss."""
        return scalar("dloss")

    def plain(self, params: CrossEntropyParams, precision: Precision, device: torch.device) -> Callable[..., Tensor]:
        """The framework's own on float32 logits, as models call it."""
        from torch.nn import functional as F

        def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(logits.float(), labels)

        return cross_entropy

    def written(self, params: CrossEntropyParams, arithmetic: Arithmetic) -> Callable[..., Tensor]:
        """See the module."""
        return lambda logits, labels: summed_loss(logits.to(arithmetic.inside), labels) / params.tokens


def summed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over rows of logits [rows, vocab] of the cross entropy with labels [rows], from its definition."""
    top = logits.amax(dim=-1, keepdim=True).detach()
    log_sums = (logits - top).exp().sum(dim=-1).log() + top.squeeze(-1)
    return (log_sums - logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)).sum()


WORKLOAD = CrossEntropy()

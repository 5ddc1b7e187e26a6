"""A model and the optimizer over it: what of them can be looked at by the name of a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from perwatt.models.optimizers import moments

if TYPE_CHECKING:
    from perwatt.models.decoder import Decoder
    from perwatt.models.optimizers import AnyOptimizer


class Trained:
    """A model with its optimizer.

    Attributes:
        model: whose parameters are updated.
        optimizer: what updates them.
    """

    model: Decoder
    optimizer: AnyOptimizer

    def weights(self) -> dict[str, Tensor]:
        """Every weight by name, as views of what is trained."""
        return {name: t for name, t in self.model.tensors(lambda p: p.detach()).items() if t is not None}

    def gradients(self) -> dict[str, Tensor | None]:
        """Gradients by weight, as views; None where there is none."""
        return self.model.tensors(lambda p: p.grad)

    def moments(self, which: str) -> dict[str, Tensor]:
        """``first`` or ``second`` moments by weight, as views; none before the first step, and none for SGD."""
        return moments(self.optimizer, self.model, which)

    @property
    def lr(self) -> float:
        """The constant learning rate."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

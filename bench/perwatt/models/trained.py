"""A model and the optimizer over it: what of them can be looked at by the name of a weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from perwatt.models.optimizers import moments
from perwatt.models.spread import Alone

if TYPE_CHECKING:
    from perwatt.models.decoder import Decoder
    from perwatt.models.optimizers import AnyOptimizer


class Trained:
    """A model with its optimizer.

    Attributes:
        model: whose parameters are updated.
        optimizer: what updates them.
        spread: over ranks. Where it is, what is looked at is gathered from all of them, which all have to ask for.
    """

    model: Decoder
    optimizer: AnyOptimizer
    spread: Alone = Alone()

    def weights(self) -> dict[str, Tensor]:
        """Every weight by name, as views of what is trained where it is not spread."""
        return dict(self.each_weight())

    def gradients(self) -> dict[str, Tensor | None]:
        """Gradients by weight, likewise; None where there is none."""
        return dict(self.each_gradient())

    def moments(self, which: str) -> dict[str, Tensor]:
        """``first`` or ``second`` moments by weight, likewise; none before the first step, and none for SGD."""
        return dict(self.each_moment(which))

    def each_weight(self) -> Iterator[tuple[str, Tensor]]:
        """As :meth:`weights`, one after the other."""
        weights = self.model.each(lambda p: self.spread.whole(p.detach()))
        return ((name, weight) for name, weight in weights if weight is not None)

    def each_gradient(self) -> Iterator[tuple[str, Tensor | None]]:
        """As :meth:`gradients`, one after the other."""
        return self.model.each(lambda p: None if p.grad is None else self.spread.whole(p.grad))

    def each_moment(self, which: str) -> Iterator[tuple[str, Tensor]]:
        """As :meth:`moments`, one after the other."""
        return moments(self.optimizer, self.model, which, self.spread.whole)

    @property
    def lr(self) -> float:
        """The constant learning rate."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

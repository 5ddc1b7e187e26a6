"""Which kernels a model's layers call: the framework's own, unless others are given.

A model asks once, when it is made, for the function of each of its places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from perwatt.models.weights import linear

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Linear = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernels:
    """Functions of a model's layers. The output projection is no layer's: it belongs to the loss.

    Attributes:
        attention: of layers whose queries see at most so many keys, 0 for all before them; takes queries, keys and
            values, each [batch, heads, seq, head_dim]. None where the model's own is taken.
        linear: of layers with so many outputs and inputs, with a bias or not; takes input, weight and bias in one
            format. None where the model's own is taken.
    """

    attention: Callable[[int], Attend] | None = None
    linear: Callable[[int, int, bool], Linear] | None = None

    def product(self, weight: Tensor, bias: Tensor | None) -> Linear:
        """What multiplies with a weight [out, in]: takes input, weight and bias as they are stored."""
        if self.linear is None:
            return linear
        outputs, inputs = weight.shape
        kernel = self.linear(outputs, inputs, bias is not None)

        def cast(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            return kernel(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))

        return cast


FRAMEWORK = Kernels()

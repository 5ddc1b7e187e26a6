"""What a precision policy means for a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from perwatt.spec.precision import Precision
from perwatt_kernels.dtypes import dtype


@dataclass(frozen=True, kw_only=True, slots=True)
class Formats:
    """Number formats.

    Attributes:
        storage: of the parameters that the optimizer updates, and of their gradients.
        products: of the operands of products.
        compute: that the model casts to: that of products, or that of the weights where autocast does the casting.
        logits: of the result; not wider than ``compute``.
    """

    storage: torch.dtype
    products: torch.dtype
    compute: torch.dtype
    logits: torch.dtype

    @classmethod
    def of(cls, precision: Precision, logits: str = "policy") -> Formats:
        """The formats of a policy; ``logits`` other than ``policy`` replaces the policy's own."""
        final = precision.logits if logits == "policy" else logits
        return cls(
            storage=dtype(precision.stored),
            products=dtype(precision.activations),
            compute=dtype(precision.stream),
            logits=dtype(final),
        )

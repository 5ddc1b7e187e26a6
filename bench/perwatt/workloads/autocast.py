"""Running a function as a training step under autocast runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perwatt.backends.base import Backend
    from perwatt.spec.precision import Precision


def cast(function: Callable[..., Any], precision: Precision, backend: Backend) -> Callable[..., Any]:
    """A function under autocast where the policy says so, else the same one.

    Autocast is entered at every call, as at every step: casts of weights are work, and none outlives a call.
    """
    if precision.casts != "autocast":
        return function
    import torch

    kind = backend.device.type

    def under_autocast(*operands: Any) -> Any:
        with torch.autocast(kind, torch.bfloat16):
            return function(*operands)

    return under_autocast

"""Operands of a linear layer: refusing wrong ones, and calling a library's module with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perwatt_kernels import arguments

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    Linear = Callable[..., Tensor]


def check(x: Tensor, w: Tensor, bias: Tensor | None, *formats: torch.dtype) -> None:
    """Refuse operands that do not fit each other.

    Args:
        x: [..., k].
        w: [n, k].
        bias: [n].
        formats: that ``x`` may have; the others have the same.

    Raises:
        ValueError: one has a wrong shape or format, or is elsewhere than ``x``.
    """
    if x.dim() < 1:
        raise arguments.refuse("x", "shape []", "[..., k]")
    arguments.of_dtype("x", x, *formats)
    arguments.of_shape("w", w, (None, x.shape[-1]))
    others = {"w": w} if bias is None else {"w": w, "bias": bias}
    for name, tensor in others.items():
        arguments.of_dtype(name, tensor, x.dtype)
        arguments.on(name, tensor, x.device)
    if bias is not None:
        arguments.of_shape("bias", bias, (w.shape[0],))


def through(module: nn.Module, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """A module's call with parameters of the caller's in place of its own, which get the gradients."""
    from torch.func import functional_call

    parameters = {"weight": w} if bias is None else {"weight": w, "bias": bias}
    result: Tensor = functional_call(module, parameters, (x,))
    return result

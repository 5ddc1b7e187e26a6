"""The product in NKI as an operation of torch, ``perwatt::nki_matmul``, and its derivatives by the same kernel."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from perwatt_kernels.matmul.nki_kernel import matmul as kernel
from perwatt_kernels.nki_torch.ops import launcher, operation
from perwatt_kernels.nki_torch.site import Site

Product = Callable[[Tensor, Tensor, bool, bool], Tensor]


@cache
def product(site: Site) -> Product:
    """``product(left, right, left_turned, right_turned)`` of contiguous matrices: see the kernel.

    Differentiable where both are turned, as in the forward of a linear layer, ``x [m, k]`` and ``w [n, k]``.
    """
    launched = launcher(kernel, site)

    def nki_matmul(left: Tensor, right: Tensor, left_turned: bool, right_turned: bool) -> Tensor:
        found: Tensor = launched(left, right, left_turned, right_turned)
        return found

    def shape(left: Tensor, right: Tensor, left_turned: bool, right_turned: bool) -> Tensor:
        return torch.empty(
            left.shape[0 if left_turned else 1], right.shape[0 if right_turned else 1],
            dtype=left.dtype, device=left.device,
        )  # fmt: skip

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        left, right, left_turned, right_turned = inputs
        ctx.of_linear = left_turned and right_turned
        ctx.save_for_backward(left, right)

    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        if not ctx.of_linear:
            raise NotImplementedError("only the forward product of a linear layer has a backward")
        x, w = ctx.saved_tensors
        incoming = incoming.contiguous()
        dx = times(incoming, w, True, False) if ctx.needs_input_grad[0] else None
        dw = times(incoming, x, False, False) if ctx.needs_input_grad[1] else None
        return dx, dw, None, None

    times: Product = operation(site, "nki_matmul", nki_matmul, shape, backward, keep)
    return times

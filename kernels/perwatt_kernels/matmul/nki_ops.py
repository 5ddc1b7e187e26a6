"""Products in NKI as operations of torch: ``perwatt::nki_matmul`` with its derivatives, and those of 8-bit operands.

Elements of e4m3 go to kernels as bytes. Trainium2's compiler refuses e4m3fn wherever a program has it (error
NCC_EVRF051), and torch has no other dtype for it; kernels view them as the e4m3 of their generation, in HBM.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from perwatt_kernels.matmul.nki_fp8_kernel import matmul_fp8
from perwatt_kernels.matmul.nki_kernel import matmul as kernel
from perwatt_kernels.matmul.nki_mx_kernel import matmul_mx_quantized
from perwatt_kernels.nki_torch.ops import launcher, operation
from perwatt_kernels.nki_torch.site import Site

Product = Callable[[Tensor, Tensor, bool, bool], Tensor]
Scaled = Callable[[Tensor, Tensor, Tensor, Tensor, bool, bool, bool], Tensor]


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


@cache
def scaled(site: Site, blocks: bool) -> Scaled:
    """``product(left, right, left_scale, right_scale, left_turned, right_turned, wide)`` of 8-bit matrices.

    Args:
        site: where it runs.
        blocks: whether scales are exponents for each 32 elements, else float32 by tensor or by row; see the kernels.
    """
    launched = launcher(matmul_mx_quantized if blocks else matmul_fp8, site)

    def narrow(
        left: Tensor, right: Tensor, left_scale: Tensor, right_scale: Tensor, left_turned: bool, right_turned: bool,
        wide: bool,
    ) -> Tensor:  # fmt: skip
        found: Tensor = launched(left, right, left_scale, right_scale, left_turned, right_turned, wide)
        return found

    def shape(
        left: Tensor, right: Tensor, left_scale: Tensor, right_scale: Tensor, left_turned: bool, right_turned: bool,
        wide: bool,
    ) -> Tensor:  # fmt: skip
        return torch.empty(
            left.shape[0 if left_turned else 1], right.shape[0 if right_turned else 1],
            dtype=torch.float32 if wide else torch.bfloat16, device=left.device,
        )  # fmt: skip

    return operation(site, "nki_matmul_mx" if blocks else "nki_matmul_fp8", narrow, shape)


def scaled_as_they_lie(
    site: Site, wide: bool, blocks: bool = False
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """``product(a, b, scale_a, scale_b)`` of [m, k] and [k, n] in whatever order they are stored.

    Args:
        site: where it runs.
        wide: whether the result is float32.
        blocks: whether each 32 elements along the depth have a scale, a power of two in float32.
    """
    product = scaled(site, blocks)

    def times(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor) -> Tensor:
        a, b = _bytes(a), _bytes(b)
        if blocks:
            scale_a, scale_b = exponents(scale_a).mT, exponents(scale_b)
        left_turned, right_turned = not a.mT.is_contiguous(), b.mT.is_contiguous()
        left = (a if left_turned else a.mT).contiguous()
        right = (b.mT if right_turned else b).contiguous()
        return product(left, right, scale_a.contiguous(), scale_b.contiguous(), left_turned, right_turned, wide)

    return times


def exponents(scale: Tensor) -> Tensor:
    """Powers of two as OCP's E8M0: the exponent field of a float32, which has the same bias of 127."""
    return (scale.view(torch.int32) >> 23).to(torch.uint8)


def _bytes(x: Tensor) -> Tensor:
    """Elements of e4m3 as bytes, those of e5m2 as they are."""
    return x.view(torch.uint8) if x.dtype == torch.float8_e4m3fn else x

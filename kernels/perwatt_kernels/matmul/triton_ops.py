"""Products in Triton as operations of torch: ``perwatt::triton_matmul`` with its derivatives, and one of 8 bits.

Gradients are products of the same kernel on views: nothing is transposed in memory. An operand that lies by columns
gets a gradient that does, so that accumulating it copies nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from perwatt_kernels.matmul.triton_launch import Call, multiply


@custom_op("perwatt::triton_matmul", mutates_args=())
def product(
    a: Tensor, b: Tensor, bias: Tensor | None, output: torch.dtype, compute: str, after: str
) -> Tensor:  # fmt: skip
    """``after(a b + bias)``: see :class:`~perwatt_kernels.matmul.triton_launch.Call`."""
    return multiply(Call(a=a, b=b, output=output, compute=compute, bias=bias, after=after))


@product.register_fake
def _(a: Tensor, b: Tensor, bias: Tensor | None, output: torch.dtype, compute: str, after: str) -> Tensor:
    columns = b.shape[-1] // 2 if after == "swiglu" else b.shape[-1]
    return a.new_empty((*a.shape[:-1], columns), dtype=output)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, bias, _, ctx.compute, ctx.after = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(a, b, *(() if bias is None or ctx.after != "swiglu" else (bias,)))


def _backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None]:
    if ctx.after == "gelu_tanh":
        raise NotImplementedError("the product in Triton with gelu_tanh has no backward: apply it to a plain product")
    a, b, *bias = ctx.saved_tensors
    if ctx.after == "swiglu":
        incoming = _through_swiglu(incoming, product(a, b, *(bias or [None]), torch.float32, ctx.compute, "none"))
    wide, incoming = incoming, incoming.to(a.dtype)
    da = _laid(a, incoming, b.mT, ctx.compute) if ctx.needs_input_grad[0] else None
    db = _laid(b, a.mT, incoming, ctx.compute) if ctx.needs_input_grad[1] else None
    dbias = None
    if ctx.needs_input_grad[2]:
        dbias = wide.flatten(0, -2).sum(0, dtype=torch.float32).to(ctx.bias_dtype)
    return da, db, dbias, None, None, None


def _laid(like: Tensor, left: Tensor, right: Tensor, compute: str) -> Tensor:
    """``left right`` in the format of an operand, and stored as that is."""
    by_columns = like.stride(-2) == 1 and like.stride(-1) != 1
    pair = (right.mT, left.mT) if by_columns else (left, right)
    found: Tensor = product(*pair, None, like.dtype, compute, "none")
    return found.mT if by_columns else found


def _through_swiglu(incoming: Tensor, pairs: Tensor) -> Tensor:
    """The gradient of gates and ups, by turns, of ``silu(gate) up``."""
    gate, up = pairs.unflatten(-1, (-1, 2)).unbind(-1)
    chance = gate.sigmoid()
    wide = incoming.float()
    return torch.stack((wide * up * chance * (1 + gate * (1 - chance)), wide * gate * chance), -1).flatten(-2)


product.register_autograd(_backward, setup_context=_keep)


@custom_op("perwatt::triton_scaled_matmul", mutates_args=())
def scaled_product(
    a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, output: torch.dtype, fast: bool
) -> Tensor:  # fmt: skip
    """``scale_a scale_b (a b)`` of 8-bit operands.

    Units of 8-bit products read both operands along the depth, so one that lies otherwise is copied.
    """
    a, b = _along(a, -1), _along(b, -2)
    scales = scale_a.contiguous(), scale_b.contiguous()
    return multiply(Call(a=a, b=b, output=output, compute="fp8", scales=scales, fast=fast))


@scaled_product.register_fake
def _(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, output: torch.dtype, fast: bool) -> Tensor:
    return a.new_empty((*a.shape[:-1], b.shape[-1]), dtype=output)


def _along(x: Tensor, depth: int) -> Tensor:
    if x.stride(depth) == 1:
        return x
    return x.contiguous() if depth == -1 else x.mT.contiguous().mT

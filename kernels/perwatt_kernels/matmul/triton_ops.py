"""Products in Triton as operations of torch: ``perwatt::triton_matmul`` with its derivatives, and one of 8 bits.

Gradients are products of the same kernel on views: nothing is transposed in memory. An operand that lies by columns
gets a gradient that does, so that accumulating it copies nothing.

An operation costs the host tens of microseconds, as long as a small product takes on an H100, and only a compiler has
use of it. So tensors that are in no compiler's hands are launched on without one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from perwatt_kernels.matmul.triton_call import Call
from perwatt_kernels.matmul.triton_launch import multiply

PLAIN = (Tensor, torch.nn.Parameter)


def plain(*tensors: Tensor) -> bool:
    """Whether these are tensors themselves, not what a compiler traces with."""
    return not torch.compiler.is_compiling() and all(type(tensor) in PLAIN for tensor in tensors)


def times(
    a: Tensor, b: Tensor, bias: Tensor | None, output: torch.dtype, compute: str, after: str
) -> Tensor:  # fmt: skip
    """``after(a b + bias)``, differentiable; see :class:`~perwatt_kernels.matmul.triton_call.Call`."""
    given = (a, b) if bias is None else (a, b, bias)
    if not plain(*given):
        found: Tensor = product(a, b, bias, output, compute, after)
    elif torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        found = Differentiable.apply(a, b, bias, output, compute, after)  # type: ignore[no-untyped-call]
    else:
        found = _product(a, b, bias, output, compute, after)
    return found


def _product(
    a: Tensor, b: Tensor, bias: Tensor | None, output: torch.dtype, compute: str, after: str
) -> Tensor:  # fmt: skip
    return multiply(Call(a=a, b=b, output=output, compute=compute, bias=bias, after=after))


@custom_op("perwatt::triton_matmul", mutates_args=())
def product(
    a: Tensor, b: Tensor, bias: Tensor | None, output: torch.dtype, compute: str, after: str
) -> Tensor:  # fmt: skip
    """The operation that :func:`times` is to a compiler."""
    return _product(a, b, bias, output, compute, after)


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
        pairs = times(a, b, bias[0] if bias else None, torch.float32, ctx.compute, "none")
        incoming = _through_swiglu(incoming, pairs)
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
    found = times(*pair, None, like.dtype, compute, "none")
    return found.mT if by_columns else found


def _through_swiglu(incoming: Tensor, pairs: Tensor) -> Tensor:
    """The gradient of gates and ups, by turns, of ``silu(gate) up``."""
    gate, up = pairs.unflatten(-1, (-1, 2)).unbind(-1)
    chance = gate.sigmoid()
    wide = incoming.float()
    return torch.stack((wide * up * chance * (1 + gate * (1 - chance)), wide * gate * chance), -1).flatten(-2)


product.register_autograd(_backward, setup_context=_keep)


class Differentiable(torch.autograd.Function):
    """The same derivatives without the operation."""

    forward = staticmethod(_product)
    setup_context = staticmethod(_keep)
    backward = staticmethod(_backward)


def scaled_times(
    a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, output: torch.dtype, fast: bool
) -> Tensor:  # fmt: skip
    """``scale_a scale_b (a b)`` of 8-bit operands, without derivatives.

    Units of 8-bit products read both operands along the depth, so one that lies otherwise is copied.
    """
    how = _scaled_product if plain(a, b) else scaled_product
    found: Tensor = how(a, b, scale_a, scale_b, output, fast)
    return found


def _scaled_product(
    a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, output: torch.dtype, fast: bool
) -> Tensor:  # fmt: skip
    a, b = _along(a, -1), _along(b, -2)
    scales = scale_a.contiguous(), scale_b.contiguous()
    return multiply(Call(a=a, b=b, output=output, compute="fp8", scales=scales, fast=fast))


@custom_op("perwatt::triton_scaled_matmul", mutates_args=())
def scaled_product(
    a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, output: torch.dtype, fast: bool
) -> Tensor:  # fmt: skip
    """The operation that :func:`scaled_times` is to a compiler."""
    return _scaled_product(a, b, scale_a, scale_b, output, fast)


@scaled_product.register_fake
def _(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, output: torch.dtype, fast: bool) -> Tensor:
    return a.new_empty((*a.shape[:-1], b.shape[-1]), dtype=output)


def _along(x: Tensor, depth: int) -> Tensor:
    if x.stride(depth) == 1:
        return x
    return x.contiguous() if depth == -1 else x.mT.contiguous().mT

"""Products as operations of torch, whatever kernel they are launched with.

A kernel NAME has ``perwatt::NAME_matmul`` with its derivatives, and ``perwatt::NAME_scaled_matmul`` of 8-bit operands.

Gradients are products of the same kernel on views: nothing is transposed in memory. An operand that lies by columns
gets a gradient that does, so that accumulating it copies nothing.

An operation costs the host tens of microseconds, as long as a small product takes on an H100, and only a compiler has
use of it. So tensors that are in no compiler's hands are launched on without one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from perwatt_kernels.matmul.triton_call import Call

PLAIN = (Tensor, torch.nn.Parameter)


def plain(*tensors: Tensor) -> bool:
    """Whether these are tensors themselves, not what a compiler traces with."""
    return not torch.compiler.is_compiling() and all(type(tensor) in PLAIN for tensor in tensors)


class Operations:
    """Products that one kernel makes.

    Attributes:
        product: the operation that :meth:`times` is to a compiler.
        scaled_product: the operation that :meth:`scaled_times` is to a compiler.
    """

    def __init__(self, name: str, multiply: Callable[[Call], Tensor]) -> None:
        """Register the operations.

        Args:
            name: of the kernel.
            multiply: launches a product.
        """
        self._name, self._multiply = name, multiply
        self.product = self._registered_product()
        self.scaled_product = self._registered_scaled_product()
        self._differentiable: Any = type(
            "Differentiable", (torch.autograd.Function,),
            {"forward": staticmethod(self._product), "setup_context": staticmethod(_keep),
             "backward": staticmethod(self._backward)},
        )  # fmt: skip

    def times(
        self, a: Tensor, b: Tensor, bias: Tensor | None, output: torch.dtype, compute: str, after: str
    ) -> Tensor:  # fmt: skip
        """``after(a b + bias)``, differentiable; see :class:`~perwatt_kernels.matmul.triton_call.Call`."""
        given = (a, b) if bias is None else (a, b, bias)
        if not plain(*given):
            found: Tensor = self.product(a, b, bias, output, compute, after)
        elif torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
            found = self._differentiable.apply(a, b, bias, output, compute, after)
        else:
            found = self._product(a, b, bias, output, compute, after)
        return found

    def scaled_times(
        self, a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, output: torch.dtype, fast: bool
    ) -> Tensor:  # fmt: skip
        """``scale_a scale_b (a b)`` of 8-bit operands, without derivatives.

        Units of 8-bit products read both operands along the depth, so one that lies otherwise is copied.
        """
        how = self._scaled_product if plain(a, b) else self.scaled_product
        found: Tensor = how(a, b, scale_a, scale_b, output, fast)
        return found

    def _product(
        self, a: Tensor, b: Tensor, bias: Tensor | None, output: torch.dtype, compute: str, after: str
    ) -> Tensor:  # fmt: skip
        return self._multiply(Call(a=a, b=b, output=output, compute=compute, bias=bias, after=after))

    def _scaled_product(
        self, a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, output: torch.dtype, fast: bool
    ) -> Tensor:  # fmt: skip
        a, b = _along(a, -1), _along(b, -2)
        scales = scale_a.contiguous(), scale_b.contiguous()
        return self._multiply(Call(a=a, b=b, output=output, compute="fp8", scales=scales, fast=fast))

    def _registered_product(self) -> Any:
        def product(
            a: Tensor, b: Tensor, bias: Tensor | None, output: torch.dtype, compute: str, after: str
        ) -> Tensor:  # fmt: skip
            return self._product(a, b, bias, output, compute, after)

        def shaped(
            a: Tensor, b: Tensor, bias: Tensor | None, output: torch.dtype, compute: str, after: str
        ) -> Tensor:  # fmt: skip
            columns = b.shape[-1] // 2 if after == "swiglu" else b.shape[-1]
            return a.new_empty((*a.shape[:-1], columns), dtype=output)

        found = custom_op(f"perwatt::{self._name}_matmul", product, mutates_args=())
        found.register_fake(shaped)
        found.register_autograd(self._backward, setup_context=_keep)
        return found

    def _registered_scaled_product(self) -> Any:
        def product(
            a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, output: torch.dtype, fast: bool
        ) -> Tensor:  # fmt: skip
            return self._scaled_product(a, b, scale_a, scale_b, output, fast)

        def shaped(
            a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, output: torch.dtype, fast: bool
        ) -> Tensor:  # fmt: skip
            return a.new_empty((*a.shape[:-1], b.shape[-1]), dtype=output)

        found = custom_op(f"perwatt::{self._name}_scaled_matmul", product, mutates_args=())
        found.register_fake(shaped)
        return found

    def _backward(
        self, ctx: Any, incoming: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None]:  # fmt: skip
        if ctx.after == "gelu_tanh":
            message = "a product with gelu_tanh has no backward: apply it to a plain product"
            raise NotImplementedError(message)
        a, b, *bias = ctx.saved_tensors
        if ctx.after == "swiglu":
            pairs = self.times(a, b, bias[0] if bias else None, torch.float32, ctx.compute, "none")
            incoming = _through_swiglu(incoming, pairs)
        wide, incoming = incoming, incoming.to(a.dtype)
        if 0 in incoming.stride():  # as that of a sum, one number for all: two products read it
            incoming = incoming.contiguous()
        da = self._laid(a, incoming, b.mT, ctx.compute) if ctx.needs_input_grad[0] else None
        db = self._laid(b, a.mT, incoming, ctx.compute) if ctx.needs_input_grad[1] else None
        dbias = None
        if ctx.needs_input_grad[2]:
            dbias = wide.flatten(0, -2).sum(0, dtype=torch.float32).to(ctx.bias_dtype)
        return da, db, dbias, None, None, None

    def _laid(self, like: Tensor, left: Tensor, right: Tensor, compute: str) -> Tensor:
        """``left right`` in the format of an operand, and stored as that is."""
        by_columns = like.stride(-2) == 1 and like.stride(-1) != 1
        pair = (right.mT, left.mT) if by_columns else (left, right)
        found = self.times(*pair, None, like.dtype, compute, "none")
        return found.mT if by_columns else found


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, bias, _, ctx.compute, ctx.after = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(a, b, *(() if bias is None or ctx.after != "swiglu" else (bias,)))


def _through_swiglu(incoming: Tensor, pairs: Tensor) -> Tensor:
    """The gradient of gates and ups, by turns, of ``silu(gate) up``."""
    gate, up = pairs.unflatten(-1, (-1, 2)).unbind(-1)
    chance = gate.sigmoid()
    wide = incoming.float()
    return torch.stack((wide * up * chance * (1 + gate * (1 - chance)), wide * gate * chance), -1).flatten(-2)


def _along(x: Tensor, depth: int) -> Tensor:
    if x.stride(depth) == 1:
        return x
    return x.contiguous() if depth == -1 else x.mT.contiguous().mT

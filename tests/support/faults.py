"""Faults that any function of tensors may have. Each takes a function and gives one that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]


class _Backwards(torch.autograd.Function):
    """Identity whose gradient is changed on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *flowing: Any) -> Any:
        return ctx.change(flowing[0].clone()), None


def _in_gradient_of_first(change: Callable[[Tensor], Tensor]) -> Callable[[Function], Function]:
    return lambda function: lambda x, *others: function(_Backwards.apply(x, change), *others)


def _in_result(change: Callable[[Tensor], Tensor]) -> Callable[[Function], Function]:
    return lambda function: lambda *operands: change(function(*operands))


def _lose_tile(x: Tensor) -> Tensor:
    lost = torch.ones_like(x)
    lost[tuple(slice(0, max(1, size // 8)) for size in x.shape)] = 0
    return x * lost


def _spoil_one(x: Tensor) -> Tensor:
    spoilt = torch.zeros_like(x)
    spoilt.view(-1)[x.numel() // 2] = float("nan")
    return x + spoilt


def stale(function: Function) -> Function:
    """Gives what it gave the first time."""
    kept: list[Tensor] = []

    def again(*operands: Tensor) -> Tensor:
        if not kept:
            kept.append(function(*operands).detach().clone())
        return kept[0].clone().requires_grad_() if operands[0].requires_grad else kept[0]

    return again


IN_RESULT: dict[str, Callable[[Function], Function]] = {
    "a lost tile": _in_result(_lose_tile),
    "a result scaled by 0.99": _in_result(lambda x: x * 0.99),
    "NaN in one element": _in_result(_spoil_one),
    "a result of earlier inputs": stale,
}
IN_GRADIENT: dict[str, Callable[[Function], Function]] = {
    "a gradient scaled by 0.9": _in_gradient_of_first(lambda x: x * 0.9),
    "a gradient that is lost": _in_gradient_of_first(torch.zeros_like),
    "a lost tile of a gradient": _in_gradient_of_first(_lose_tile),
    "NaN in one element of a gradient": _in_gradient_of_first(_spoil_one),
}

"""Kernels of the library computed by torch, with the assertions of theirs that concern what they are called with."""

from __future__ import annotations

from typing import Any

import nki
import torch


class Reference(nki.Kernel):
    """A kernel whose function computes on torch tensors of the CPU."""

    def compute(self, args: Any, kwargs: Any, target: str) -> Any:
        return self.function(*args, **kwargs)


def kernel_assert(condition: bool, text: str) -> None:
    if not condition:
        raise AssertionError(f"[INTERNAL_ERROR] [NCC_INKI016] Kernel validation exception: {text}")


def scores(q: torch.Tensor, k: torch.Tensor, scale: float, causal: bool) -> torch.Tensor:
    """[.., q_len, kv_len] in float32 of [.., length, d], masked above the diagonal that starts at the top left."""
    found = q.float() @ k.float().mT * scale
    if causal:
        found = found.masked_fill(torch.ones(found.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
    return found

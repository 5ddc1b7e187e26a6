"""Which keys a query sees, and how packed documents lie in a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from perwatt_kernels.registry import Request

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def visible(rows: Tensor, columns: Tensor, params: Mapping[str, Any]) -> Tensor:
    """Whether query ``rows[i]`` sees key ``columns[j]``.

    Args:
        rows: [r] query positions.
        columns: [c] key positions.
        params: ``causal``, ``window`` and ``varlen`` of the operation.

    Returns:
        Bool [r, c].
    """
    import torch

    distance = rows[:, None] - columns[None, :]
    seen = torch.ones_like(distance, dtype=torch.bool)
    if params["causal"]:
        seen &= distance >= 0
    if params["window"]:
        seen &= distance.abs() < params["window"]
    if params["varlen"]:
        # Filled on the device: numbers of the host's would make it wait, and no graph could hold that.
        filled = [rows.new_full((length,), number) for number, length in enumerate(params["varlen"])]
        document = torch.cat(filled)
        seen &= document[rows][:, None] == document[columns][None, :]
    return seen


def full(q_len: int, kv_len: int, params: Mapping[str, Any], device: torch.device) -> Tensor:
    """The whole mask, bool [q_len, kv_len]."""
    import torch

    return visible(torch.arange(q_len, device=device), torch.arange(kv_len, device=device), params)


def scores_bytes(request: Request) -> float:
    """Bytes of the scores of all heads where they are written out: in float32, and weights in the compute format."""
    params = request.params
    scores: int = params["batch"] * params["heads"] * params["q_len"] * params["kv_len"]
    return scores * (12.0 if request.gradients else 8.0)


def pairs(q_len: int, kv_len: int, params: Mapping[str, Any]) -> int:
    """Number of visible query-key pairs of one head, by arithmetic and without torch."""
    if params["varlen"]:
        one = {**params, "varlen": None}
        return sum(pairs(length, length, one) for length in params["varlen"])
    window = params["window"] or max(q_len, kv_len)
    total = 0
    if not params["window"]:
        if not params["causal"]:
            return q_len * kv_len
        full_rows = min(q_len, kv_len)
        return full_rows * (full_rows + 1) // 2 + (q_len - full_rows) * kv_len
    for i in range(q_len):
        last = min(i if params["causal"] else i + window - 1, kv_len - 1)
        total += max(0, last - max(0, i - window + 1) + 1)
    return total

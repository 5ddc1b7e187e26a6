"""Launching the Triton kernels of attention: grids, descriptors, tables of tiles, and the choice of tiles."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import triton
from torch import Tensor

from perwatt_kernels.attention import triton_tiles as tiles
from perwatt_kernels.attention.triton_backward import (
    perwatt_attention_backward_keys,
    perwatt_attention_backward_queries,
    perwatt_attention_delta,
)
from perwatt_kernels.attention.triton_forward import perwatt_attention_forward
from perwatt_kernels.attention.triton_grid import Grid
from perwatt_kernels.attention.triton_tile import INTERPRETED
from perwatt_kernels.attention.triton_tiles import SMALL, Tile
from perwatt_kernels.triton_choice import tile_for

DELTA_ROWS = 64
WEIGHT_SHIFT = 8  # weights are 1 at most, and the largest number of e4m3 is above 2^8
ALIGNED = 16  # bytes, of what the tensor memory accelerator reads: addresses, and strides but the last


@dataclass(frozen=True, kw_only=True)
class Work:
    """One attention, as kernels are told of it.

    Attributes:
        q, k, v: [batch, heads or kv_heads, length, head_dim], any strides.
        causal, window, scale: of the operation; a window of 0 is none.
        lengths: of packed documents; empty where there is one.
        ordered: whether gradients are summed in the same order every time.
        scales: of q, k and v in 8 bits, float32 [batch, heads or kv_heads], contiguous.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    causal: bool
    window: int
    lengths: tuple[int, ...]
    scale: float
    ordered: bool = True
    scales: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def heads(self) -> int:
        """Of queries."""
        return self.q.shape[1]

    @property
    def group(self) -> int:
        """Heads of queries to a head of keys."""
        return self.q.shape[1] // self.k.shape[1]

    @property
    def dim(self) -> int:
        """Of a head."""
        return self.q.shape[3]

    @property
    def width(self) -> int:
        """Of a head up to a power of two, 32 bytes at least, as products in hardware take."""
        return max(32 // min(2, self.q.element_size()), int(triton.next_power_of_2(self.dim)))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return 0 in self.q.shape or 0 in self.k.shape

    def shape(self, tma: bool) -> tuple[tuple[str, object], ...]:
        """What a choice of tiles depends on."""
        return (
            ("batch", self.q.shape[0]), ("heads", self.heads), ("kv_heads", self.k.shape[1]),
            ("q_len", self.q.shape[2]), ("kv_len", self.k.shape[2]), ("head_dim", self.dim), ("causal", self.causal),
            ("window", self.window), ("lengths", self.lengths), ("format", str(self.q.dtype).removeprefix("torch.")),
            ("bshd", self.q.stride(1) < self.q.stride(2)), ("tma", tma),
        )  # fmt: skip


def forward(work: Work, out: Tensor, lse: Tensor) -> None:
    """Write the result and its log-sum-exp.

    Args:
        work: what to attend.
        out: [batch, heads, q_len, head_dim], any strides.
        lse: float32 [batch, heads, q_len], contiguous.
    """

    def launch(tile: Tile) -> Tensor:
        grid = Grid.over(work.q, work.lengths, tile.rows, work.causal, work.k)
        q, k, v = _sources(tile, work, (work.q, tile.rows), (work.k, tile.columns), (work.v, tile.columns))
        perwatt_attention_forward[grid.programs](
            q, k, v, *(work.scales or (work.q, work.k, work.v)), out, lse, grid.table,
            *_strides(work.q, work.k, work.v, out), work.heads, work.group, grid.heads, work.q.shape[2],
            work.k.shape[2], grid.tiles, grid.section, work.scale, SHIFT=WEIGHT_SHIFT if work.scales else 0,
            **_constants(work, tile),
        )  # fmt: skip
        return out

    with on_device(work.q):
        launch(_chosen("forward", work, tiles.forward, launch, work.q, work.k, work.v))


def backward(work: Work, out: Tensor, lse: Tensor, d_out: Tensor, dq: Tensor, dk: Tensor, dv: Tensor) -> None:
    """Write the gradients of queries, keys and values.

    Args:
        work: what was attended to.
        out: the result.
        lse: its log-sum-exp, contiguous.
        d_out: gradient of the result, any strides.
        dq: where the gradient of queries goes, any strides.
        dk: that of keys.
        dv: that of values.
    """
    with on_device(work.q):
        delta = delta_of(work, out, d_out)
        if work.ordered:
            _backward_keys(work, d_out, lse, delta, dk, dv, dq)
            _backward_queries(work, d_out, lse, delta, dq)
        else:
            sums = torch.empty_like(dq, dtype=torch.float32, memory_format=torch.contiguous_format)
            _backward_keys(work, d_out, lse, delta, dk, dv, sums)
            dq.copy_(sums.mul_(work.scale))


def delta_of(work: Work, out: Tensor, d_out: Tensor) -> Tensor:
    """Row sums of the result times its gradient, float32 [batch, heads, q_len], contiguous."""
    batch, heads, length, dim = out.shape
    delta = out.new_empty((batch, heads, length), dtype=torch.float32)
    count = triton.cdiv(length, DELTA_ROWS)
    perwatt_attention_delta[(count * batch * heads,)](
        out, d_out, delta, *_strides(out, d_out), heads, length, count, DIM=dim, WIDTH=work.width, ROWS=DELTA_ROWS,
    )  # fmt: skip
    return delta


def _backward_keys(work: Work, d_out: Tensor, lse: Tensor, delta: Tensor, dk: Tensor, dv: Tensor, dq: Tensor) -> None:
    """``dq`` is where sums are added, unless they are ordered."""

    def launch(tile: Tile) -> Tensor:
        if not work.ordered:
            dq.zero_()
        to_keys, to_values = dk, dv
        if tile.splits > 1:
            batch, heads, length, dim = dk.shape
            parts = dk.new_empty((2, batch, heads, tile.splits, length, dim), dtype=torch.float32)
            to_keys, to_values = parts.flatten(2, 3)
        grid = Grid.over(to_keys, work.lengths, tile.columns, False, work.q)
        operands = (work.q, tile.rows), (work.k, tile.columns), (work.v, tile.columns), (d_out, tile.rows)
        q, k, v, do, *sums = _sources(tile, work, *operands, *([] if work.ordered else [(dq, tile.rows)]))
        perwatt_attention_backward_keys[grid.programs](
            q, k, v, do, lse, delta, to_keys, to_values, *(sums or [dq]), grid.table,
            *_strides(work.q, work.k, work.v, d_out, to_keys, to_values, dq), work.heads, work.k.shape[1], grid.heads,
            work.q.shape[2], work.k.shape[2], grid.tiles, grid.section, tile.splits, work.scale,
            ATOMIC=not work.ordered, **_constants(work, tile),
        )  # fmt: skip
        if tile.splits > 1:
            for target, part in ((dk, parts[0]), (dv, parts[1])):
                target.copy_(part.sum(dim=2))
        return dk

    candidates = partial(tiles.keys, group=work.group, busy=_busy(work))
    launch(
        _chosen(
            "backward keys" if work.ordered else "backward", work, candidates, launch, work.q, work.k, work.v, d_out
        )
    )


def _backward_queries(work: Work, d_out: Tensor, lse: Tensor, delta: Tensor, dq: Tensor) -> None:
    def launch(tile: Tile) -> Tensor:
        grid = Grid.over(work.q, work.lengths, tile.rows, work.causal, work.k)
        q, k, v, do = _sources(
            tile, work, (work.q, tile.rows), (work.k, tile.columns), (work.v, tile.columns), (d_out, tile.rows)
        )
        perwatt_attention_backward_queries[grid.programs](
            q, k, v, do, lse, delta, dq, grid.table, *_strides(work.q, work.k, work.v, d_out, dq), work.heads,
            work.group, grid.heads, work.q.shape[2], work.k.shape[2], grid.tiles, grid.section, work.scale,
            **_constants(work, tile),
        )  # fmt: skip
        return dq

    launch(_chosen("backward queries", work, tiles.queries, launch, work.q, work.k, work.v, d_out))


def _chosen(
    what: str,
    work: Work,
    candidates: Callable[..., tuple[Tile, ...]],
    launch: Callable[[Tile], Tensor],
    *operands: Tensor,
) -> Tile:
    if INTERPRETED.value:
        return SMALL
    capability = torch.cuda.get_device_capability(work.q.device)
    tma = capability >= tiles.HOPPER and not work.lengths and all(map(describable, operands))
    found = candidates(work.width, 8 * work.q.element_size(), capability, tma)
    return tile_for(f"attention/triton {what}", work.shape(tma), work.q.device, found, launch)


def describable(tensor: Tensor) -> bool:
    """Whether a descriptor can be made: what is not packed closely in the head, or ill aligned, pointers load."""
    size = tensor.element_size()
    outer = [stride * size for extent, stride in zip(tensor.shape[:3], tensor.stride()[:3], strict=True) if extent > 1]
    return (
        tensor.stride(3) == 1 and tensor.data_ptr() % ALIGNED == 0
        and all(stride > 0 and stride % ALIGNED == 0 for stride in outer)
    )  # fmt: skip


def _sources(tile: Tile, work: Work, *operands: tuple[Tensor, int]) -> list[Any]:
    """What kernels load operands by: descriptors of so many rows at a time, or the tensors."""
    if not tile.tma:
        return [tensor for tensor, _ in operands]
    from triton.tools.tensor_descriptor import TensorDescriptor

    return [
        TensorDescriptor(tensor, list(tensor.shape), descriptor_strides(tensor), [1, 1, rows, work.width])
        for tensor, rows in operands
    ]


def descriptor_strides(tensor: Tensor) -> list[int]:
    """Strides, where an extent of one has whatever stride one that a descriptor takes."""
    return [
        tensor.stride(place) if tensor.shape[place] > 1 else ALIGNED // tensor.element_size() for place in range(3)
    ] + [1]


def _strides(*tensors: Tensor) -> list[tuple[int, ...]]:
    return [tensor.stride() for tensor in tensors]


def _constants(work: Work, tile: Tile) -> dict[str, Any]:
    """What kernels are compiled for."""
    even = work.q.shape[2] % tile.rows == 0 and work.k.shape[2] % tile.columns == 0 and not work.lengths
    limit = {"maxnreg": tile.registers} if tile.registers else {}
    return limit | {
        "CAUSAL": work.causal, "WINDOW": work.window, "PACKED": bool(work.lengths), "DIM": work.dim,
        "WIDTH": work.width, "ROWS": tile.rows, "COLUMNS": tile.columns, "TAIL": not even, "TMA": tile.tma,
        "num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": True,
    }  # fmt: skip


def _busy(work: Work) -> bool:
    """Whether tiles of keys are several times as many as the processors that take them."""
    if work.k.device.type != "cuda":
        return True
    programs = work.k.shape[0] * work.k.shape[1] * triton.cdiv(work.k.shape[2], 64)
    return bool(programs >= 8 * torch.cuda.get_device_properties(work.k.device).multi_processor_count)


def on_device(tensor: Tensor) -> AbstractContextManager[object]:
    """Where Triton launches."""
    return torch.cuda.device(tensor.device) if tensor.device.type == "cuda" else nullcontext()

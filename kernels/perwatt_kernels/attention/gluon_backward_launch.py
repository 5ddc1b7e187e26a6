"""Launching the backward of attention in Gluon: descriptors, programs, and the choice of its tile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from perwatt_kernels.attention.gluon_backward import perwatt_attention_backward_gluon
from perwatt_kernels.attention.gluon_operands import refuse_others, source, width
from perwatt_kernels.attention.triton_grid import Grid
from perwatt_kernels.attention.triton_launch import Work, delta_of, describable, on_device
from perwatt_kernels.registry import Refusal
from perwatt_kernels.triton_choice import tile_for

WARPS, OF_THE_KERNEL, OF_THE_COPIER = 8, 168, 24
"""Warps that multiply; registers of every thread at first, and of one that copies: the others then have 240."""
ROWS, COLUMNS, WIDEST = 64, 128, 128  # queries of a step, keys of a tile (more have no registers); head dim


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """How the backward is cut.

    Attributes:
        stages: steps in shared memory at once.
        splits: programs that share the heads of queries to a tile of keys; their sums are added afterwards.
    """

    stages: int
    splits: int = 1

    @property
    def name(self) -> str:
        """Such as ``64x128s2-split4``."""
        return f"{ROWS}x{COLUMNS}s{self.stages}" + (f"-split{self.splits}" if self.splits > 1 else "")


def candidates(group: int) -> tuple[Tile, ...]:
    """Tiles to choose from, for so many heads of queries to a head of keys."""
    found = Tile(stages=4), Tile(stages=2)
    return found + tuple(replace(tile, splits=group) for tile in found if group > 1)


def backward(work: Work, out: Tensor, lse: Tensor, d_out: Tensor, dq: Tensor, dk: Tensor, dv: Tensor) -> None:
    """Write the gradients of queries, keys and values; those of queries are summed in no order.

    Args:
        work: what was attended to, without window and documents.
        out: the result.
        lse: its log-sum-exp, float32 [batch, heads, q_len], contiguous.
        d_out: gradient of the result; copied where it lies so that no descriptor can be made.
        dq: where the gradient of queries goes, any strides.
        dk: that of keys.
        dv: that of values.

    Raises:
        Refusal: heads are too wide, or an operand lies so that no descriptor can be made.
    """
    if work.dim > WIDEST:
        raise Refusal(f"found head_dim {work.dim}, expected 1 to {WIDEST}: sums of more have no room on chip")
    refuse_others(q=work.q, k=work.k, v=work.v)
    if not describable(d_out):
        d_out = d_out.clone(memory_format=torch.contiguous_format)
    held = width(work.dim)
    with on_device(work.q):
        beyond = -work.q.shape[2] % ROWS
        lse, delta = pad(lse, (0, beyond), value=float("inf")), pad(delta_of(work, out, d_out), (0, beyond))
        sums = work.q.new_empty((*lse.shape, held), dtype=torch.float32)

        def launch(tile: Tile) -> Tensor:
            _launch(work, tile, lse, delta, d_out, sums.zero_(), dk, dv)
            return dk

        about = "attention/gluon backward"
        launch(tile_for(about, work.shape(tma=True), work.q.device, candidates(work.group), launch))
        torch.mul(sums[:, :, : work.q.shape[2], : work.dim], work.scale, out=dq)


def _launch(
    work: Work, tile: Tile, lse: Tensor, delta: Tensor, d_out: Tensor, sums: Tensor, dk: Tensor, dv: Tensor
) -> None:
    """``sums`` are zero before."""
    to_keys, to_values = dk, dv
    if tile.splits > 1:
        batch, heads, length, dim = dk.shape
        parts = dk.new_empty((2, batch, heads, tile.splits, length, dim), dtype=torch.float32)
        to_keys, to_values = parts.flatten(2, 3)
    grid = Grid.over(to_keys, (), COLUMNS, False, work.q)
    perwatt_attention_backward_gluon[grid.programs](
        source(work.q, ROWS), source(work.k, COLUMNS), source(work.v, COLUMNS), source(d_out, ROWS),
        _statistic(lse), _statistic(delta), to_keys, to_values, sums, to_keys.stride(), to_values.stride(), work.heads,
        work.k.shape[1], grid.heads, work.k.shape[2], lse.shape[2], grid.tiles, grid.section, tile.splits, work.scale,
        CAUSAL=work.causal, DIM=work.dim, STAGES=tile.stages, REGISTERS=OF_THE_COPIER, num_warps=WARPS,
        maxnreg=OF_THE_KERNEL, enable_fp_fusion=True,
    )  # fmt: skip
    if tile.splits > 1:
        for target, part in ((dk, parts[0]), (dv, parts[1])):
            target.copy_(part.sum(dim=2))


def _statistic(tensor: Tensor) -> Any:
    """Descriptor of all heads of a statistic, so many queries at a time."""
    layout = gl.NVMMASharedLayout.get_default_for([ROWS], gl.float32)
    return TensorDescriptor(tensor.view(-1), [tensor.numel()], [1], [ROWS], layout)

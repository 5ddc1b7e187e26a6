"""Launching attention in Gluon: descriptors, programs, the choice of tiles."""

from __future__ import annotations

import torch
from torch import Tensor

from perwatt_kernels.attention import gluon_tiles as tiles
from perwatt_kernels.attention.gluon_forward import perwatt_attention_forward_gluon
from perwatt_kernels.attention.gluon_operands import refuse_others, source, width
from perwatt_kernels.attention.gluon_tiles import CONSUMERS, ROWS, Tile
from perwatt_kernels.attention.triton_grid import Grid
from perwatt_kernels.attention.triton_launch import Work, on_device
from perwatt_kernels.triton_choice import tile_for

REGISTERS, OF_THE_KERNEL = 240, 168
"""Of a consumer's thread, and of every thread at first: the register file has those of three warp groups of 168, which
are two of 240 and one of 24."""


def forward(work: Work, out: Tensor, lse: Tensor) -> None:
    """Write the result and its log-sum-exp.

    Args:
        work: what to attend, without window and documents.
        out: [batch, heads, q_len, head_dim], any strides that a descriptor takes.
        lse: float32 [batch, heads, q_len], contiguous.

    Raises:
        Refusal: an operand lies so that the tensor memory accelerator cannot read it.
    """
    refuse_others(q=work.q, k=work.k, v=work.v, result=out)
    rows = ROWS // CONSUMERS

    def launch(tile: Tile) -> Tensor:
        grid = Grid.over(work.q, (), ROWS, work.causal, work.k)
        all_tiles = grid.tiles * grid.heads
        programs = min(all_tiles, _processors(work.q.device)) if tile.resident else all_tiles
        perwatt_attention_forward_gluon[(programs,)](
            source(work.q, rows), source(work.k, tile.columns), source(work.v, tile.columns), source(out, rows), lse,
            work.heads, work.group, grid.heads, work.q.shape[2], work.k.shape[2], grid.tiles, grid.section, work.scale,
            CAUSAL=work.causal, STAGES=tile.stages, TURNS=tile.turns, TAIL=work.k.shape[2] % tile.columns != 0,
            REGISTERS=REGISTERS, num_warps=4, maxnreg=OF_THE_KERNEL, enable_fp_fusion=True,
        )  # fmt: skip
        return out

    with on_device(work.q):
        about = "attention/gluon forward"
        launch(tile_for(about, work.shape(tma=True), work.q.device, tiles.forward(width(work.dim)), launch))


def _processors(device: torch.device) -> int:
    """Multiprocessors, each of which has room for one program."""
    return 1 if device.type != "cuda" else int(torch.cuda.get_device_properties(device).multi_processor_count)

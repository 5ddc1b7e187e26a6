"""Launching attention in Gluon: descriptors, programs, the choice of tiles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from perwatt_kernels.attention import gluon_tiles as tiles
from perwatt_kernels.attention.gluon_forward import perwatt_attention_forward_gluon
from perwatt_kernels.attention.gluon_tiles import CONSUMERS, ROWS, Tile
from perwatt_kernels.attention.triton_grid import Grid
from perwatt_kernels.attention.triton_launch import Work, describable, descriptor_strides, on_device
from perwatt_kernels.triton_choice import tile_for

REGISTERS, OF_THE_KERNEL = 240, 168
"""Of a consumer's thread, and of every thread at first: the register file has those of three warp groups of 168, which
are two of 240 and one of 24."""
FORMATS = {torch.bfloat16: gl.bfloat16, torch.float16: gl.float16}


def forward(work: Work, out: Tensor, lse: Tensor) -> None:
    """Write the result and its log-sum-exp.

    Args:
        work: what to attend, without window and documents.
        out: [batch, heads, q_len, head_dim], any strides that a descriptor takes.
        lse: float32 [batch, heads, q_len], contiguous.

    Raises:
        NotImplementedError: an operand lies so that the tensor memory accelerator cannot read it.
    """
    for name, tensor in (("q", work.q), ("k", work.k), ("v", work.v), ("the result", out)):
        if not describable(tensor):
            raise NotImplementedError(
                f"{name}: found strides {list(tensor.stride())} at {tensor.data_ptr() % 16} bytes beyond a multiple of "
                "16, expected a contiguous head and all else in multiples of 16 bytes; triton takes any"
            )

    def launch(tile: Tile) -> Tensor:
        grid = Grid.over(work.q, (), ROWS, work.causal, work.k)
        all_tiles = grid.tiles * grid.heads
        programs = min(all_tiles, _processors(work.q.device)) if tile.resident else all_tiles
        perwatt_attention_forward_gluon[(programs,)](
            *_sources(work, ROWS // CONSUMERS, work.q), *_sources(work, tile.columns, work.k, work.v),
            *_sources(work, ROWS // CONSUMERS, out), lse, work.heads, work.group, grid.heads, work.q.shape[2],
            work.k.shape[2], grid.tiles, grid.section, work.scale, CAUSAL=work.causal, STAGES=tile.stages,
            CONSUMERS=CONSUMERS, TURNS=tile.turns, TAIL=work.k.shape[2] % tile.columns != 0, REGISTERS=REGISTERS,
            num_warps=4, maxnreg=OF_THE_KERNEL, enable_fp_fusion=True,
        )  # fmt: skip
        return out

    with on_device(work.q):
        about = "attention/gluon forward"
        launch(tile_for(about, work.shape(tma=True), work.q.device, tiles.forward(width(work)), launch))


def width(work: Work) -> int:
    """Of a head in shared memory."""
    return max(tiles.NARROWEST, work.width)


def _sources(work: Work, rows: int, *operands: Tensor) -> list[Any]:
    """Descriptors of operands, so many rows of a head at a time."""
    block = [1, 1, rows, width(work)]
    layout = gl.NVMMASharedLayout.get_default_for(block, FORMATS[work.q.dtype])
    return [TensorDescriptor(one, list(one.shape), descriptor_strides(one), block, layout) for one in operands]


def _processors(device: torch.device) -> int:
    """Multiprocessors, each of which has room for one program."""
    return 1 if device.type != "cuda" else int(torch.cuda.get_device_properties(device).multi_processor_count)

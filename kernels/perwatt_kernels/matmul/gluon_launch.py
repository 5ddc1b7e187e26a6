"""Launching products in Gluon by the tile that is chosen for them; plans are remembered as those in Triton are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from perwatt_kernels.matmul.gluon_kernel import perwatt_matmul_gluon
from perwatt_kernels.matmul.gluon_tiles import Tile, candidates
from perwatt_kernels.matmul.triton_call import Call, turned
from perwatt_kernels.matmul.triton_launch import chip
from perwatt_kernels.registry import Refusal
from perwatt_kernels.triton_choice import tile_for

ABOUT = "matmul/gluon"
WARPS = 4  # of each group that multiplies
REGISTERS, OF_THE_KERNEL = 240, 168
"""Of a thread that multiplies, and of every thread at first: a multiprocessor has registers for three groups of warps
with 168, which are two with 240 and one, that copies, with 24."""
FORMATS = {
    torch.bfloat16: gl.bfloat16, torch.float16: gl.float16, torch.float32: gl.float32,
    torch.float8_e4m3fn: gl.float8e4nv, torch.float8_e5m2: gl.float8e5,
}  # fmt: skip

plans: dict[tuple[object, ...], Plan] = {}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How products of one kind are launched.

    Attributes:
        grid: programs.
        turned: whether operands lie by columns.
        blocks: what a descriptor of each operand and of the result takes at once, and how it lies in shared memory.
        options: constants of the kernel.
    """

    grid: int
    turned: tuple[bool, bool]
    blocks: tuple[tuple[list[int], Any], ...]
    options: Mapping[str, Any]

    @classmethod
    def of(cls, call: Call, tile: Tile) -> Plan:
        """That of a product which descriptors reach, and a tile."""
        _, m, n, _ = call.extents
        a_turned, b_turned = bool(turned(call.a)), bool(turned(call.b))
        rows = tile.m // tile.parts
        blocks = [rows, tile.k][:: -1 if a_turned else 1], [tile.k, tile.n][:: -1 if b_turned else 1], \
            [rows, tile.n // 4]  # fmt: skip
        formats = (FORMATS[form] for form in (call.a.dtype, call.b.dtype, call.output))
        laid = (gl.NVMMASharedLayout.get_default_for(block, form) for block, form in zip(blocks, formats, strict=True))
        options = {
            "BLOCK_M": tile.m, "BLOCK_N": tile.n, "BLOCK_K": tile.k, "GROUP": tile.group, "STAGES": tile.stages,
            "PARTS": tile.parts, "A_TURNED": a_turned, "B_TURNED": b_turned, "SCALES": call.granularity,
            "BIAS": call.bias is not None, "EXACT": call.work.kind == "fp8_exact", "REGISTERS": REGISTERS,
            "num_warps": WARPS, "maxnreg": OF_THE_KERNEL,
        }  # fmt: skip
        grid = min(-(-m // tile.m) * -(-n // tile.n), chip(call.a.device).processors)
        return cls(grid=grid, turned=(a_turned, b_turned), blocks=tuple(zip(blocks, laid, strict=True)),
                   options=options)  # fmt: skip


def multiply(call: Call) -> Tensor:
    """The product by the fastest tile, which is measured at the first call of a shape.

    Raises:
        Refusal: the kernel does not take such a product.
    """
    plan = plans.get(key := call.key)
    if plan is None:
        if 0 in call.shape:
            return _result(call)
        _refuse(call)
        device = call.a.device
        tiles = candidates(call.work, chip(device))
        plan = Plan.of(call, tile_for(ABOUT, call.question, device, tiles, partial(launch, call)))
        if not (call.a.is_cuda and torch.cuda.is_current_stream_capturing()):  # then it was chosen for good
            plans[key] = plan
    return run(call, plan)


def launch(call: Call, tile: Tile) -> Tensor:
    """The product by a tile."""
    return run(call, Plan.of(call, tile))


def run(call: Call, plan: Plan) -> Tensor:
    """The product, in a new contiguous tensor."""
    result = _result(call)
    operands = (x.mT if by_columns else x for x, by_columns in zip((call.a, call.b), plan.turned, strict=True))
    described = (
        TensorDescriptor(x, list(x.shape), list(x.stride()), *block)
        for x, block in zip((*operands, result), plan.blocks, strict=True)
    )
    left, right = call.scales or (result, result)  # a tensor that is not read stands for what there is none of
    bias = result if call.bias is None else call.bias.contiguous()
    _, m, n, k = call.extents
    elsewhere = call.a.is_cuda and call.a.get_device() != torch.cuda.current_device()
    with torch.cuda.device(call.a.device) if elsewhere else nullcontext():
        perwatt_matmul_gluon[(plan.grid,)](*described, bias, left, right, m, n, k, **plan.options)
    return result


def _result(call: Call) -> Tensor:
    return torch.empty(call.shape, dtype=call.output, device=call.a.device)


def _refuse(call: Call) -> None:
    if call.after != "none":
        raise Refusal(f"gluon has no epilogue {call.after}: triton has")
    if call.a.dim() == 3:
        raise Refusal("gluon takes no batches: triton does")
    if not call.work.described:
        found = f"a {list(call.a.shape)} by {list(call.a.stride())}, b {list(call.b.shape)} by {list(call.b.stride())}"
        raise Refusal(
            f"found {found}, expected operands and a result whose rows, or columns, are one beside the other in "
            "multiples of 16 bytes, and no extent of 0: triton takes any"
        )

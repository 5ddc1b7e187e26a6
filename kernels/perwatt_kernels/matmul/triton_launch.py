"""Launching products in Triton by the tile that is chosen for them.

What need not be found anew at each call is a plan, remembered by all that it depends on: on an H100 a small product
takes no longer than the host needs to look at its operands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from perwatt_kernels.matmul.triton_call import Call, turned
from perwatt_kernels.matmul.triton_kernels import perwatt_matmul, perwatt_matmul_sum, perwatt_matmul_tma
from perwatt_kernels.matmul.triton_tiles import INTERPRETER, Chip, Tile, candidates
from perwatt_kernels.triton_choice import tile_for
from perwatt_kernels.triton_site import interpreted

ABOUT = "matmul/triton"
SUM = (8, 256)  # tile of the kernel that adds splits up
SUM_INTERPRETED = (64, 64)  # which wants few programs

plans: dict[tuple[object, ...], Plan] = {}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How products of one kind are launched.

    Attributes:
        tile: how they are cut.
        grid: programs.
        turned: whether operands lie by columns, where descriptors reach them.
        blocks: what a descriptor of each operand and of the result takes at once.
        options: constants of the kernel.
        after: constants of the kernel that adds splits up, where there are any.
    """

    tile: Tile
    grid: int
    turned: tuple[bool | None, bool | None]
    blocks: tuple[list[int], list[int], list[int]]
    options: Mapping[str, Any]
    after: Mapping[str, Any]

    @classmethod
    def of(cls, call: Call, tile: Tile) -> Plan:
        """That of a product and a tile; one with descriptors only where ``call.work`` is described."""
        batch, m, n, k = call.extents
        tiles, by_columns = _ceil(m, tile.m) * _ceil(n, tile.n) * tile.splits, (turned(call.a), turned(call.b))
        epilogue = {
            "SCALES": call.granularity, "BIAS": call.bias is not None, "AFTER": call.after,
            "INTERPRETED": interpreted(),
        }  # fmt: skip
        options = {
            "BLOCK_M": tile.m, "BLOCK_N": tile.n, "BLOCK_K": tile.k, "GROUP": tile.group, "SPLITS": tile.splits,
            "PRECISION": "ieee" if call.compute == "fp32" else "tf32", "IMPRECISE": _imprecise(call, tile),
            "num_warps": tile.warps, "num_stages": tile.stages, **epilogue,
        }  # fmt: skip
        halves = tile.n >= 64
        width = tile.n // 2 if call.after == "swiglu" and tile.splits == 1 else tile.n
        if tile.persistent:
            grid = min(tiles, chip(call.a.device).processors)
            options |= {"A_TURNED": by_columns[0], "B_TURNED": by_columns[1], "HALVES": halves,
                        "SPECIALIZE": tile.variant == "specialized"}  # fmt: skip
        else:
            grid = tiles * batch
            options |= {"EVEN_M": m % tile.m == 0, "EVEN_N": n % tile.n == 0, "EVEN_K": k % tile.k == 0}
        blocks = [tile.m, tile.k], [tile.k, tile.n], [tile.m, width // 2 if halves else width]
        return cls(
            tile=tile, grid=grid, turned=by_columns, options=options, after={"SPLITS": tile.splits, **epilogue},
            blocks=(blocks[0][:: -1 if by_columns[0] else 1], blocks[1][:: -1 if by_columns[1] else 1], blocks[2]),
        )  # fmt: skip


def multiply(call: Call) -> Tensor:
    """The product by the fastest tile, which is measured at the first call of a shape."""
    plan = plans.get(key := call.key)
    if plan is None:
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
    result = torch.empty(call.shape, dtype=call.output, device=call.a.device)
    if result.numel() == 0:
        return result
    if call.a.is_cuda and call.a.get_device() != torch.cuda.current_device():
        with torch.cuda.device(call.a.device):
            _run(call, plan, result)
    else:
        _run(call, plan, result)
    return result


def _run(call: Call, plan: Plan, result: Tensor) -> None:
    if plan.tile.splits == 1:
        _products(call, plan, result)
        return
    batch, m, n, _ = call.extents
    parts = torch.empty((plan.tile.splits, batch, m, n), dtype=torch.float32, device=result.device)
    _products(call, plan, parts)
    rows, columns = SUM_INTERPRETED if interpreted() else SUM
    width = result.shape[-1]
    perwatt_matmul_sum[(batch * _ceil(m, rows) * _ceil(n, columns),)](
        parts, result, *_besides(call, result), m, n, parts.stride(0), parts.stride(1), m * width, width,
        BLOCK_M=rows, BLOCK_N=columns, num_warps=4, **plan.after,
    )  # fmt: skip


def _products(call: Call, plan: Plan, to: Tensor) -> None:
    """Launch the tiles of a product, or of its splits."""
    batch, m, n, k = call.extents
    besides = _besides(call, to)
    if plan.tile.persistent:
        (a_turned, b_turned), (a_block, b_block, c_block) = plan.turned, plan.blocks
        perwatt_matmul_tma[(plan.grid,)](
            _described(call.a.mT if a_turned else call.a, a_block),
            _described(call.b.mT if b_turned else call.b, b_block), _described(to.flatten(0, -2), c_block),
            *besides, m, n, k, **plan.options,
        )  # fmt: skip
        return
    a, b = (x if x.dim() == 3 else x[None] for x in (call.a, call.b))
    width = to.shape[-1]
    perwatt_matmul[(plan.grid,)](
        a, b, to, *besides, m, n, k, *a.stride(), *b.stride(), batch * m * width, m * width, width, **plan.options
    )  # fmt: skip


def _described(x: Tensor, block: list[int]) -> TensorDescriptor:
    return TensorDescriptor(x, list(x.shape), list(x.stride()), block)


@cache
def chip(device: torch.device) -> Chip:
    """What computes on a device."""
    if interpreted() or device.type != "cuda":
        return INTERPRETER
    from triton.runtime import driver

    found = torch.cuda.get_device_properties(device)
    index = torch.cuda.current_device() if device.index is None else device.index
    shared = driver.active.utils.get_device_properties(index)["max_shared_mem"]
    return Chip(capability=(found.major, found.minor), processors=found.multi_processor_count, shared=shared)


def _imprecise(call: Call, tile: Tile) -> int | None:
    """Terms of 8-bit products that Hopper adds up in its short sums; None for the device's fast mode."""
    return None if call.fast or call.a.element_size() > 1 else min(128, tile.k)


def _besides(call: Call, instead: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bias and scales; a tensor that is not read stands for what there is none of."""
    left, right = call.scales or (instead, instead)
    return instead if call.bias is None else call.bias.contiguous(), left, right


def _ceil(a: int, b: int) -> int:
    return -(-a // b)

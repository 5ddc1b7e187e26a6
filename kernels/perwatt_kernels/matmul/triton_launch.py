"""Launching products in Triton on tensors in whatever strides they come, by the tile that is chosen for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import torch
from torch import Tensor

from perwatt_kernels.matmul.triton_kernels import perwatt_matmul, perwatt_matmul_sum, perwatt_matmul_tma
from perwatt_kernels.matmul.triton_tiles import INTERPRETER, Chip, Tile, Work, candidates
from perwatt_kernels.triton_choice import tile_for
from perwatt_kernels.triton_site import interpreted

ABOUT = "matmul/triton"
ALIGNED = 16  # bytes: what a descriptor wants of its base and of all strides but the innermost, which is one element
SUM = (8, 256)  # tile of the kernel that adds splits up


@dataclass(frozen=True, kw_only=True)
class Call:
    """A product to launch.

    Attributes:
        a: [m, k] or [batch, m, k], any strides.
        b: [k, n] or [batch, k, n], any strides.
        output: format of the result.
        compute: ``fp32``, ``tf32``, or what the operands' own format is called.
        bias: [n], added to each row.
        scales: float32 and contiguous, of ``a`` [.., 1, 1] or [.., m, 1] and of ``b`` [.., 1, 1] or [.., 1, n].
        after: ``none``, ``gelu_tanh``, or ``swiglu``, which makes one column of each two, a gate and its up.
        fast: whether sums of 8-bit products may be as short as the device's fast mode has them.
    """

    a: Tensor
    b: Tensor
    output: torch.dtype
    compute: str
    bias: Tensor | None = None
    scales: tuple[Tensor, Tensor] | None = None
    after: str = "none"
    fast: bool = True

    @property
    def extents(self) -> tuple[int, int, int, int]:
        """Batch, rows, columns, depth."""
        return self.a.shape[0] if self.a.dim() == 3 else 1, self.a.shape[-2], self.b.shape[-1], self.a.shape[-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        columns = self.b.shape[-1] // 2 if self.after == "swiglu" else self.b.shape[-1]
        return (*self.a.shape[:-1], columns)

    @cached_property
    def work(self) -> Work:
        """What a choice of tiles depends on."""
        batch, m, n, k = self.extents
        size, out = self.a.element_size(), self.output.itemsize
        kind = {1: "fp8" if self.fast else "fp8_exact", 2: "half"}.get(size, self.compute)
        leaves = self.shape[-1] * out % ALIGNED == 0 and n % 4 == 0  # whole, and as sums of splits
        described = leaves and turned(self.a) is not None and turned(self.b) is not None
        return Work(m=m, n=n, k=k, batch=batch, kind=kind, size=size, out=out, described=described)


def turned(x: Tensor) -> bool | None:
    """Whether a matrix lies by columns; None where a descriptor cannot reach it."""
    if x.dim() != 2 or 0 in x.shape or x.data_ptr() % ALIGNED:
        return None
    for answer, outer, inner in ((False, 0, 1), (True, 1, 0)):
        apart = x.stride(outer)
        if x.stride(inner) == 1 and apart * x.element_size() % ALIGNED == 0 and apart >= x.shape[inner]:
            return answer
    return None


def multiply(call: Call) -> Tensor:
    """The product by the fastest tile, which is measured at the first call of a shape."""
    return launch(call, tile_for(ABOUT, _question(call), call.a.device, _tiles(call), partial(launch, call)))


def _question(call: Call) -> tuple[tuple[str, object], ...]:
    """All that the choice of a tile depends on beside the device."""
    batch, m, n, k = call.extents
    return (
        ("m", m), ("n", n), ("k", k), ("batch", batch), ("kind", call.work.kind), ("described", call.work.described),
        ("a", _stored(call.a)), ("b", _stored(call.b)), ("output", str(call.output)), ("after", call.after),
        ("bias", call.bias is not None), ("scales", _epilogue(call)["SCALES"]),
    )  # fmt: skip


def _stored(x: Tensor) -> str:
    return f"{x.dtype} by {'rows' if x.stride(-1) == 1 else 'columns' if x.stride(-2) == 1 else 'neither'}"


def _tiles(call: Call) -> Sequence[Tile]:
    return _candidates(call.work, chip(call.a.device))


_candidates = cache(candidates)


def launch(call: Call, tile: Tile) -> Tensor:
    """The product, in a new contiguous tensor.

    Args:
        call: what to compute.
        tile: how it is cut; one with descriptors only where ``call.work`` is described.
    """
    result = torch.empty(call.shape, dtype=call.output, device=call.a.device)
    if result.numel():
        if call.a.is_cuda:
            with torch.cuda.device(call.a.device):
                _launch(call, tile, result)
        else:
            _launch(call, tile, result)
    return result


def _launch(call: Call, tile: Tile, result: Tensor) -> None:
    batch, m, n, _ = call.extents
    if tile.splits == 1:
        _products(call, tile, result)
        return
    parts = torch.empty((tile.splits, batch, m, n), dtype=torch.float32, device=result.device)
    _products(call, tile, parts)
    rows, columns = (64, 64) if interpreted() else SUM
    perwatt_matmul_sum[(batch * _ceil(m, rows) * _ceil(n, columns),)](
        parts, result, *_besides(call, result), m, n, parts.stride(0), parts.stride(1), m * result.shape[-1],
        result.shape[-1], BLOCK_M=rows, BLOCK_N=columns, SPLITS=tile.splits, num_warps=4, **_epilogue(call),
    )  # fmt: skip


def _products(call: Call, tile: Tile, to: Tensor) -> None:
    """Launch the tiles of a product, or of its splits."""
    batch, m, n, k = call.extents
    tiles = _ceil(m, tile.m) * _ceil(n, tile.n) * tile.splits
    shared: dict[str, Any] = {
        "BLOCK_M": tile.m, "BLOCK_N": tile.n, "BLOCK_K": tile.k, "GROUP": tile.group, "SPLITS": tile.splits,
        "PRECISION": "ieee" if call.compute == "fp32" else "tf32", "IMPRECISE": _imprecise(call, tile),
        "num_warps": tile.warps, "num_stages": tile.stages, **_epilogue(call),
    }  # fmt: skip
    if tile.persistent:
        halves = tile.n >= 64
        width = tile.n // 2 if call.after == "swiglu" and tile.splits == 1 else tile.n
        descriptors = (
            _described(call.a, tile.m, tile.k), _described(call.b, tile.k, tile.n),
            _described(to.flatten(0, -2), tile.m, width // 2 if halves else width),
        )  # fmt: skip
        perwatt_matmul_tma[(min(tiles, chip(call.a.device).processors),)](
            *descriptors, *_besides(call, to), m, n, k, A_TURNED=turned(call.a), B_TURNED=turned(call.b), HALVES=halves,
            SPECIALIZE=tile.variant == "specialized", **shared,
        )  # fmt: skip
        return
    a, b = (x if x.dim() == 3 else x[None] for x in (call.a, call.b))
    columns = to.shape[-1]
    perwatt_matmul[(tiles * batch,)](
        a, b, to, *_besides(call, to), m, n, k, *a.stride(), *b.stride(), batch * m * columns, m * columns, columns,
        EVEN_M=m % tile.m == 0, EVEN_N=n % tile.n == 0, EVEN_K=k % tile.k == 0, **shared,
    )  # fmt: skip


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


def _described(x: Tensor, rows: int, columns: int) -> Any:
    """A descriptor of blocks of a matrix as it is stored."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    stored, block = (x.mT, [columns, rows]) if turned(x) else (x, [rows, columns])
    return TensorDescriptor(stored, list(stored.shape), list(stored.stride()), block)


def _imprecise(call: Call, tile: Tile) -> int | None:
    """Terms of 8-bit products that Hopper adds up in its short sums; None for the device's fast mode."""
    return None if call.fast or call.a.element_size() > 1 else min(128, tile.k)


def _epilogue(call: Call) -> dict[str, Any]:
    scales = "none" if call.scales is None else "tensor" if _one(call.scales[0]) and _one(call.scales[1]) else "row"
    return {"SCALES": scales, "BIAS": call.bias is not None, "AFTER": call.after, "INTERPRETED": interpreted()}


def _one(scale: Tensor) -> bool:
    return scale.shape[-1] == scale.shape[-2] == 1


def _besides(call: Call, instead: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bias and scales; a tensor that is not read stands for what there is none of."""
    left, right = call.scales or (instead, instead)
    return instead if call.bias is None else call.bias.contiguous(), left, right


def _ceil(a: int, b: int) -> int:
    return -(-a // b)

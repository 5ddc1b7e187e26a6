"""A product to launch: its operands in whatever strides they come, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from perwatt_kernels.matmul.triton_tiles import Work

ALIGNED = 16  # bytes: what a descriptor wants of its base and of all strides but the innermost, which is one element


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

    @property
    def granularity(self) -> str:
        """Of the scales: ``none``, ``tensor``, ``row``."""
        if self.scales is None:
            return "none"
        return "tensor" if all(scale.shape[-1] == scale.shape[-2] == 1 for scale in self.scales) else "row"

    @property
    def key(self) -> tuple[object, ...]:
        """All that the way of launching depends on, quickly."""
        return (*_key(self.a), *_key(self.b), self.bias is None, self.granularity, self.output, self.compute,
                self.after, self.fast, self.a.device)  # fmt: skip

    @property
    def question(self) -> tuple[tuple[str, object], ...]:
        """All that the choice of a tile depends on beside the device, in words that mean the same tomorrow."""
        batch, m, n, k = self.extents
        return (
            ("m", m), ("n", n), ("k", k), ("batch", batch), ("kind", self.work.kind),
            ("described", self.work.described), ("a", _stored(self.a)), ("b", _stored(self.b)),
            ("output", str(self.output)), ("after", self.after), ("bias", self.bias is not None),
            ("scales", self.granularity),
        )  # fmt: skip

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


def _key(x: Tensor) -> tuple[object, ...]:
    return x.shape, x.stride(), x.dtype, x.data_ptr() % ALIGNED


def _stored(x: Tensor) -> str:
    return f"{x.dtype} by {'rows' if x.stride(-1) == 1 else 'columns' if x.stride(-2) == 1 else 'neither'}"

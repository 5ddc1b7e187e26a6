"""``NkiTensor``: a view of a storage, by shape, strides and offset (get-started/nki-language-guide, tensor values).

Views are made of numbers alone, so they cost the same whether or not anything is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from types import EllipsisType
from typing import Any

from perwatt_kernels.nki_interpreter.errors import Rejected, reject
from perwatt_kernels.nki_interpreter.formats import Array, format_of
from perwatt_kernels.nki_interpreter.storage import NEVER, Box, Storage

PAGE = "api/nki/language NkiTensor"
ON_CHIP = ("sbuf", "psum")


class Ds:
    """``nl.ds``: a slice by its start and size."""

    def __init__(self, start: int, size: int) -> None:
        self.start, self.size = start, size


class NkiTensor:
    """A tensor in SBUF, PSUM or HBM. On chip the first axis is the partition, and stays first."""

    __slots__ = ("_box", "_free", "dtype", "offset", "shape", "size_bytes", "storage", "strides")

    def __init__(
        self, storage: Storage, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0
    ) -> None:
        self.storage, self.dtype, self.shape, self.strides, self.offset = storage, dtype, shape, strides, offset
        self.size_bytes = format_of(dtype).bytes
        self._box: Box | None = None
        self._free = 0  # counted when it is asked for

    @property
    def buffer(self) -> str:
        """The memory region."""
        return self.storage.region

    @property
    def name(self) -> str:
        """As allocated."""
        return self.storage.name

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def on_chip(self) -> bool:
        """Whether it is in SBUF or PSUM."""
        return self.storage.region in ON_CHIP

    @property
    def partitions(self) -> int:
        """Length of the partition axis."""
        return self.shape[0]

    @property
    def free(self) -> int:
        """Elements of a partition."""
        if not self._free:
            self._free = prod(self.shape[1:])
        return self._free

    @property
    def start(self) -> int:
        """First partition that it lies in."""
        return self.storage.start + self.offset * self.size_bytes // self.storage.strides[0]

    @property
    def box(self) -> Box:
        """The part of the storage that it can touch."""
        if self._box is None:
            size = self.size_bytes
            axes = [(length, stride * size) for length, stride in zip(self.shape, self.strides, strict=True)]
            self._box = self.storage.box(self.offset * size, axes, size)
        return self._box

    @property
    def inner(self) -> int:
        """Bytes from an element to its neighbour along the last axis that is longer than one."""
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size > 1:
                return stride * self.size_bytes
        return self.size_bytes

    def run(self) -> int:
        """Elements of the longest stretch of memory without a gap that its last axes make up."""
        length = 1
        axes = list(zip(self.shape, self.strides, strict=True))[1 if self.on_chip else 0 :]
        for size, stride in reversed(axes):
            if size > 1 and stride != length:
                break
            length *= size
        return length

    def values(self) -> Array:
        """The elements, as stored."""
        return self.storage.view(format_of(self.dtype).stored, self.shape, self.strides, self.offset)

    def marks(self) -> Array:
        """Of each byte, how it was written."""
        return self.storage.window(self.size_bytes, self.shape, self.strides, self.offset)

    def read(self, where: str) -> Array:
        """The elements.

        Raises:
            Rejected: some were never written.
        """
        unwritten = int((self.marks() == NEVER).any(axis=-1).sum())
        if unwritten:
            raise Rejected(f"{where}: {unwritten} of {self.size} elements of {self.name!r} were never written")
        return self.values()

    def is_contiguous(self) -> bool:
        """Whether its elements follow each other without a gap, on chip those of a partition."""
        return self.run() == (self.free if self.on_chip else self.size)

    def get_pattern(self) -> list[list[int]]:
        """Stride and count of each axis."""
        return [[stride, size] for size, stride in zip(self.shape, self.strides, strict=True)]

    def _view(self, shape: Sequence[int], strides: Sequence[int], offset: int | None = None) -> NkiTensor:
        return NkiTensor(
            self.storage, self.dtype, tuple(shape), tuple(strides), self.offset if offset is None else offset
        )

    def __getitem__(self, key: Any) -> NkiTensor:
        keys = list(key) if isinstance(key, tuple) else [key]
        if any(isinstance(one, EllipsisType) for one in keys):
            at = next(i for i, one in enumerate(keys) if isinstance(one, EllipsisType))
            keys[at : at + 1] = [slice(None)] * (self.ndim - len(keys) + 1)
        if len(keys) > self.ndim:
            raise reject("index", f"{len(keys)} indices", f"at most {self.ndim}", PAGE)
        keys += [slice(None)] * (self.ndim - len(keys))
        shape, strides, offset, dropped = [], [], self.offset, 0
        for axis, (one, size, stride) in enumerate(zip(keys, self.shape, self.strides, strict=True)):
            start, stop, step, drop = _bounds(one, size)
            offset += start * stride
            if drop and not (self.on_chip and axis == 0):
                dropped = stride
                continue
            shape.append(-(-(stop - start) // step))
            strides.append(stride * step)
        if len(shape) < (2 if self.on_chip else 1):
            shape.append(1)
            strides.append(dropped or 1)
        return self._view(shape, strides, offset)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise Rejected("assignment to a tensor: no instruction does that; use tensor_copy or dma_copy (isa)")

    def __iter__(self) -> Any:
        raise Rejected("iteration over a tensor is not in the language; loop over a range (nki-language-guide)")

    def slice(self, dim: int, start: int, end: int, step: int = 1) -> NkiTensor:
        """Part of one axis."""
        return self[tuple(slice(start, end, step) if axis == dim else slice(None) for axis in range(self.ndim))]

    def select(self, dim: int, index: int) -> NkiTensor:
        """One place of one axis, which goes away."""
        return self[tuple(index if axis == dim else slice(None) for axis in range(self.ndim))]

    def permute(self, dims: Sequence[int]) -> NkiTensor:
        """Axes in another order; on chip the partition stays first."""
        if sorted(dims) != list(range(self.ndim)) or (self.on_chip and dims[0] != 0):
            raise reject("permute", tuple(dims), "an order of all axes, the partition first on chip", PAGE)
        return self._view([self.shape[dim] for dim in dims], [self.strides[dim] for dim in dims])

    def broadcast(self, dim: int, size: int) -> NkiTensor:
        """An axis of length one repeated; not the partition on chip."""
        if self.shape[dim] != 1 or (self.on_chip and dim == 0):
            raise reject("broadcast", f"axis {dim} of {self.shape}", "a free axis of length 1", PAGE)
        shape, strides = list(self.shape), list(self.strides)
        shape[dim], strides[dim] = size, 0
        return self._view(shape, strides)

    def expand_dim(self, dim: int) -> NkiTensor:
        """A new axis of length one; not before the partition on chip."""
        if self.on_chip and dim == 0:
            raise reject("expand_dim", "axis 0 on chip", "a free axis", PAGE)
        shape, strides = list(self.shape), list(self.strides)
        shape.insert(dim, 1)
        strides.insert(dim, strides[dim] * self.shape[dim] if dim < self.ndim else 1)
        return self._view(shape, strides)

    def squeeze_dim(self, dim: int) -> NkiTensor:
        """Without an axis of length one."""
        if self.shape[dim] != 1 or (self.on_chip and dim == 0):
            raise reject("squeeze_dim", f"axis {dim} of {self.shape}", "a free axis of length 1", PAGE)
        return self._view(
            [size for axis, size in enumerate(self.shape) if axis != dim],
            [stride for axis, stride in enumerate(self.strides) if axis != dim],
        )

    def reshape_dim(self, dim: int, shape: Sequence[int]) -> NkiTensor:
        """One axis split into several."""
        known = prod(size for size in shape if size != -1)
        sizes = [self.shape[dim] // known if size == -1 else size for size in shape]
        if prod(sizes) != self.shape[dim] or (self.on_chip and dim == 0 and len(sizes) > 1):
            raise reject("reshape_dim", f"{self.shape[dim]} as {tuple(shape)}", "its factors, on a free axis", PAGE)
        steps: list[int] = []
        step = self.strides[dim]
        for size in reversed(sizes):
            steps.insert(0, step)
            step *= size
        return self._view(
            [*self.shape[:dim], *sizes, *self.shape[dim + 1 :]], [*self.strides[:dim], *steps, *self.strides[dim + 1 :]]
        )

    def flatten_dims(self, start_dim: int, end_dim: int) -> NkiTensor:
        """Neighbouring axes without a gap between them made one."""
        for axis in range(start_dim, end_dim):
            if self.strides[axis] != self.strides[axis + 1] * self.shape[axis + 1] and self.shape[axis] > 1:
                raise reject("flatten_dims", f"strides {self.strides} of {self.shape}", "axes without a gap", PAGE)
        if self.on_chip and start_dim == 0:
            raise reject("flatten_dims", "the partition axis", "free axes", PAGE)
        merged = prod(self.shape[start_dim : end_dim + 1])
        return self._view(
            [*self.shape[:start_dim], merged, *self.shape[end_dim + 1 :]],
            [*self.strides[:start_dim], self.strides[end_dim], *self.strides[end_dim + 1 :]],
        )

    def reshape(self, shape: Sequence[int]) -> NkiTensor:
        """The same elements in another shape; on chip the partition stays as it is."""
        if prod(shape) != self.size or (self.on_chip and shape[0] != self.shape[0]):
            raise reject("reshape", f"{self.shape} as {tuple(shape)}", "as many elements, and partitions", PAGE)
        if not self.is_contiguous():
            raise reject("reshape", f"strides {self.strides}", "elements without a gap", PAGE)
        kept = 1 if self.on_chip else 0
        strides: list[int] = []
        step = 1
        for size in reversed(shape[kept:]):
            strides.insert(0, step)
            step *= size
        return self._view(shape, [*self.strides[:kept], *strides])

    def ap(self, pattern: Sequence[Sequence[int]], offset: int | None = None, dtype: str | None = None) -> NkiTensor:
        """An access pattern of its own: (stride, count) of each axis, in elements of the storage."""
        base = self if dtype is None else self.view(dtype)
        if self.on_chip and pattern[0][0] != base.strides[0] and pattern[0][1] > 1:
            raise reject("ap", f"partition stride {pattern[0][0]}", f"{base.strides[0]}", PAGE)
        return base._view([count for _, count in pattern], [stride for stride, _ in pattern],
                          base.offset + (offset or 0))  # fmt: skip

    def view(self, dtype: str) -> NkiTensor:
        """The same bytes as another format; the last axis grows or shrinks."""
        old, new = self.size_bytes, format_of(dtype).bytes
        last, step = self.shape[-1], self.strides[-1]
        if (last > 1 and step != 1) or last * old % new or self.offset * old % new:
            raise reject("view", f"{last} of {self.dtype} as {dtype}", "whole elements without a gap", PAGE)
        strides = [stride * old // new for stride in self.strides[:-1]]
        return NkiTensor(self.storage, dtype, (*self.shape[:-1], last * old // new), (*strides, 1),
                         self.offset * old // new)  # fmt: skip


def _bounds(key: Any, size: int) -> tuple[int, int, int, bool]:
    """Start, stop, step of an index within an axis, and whether the axis goes away."""
    if isinstance(key, Ds):
        key = slice(key.start, key.start + key.size)
    if isinstance(key, slice):
        start = 0 if key.start is None else int(key.start) + (size if key.start < 0 else 0)
        stop = size if key.stop is None else int(key.stop) + (size if key.stop < 0 else 0)
        step = 1 if key.step is None else int(key.step)
        if not (
            0 <= start < stop <= size and step >= 1
        ):  # the language has no clipping: an edge tile is a shorter slice
            raise reject("slice", f"{key.start}:{key.stop}:{key.step} of {size}", f"a part of 0:{size}", PAGE)
        return start, stop, step, False
    if not hasattr(key, "__index__"):
        raise reject("index", type(key).__name__, "an integer, a slice or nl.ds", PAGE)
    at = key.__index__() + (size if key.__index__() < 0 else 0)
    if not 0 <= at < size:
        raise reject("index", key, f"0 to {size - 1}", PAGE)
    return at, at + 1, 1, True

"""A piece of memory: its bytes, which of them were written and by what, and which instructions used it."""

from __future__ import annotations

from typing import Any

import numpy as np

from perwatt_kernels.nki_interpreter.formats import Array

NEVER, WRITTEN, PRODUCT = 0, 1, 2  # marks of a byte: never written, written, written by the tensor engine
Box = tuple[tuple[int, int], ...]  # first and last place in each dimension, the last one in bytes


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes of one storage share a byte."""
    for (low, high), (other_low, other_high) in zip(a, b, strict=True):
        if high < other_low or other_high < low:
            return False
    return True


def covers(a: Box, b: Box) -> bool:
    """Whether the first box has all of the second."""
    for (low, high), (other_low, other_high) in zip(a, b, strict=True):
        if low > other_low or high < other_high:
            return False
    return True


class Storage:
    """Memory that a tensor and all views of it share.

    Attributes:
        region: ``sbuf``, ``psum``, ``private_hbm``, ``shared_hbm``.
        shape: as allocated, the last dimension in bytes.
        address: first byte of it in each partition; 0 in HBM.
        start: first partition; 0 in HBM.
        data: its bytes; None where nothing is computed. New memory is 0xFF, which is NaN in every float format.
        marks: of each byte, ``NEVER``, ``WRITTEN`` or ``PRODUCT``.
        writers: boxes written, each with the instruction that did it last.
        readers: boxes read since, by engine, each with the instruction that did it last.
        given: instructions that used this memory under another name, and that its first use waits for.
        fences: the last barrier of each core, which all later uses wait for.
        touched: of memory that both cores see, the boxes that each core read, and wrote, since the last barrier.
    """

    __slots__ = (
        "__weakref__", "address", "data", "fences", "given", "marks", "name", "readers", "region", "shape", "start",
        "strides", "touched", "writers",
    )  # fmt: skip

    def __init__(
        self, name: str, region: str, shape: tuple[int, ...], *, values: bool, address: int = 0, start: int = 0
    ) -> None:
        self.name, self.region, self.shape, self.address, self.start = name, region, shape, address, start
        strides = [1]
        for size in reversed(shape[1:]):
            strides.insert(0, strides[0] * size)
        self.strides = tuple(strides)
        self.data: Array | None = None
        self.marks: Array | None = None
        if values:
            total = int(np.prod(shape, dtype=np.int64))
            self.data = np.full(total, 0xFF, np.uint8)
            self.marks = np.zeros(total, np.uint8)
        self.writers: dict[Box, int] = {}
        self.readers: dict[tuple[Box, str], int] = {}
        self.given: tuple[int, ...] = ()
        self.fences: dict[int, int] = {}
        self.touched: dict[tuple[int, str], list[Box]] = {}

    def fill(self, values: Array) -> None:
        """Write a whole array into it, as the caller of a kernel does."""
        if self.data is not None and self.marks is not None:
            self.data[:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            self.marks[:] = WRITTEN

    def box(self, first: int, axes: list[tuple[int, int]], size: int) -> Box:
        """The smallest box around a view: its first byte, (length, stride in bytes) of its axes, bytes of an element.

        A view that runs over the end of one of the storage's dimensions, as after a reshape, is taken for all of it.
        """
        low = []
        for stride in self.strides:
            place, first = divmod(first, stride)
            low.append(place)
        high = list(low)
        high[-1] += size - 1
        for length, step in axes:
            if length > 1 and step:
                dim = next(dim for dim, stride in enumerate(self.strides) if stride <= step)
                high[dim] += (length - 1) * step // self.strides[dim]
                if step % self.strides[dim]:
                    return tuple((0, size - 1) for size in self.shape)
        if any(place >= size for place, size in zip(high, self.shape, strict=True)):
            return tuple((0, size - 1) for size in self.shape)
        return tuple(zip(low, high, strict=True))

    def read(self, box: Box, index: int, engine: str) -> set[int]:
        """Note that an instruction reads a box; the instructions that wrote it.

        Of readers on one engine, which keeps their order, the last one counts for all.
        """
        before = {writer for written, writer in self.writers.items() if overlap(written, box)}
        before.update(self.fences.values())
        if self.region in ("sbuf", "psum") or self.writers:
            self.readers[box, engine if engine != "dma" else str(index)] = index
        return before

    def write(self, box: Box, index: int) -> set[int]:
        """Note that an instruction writes a box; the instructions that wrote or read it before."""
        before = {*self.given, *self.fences.values()}
        for written, writer in list(self.writers.items()):
            if overlap(written, box):
                before.add(writer)
                if covers(box, written):
                    del self.writers[written]
        for key, reader in list(self.readers.items()):
            if overlap(key[0], box):
                before.add(reader)
                if covers(box, key[0]):
                    del self.readers[key]
        self.writers[box] = index
        return before

    def users(self) -> tuple[int, ...]:
        """Instructions that whoever gets this memory next has to wait for."""
        return tuple({*self.writers.values(), *self.readers.values()})

    def view(self, of: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Array:
        """A window of the data in a format; strides and offset in its elements."""
        size = of.itemsize
        return np.ndarray(shape, of, self.data, offset * size, tuple(stride * size for stride in strides))

    def window(self, size: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Array:
        """The same of the marks, with a last axis for an element's bytes."""
        steps = (*(stride * size for stride in strides), 1)
        return np.ndarray((*shape, size), np.uint8, self.marks, offset * size, steps)

"""SBUF, PSUM and HBM of a core: what is free, what lies where, and who waits for whom when memory is used again.

A tensor lives as long as the kernel can reach it. SBUF is counted in bytes of a partition, whichever partitions a
tensor has; PSUM is given out in whole banks, one after the other. Memory never used before goes first, then what has
been free for longest, and whoever gets it waits for those who used it.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Mapping
from math import prod
from typing import Any

from perwatt_kernels.nki_interpreter.errors import Rejected, reject
from perwatt_kernels.nki_interpreter.hardware import Generation
from perwatt_kernels.nki_interpreter.storage import Storage


class Sbuf:
    """Bytes of a partition of SBUF."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.size = self.fresh = generation.sbuf_partition
        self.freed: deque[tuple[int, tuple[int, ...]]] = deque()
        self.live: dict[int, tuple[str, int]] = {}

    def place(self, storage: Storage) -> None:
        """Find room for a tensor.

        Raises:
            Rejected: there is none.
        """
        wanted, given = prod(storage.shape[1:]), list[int]()
        missing = wanted - self.fresh
        self.fresh = max(self.fresh - wanted, 0)
        while missing > 0 and self.freed:
            size, users = self.freed.popleft()
            given += users
            if size > missing:
                self.freed.appendleft((size - missing, users))
            missing -= size
        if missing > 0:
            held = sum(size for _, size in self.live.values())
            page = f"{self.generation.core} guide, {len(self.live)} tensors hold {held} B"
            raise reject(
                f"sbuf: {storage.name!r}", f"{wanted} B of each partition", f"at most {wanted - missing} B", page
            )
        storage.given = tuple(given)
        self.live[id(storage)] = (storage.name, wanted)
        weakref.finalize(storage, self._free, id(storage), wanted, storage.writers, storage.readers)

    def _free(self, key: int, size: int, *used: Mapping[Any, int]) -> None:
        del self.live[key]
        self.freed.append((size, tuple({index for entries in used for index in entries.values()})))


class Psum:
    """Banks of PSUM."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.free: dict[int, tuple[int, ...]] = dict.fromkeys(range(generation.psum_banks), ())

    def place(self, storage: Storage, bank: int | None = None) -> None:
        """Find neighbouring banks for a tensor, or take those that a kernel names.

        Raises:
            Rejected: they are not free.
        """
        bytes_each, size = self.generation.psum_bank, prod(storage.shape[1:])
        count = -(-size // bytes_each)
        starts = list(self.free) if bank is None else [bank]
        for start in starts:
            banks = range(start, start + count)
            if all(one in self.free for one in banks):
                storage.address = start * bytes_each
                storage.given = tuple(index for one in banks for index in self.free.pop(one))
                weakref.finalize(storage, self._free, banks, storage.writers, storage.readers)
                return
        wanted = f"{count} banks" if bank is None else f"bank {bank}"
        raise reject(f"psum: {storage.name!r}", wanted, f"some of {sorted(self.free) or 'none'}, which are free",
                     f"{self.generation.core} guide: {self.generation.psum_banks} banks of {bytes_each} B")  # fmt: skip

    def _free(self, banks: range, *used: Mapping[Any, int]) -> None:
        users = tuple({index for entries in used for index in entries.values()})
        for bank in banks:
            self.free[bank] = users


def shape_checked(shape: object, generation: Generation, region: str) -> tuple[int, ...]:
    """A shape that a tensor can have.

    Raises:
        Rejected: it has none, or more partitions than there are.
    """
    sizes = tuple(int(size) for size in shape) if isinstance(shape, (tuple, list)) else ()
    if not sizes or min(sizes) < 1:
        raise Rejected(
            f"ndarray: found shape {shape!r}, expected positive sizes (nki-language-guide, creating tensors)"
        )
    if region in ("sbuf", "psum"):
        if len(sizes) < 2:
            raise reject("ndarray", f"shape {sizes} on chip", "the partition axis and a free one", "nki-language-guide")
        if sizes[0] > generation.partitions:
            raise reject("ndarray", f"{sizes[0]} partitions", f"at most {generation.partitions}", "v2 guide")
    return sizes

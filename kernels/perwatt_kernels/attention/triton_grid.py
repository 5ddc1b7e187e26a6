"""Which program of a launch of attention takes which tile: see ``turn`` and ``place`` of ``triton_tile.py``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import triton
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Programs of a launch.

    Attributes:
        tiles: of a head.
        heads: of all sequences.
        section: heads whose programs run together, so that the cache holds what they share.
        table: int32 [tiles, 3] of packed documents, else any tensor.
    """

    tiles: int
    heads: int
    section: int
    table: Tensor

    @classmethod
    def over(cls, tensor: Tensor, lengths: tuple[int, ...], block: int, last_first: bool, shared: Tensor) -> Grid:
        """Tiles of so many rows of each head of a tensor.

        Args:
            tensor: [batch, heads, length, head_dim].
            lengths: of its documents, if any.
            block: rows of a tile.
            last_first: whether the last tile of a document has most to do.
            shared: keys or queries that programs of a head go over.
        """
        heads = tensor.shape[0] * tensor.shape[1]
        section = min(
            heads, max(1, _held(tensor.device) * tensor.shape[1] // (shared[0].numel() * 2 * shared.element_size()))
        )
        if not lengths:
            return cls(tiles=triton.cdiv(tensor.shape[2], block), heads=heads, section=section, table=tensor)
        table = _table(lengths, block, last_first, tensor.device)
        return cls(tiles=table.shape[0], heads=heads, section=section, table=table)

    @property
    def programs(self) -> tuple[int]:
        """Shape of the grid."""
        return (self.tiles * self.heads,)


@lru_cache(maxsize=64)
def _table(lengths: tuple[int, ...], block: int, last_first: bool, device: torch.device) -> Tensor:
    """First row, start and end of document of each tile, those first that have most to do."""
    found, start = [], 0
    for length in lengths:
        for at in range(0, length, block):
            work = at + block if last_first else length - at
            found.append((work, start + at, start, start + length))
        start += length
    found.sort(key=lambda entry: -entry[0])
    return torch.tensor([entry[1:] for entry in found], dtype=torch.int32).to(device)


@lru_cache
def _held(device: torch.device) -> int:
    """Bytes of keys and values that the second-level cache may hold beside the rest: half of it."""
    return 2**20 if device.type != "cuda" else int(torch.cuda.get_device_properties(device).L2_cache_size) // 2

"""How the Triton kernels of attention are cut into tiles, by capability, format and head dim: a few candidates each.

The first candidate of each list has the least shared memory and registers, and works from compute capability 8.0 on;
the others are tried where the chip may have room. One that does not fit is passed over
(:mod:`perwatt_kernels.triton_choice`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache

HOPPER = (9, 0)
Capability = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """How one kernel is cut and launched.

    Attributes:
        rows: queries of a tile or a step.
        columns: keys of a step or a tile.
        warps: of 32 threads, for a tile.
        stages: steps whose loads are under way at once.
        registers: of a thread at most, so that another tile fits beside it; 0 for as many as it takes.
        tma: whether the tensor memory accelerator loads tiles, by descriptors.
        splits: programs that share the heads of queries to a tile of keys; their sums are added afterwards.
    """

    rows: int
    columns: int
    warps: int
    stages: int
    registers: int = 0
    tma: bool = False
    splits: int = 1

    @property
    def name(self) -> str:
        """Such as ``128x64w8s3-tma``."""
        most = f"r{self.registers}" if self.registers else ""
        marks = ["tma"] * self.tma + ([f"split{self.splits}"] if self.splits > 1 else [])
        return "-".join([f"{self.rows}x{self.columns}w{self.warps}s{self.stages}{most}", *marks])


SMALL = Tile(rows=32, columns=32, warps=4, stages=1)
"""What any chip has room for, and what the interpreter is given."""


@cache
def forward(width: int, bits: int, capability: Capability, tma: bool) -> tuple[Tile, ...]:
    """Candidates for the forward.

    Args:
        width: head dim up to a power of two.
        bits: of an element.
        capability: of the device.
        tma: whether descriptors can be made of the operands.
    """
    if bits > 16:
        return _tiles("32x32w4s1", "64x32w4s2", "64x64w8s2")
    if width > 128:
        found = _tiles("64x32w4s1", "64x32w4s2", "64x64w4s2", "128x32w8s2", "128x64w8s2")
    elif width > 64:
        found = _tiles("64x32w4s2", "128x64w8s2r128", "128x64w8s3", "128x128w8s2", "64x64w4s2r128")
    else:
        found = _tiles("64x32w4s2", "128x64w4s3", "128x64w8s3r128", "128x128w8s3", "64x64w4s3")
    return _with_tma(found, capability, tma)


@cache
def keys(width: int, bits: int, capability: Capability, tma: bool, group: int, busy: bool) -> tuple[Tile, ...]:
    """Candidates for the gradients of keys and values.

    Args:
        width: as of :func:`forward`.
        bits: the same.
        capability: the same.
        tma: the same.
        group: heads of queries to a head of keys.
        busy: whether tiles of all heads of keys fill the device, so that none need be shared out.
    """
    if bits > 16:
        found = _tiles("32x32w4s1", "32x64w8s1")
    elif width > 64:
        found = _tiles("32x64w4s1", "64x64w4s2", "64x64w8s2", "64x128w8s2", "32x128w8s2")
    else:
        found = _tiles("32x64w4s2", "64x64w4s3", "64x128w4s2", "64x128w8s3", "128x128w8s2")
    found = _with_tma(found, capability, tma and bits <= 16)
    if group > 1 and not busy:
        found += tuple(replace(tile, splits=group) for tile in found[-3:])
    return found


@cache
def queries(width: int, bits: int, capability: Capability, tma: bool) -> tuple[Tile, ...]:
    """Candidates for the gradient of queries; arguments as of :func:`forward`."""
    if bits > 16:
        return _tiles("32x32w4s1", "64x32w8s1")
    if width > 64:
        found = _tiles("64x32w4s1", "64x64w4s2", "128x64w8s2", "128x64w8s3", "128x32w8s3")
    else:
        found = _tiles("64x32w4s2", "64x64w4s3", "128x64w4s2", "128x64w8s3", "128x128w8s2")
    return _with_tma(found, capability, tma)


def _tiles(*names: str) -> tuple[Tile, ...]:
    """Tiles by what their names say of them."""
    made = []
    for name in names:
        rows, columns, warps, stages, registers = map(int, [*re.split("[xwsr]", name), 0][:5])
        made.append(Tile(rows=rows, columns=columns, warps=warps, stages=stages, registers=registers))
    return tuple(made)


def _with_tma(found: tuple[Tile, ...], capability: Capability, tma: bool) -> tuple[Tile, ...]:
    """On Hopper and later the larger tiles come by descriptors, where those can be made; the first stays as it is."""
    if capability < HOPPER or not tma:
        return found
    return found[0], *(replace(tile, tma=True) for tile in found[1:])

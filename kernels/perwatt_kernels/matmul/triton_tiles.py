"""Tiles of the product in Triton: which there are for a device, a format and a shape, likely fastest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

MOST = 8  # tiles that are tried: each compiles
FEW = 3  # of a product that takes microseconds, whose launch costs more than any of them could save
SMALL = 2**29, 2**22  # multiply-adds and bytes of operands of such a one, at most
MOST_SPLITS = 32
GROUPS = (8, 16)  # rows of tiles in a band
FEWEST_STEPS = 4  # along the depth, of one split
RESERVED = 2048  # bytes of shared memory for barriers and whatever an epilogue keeps there
DESCRIPTORS = (9, 0)  # capability from which there is a tensor memory accelerator
WIDE = (9, 0), (12, 0)  # capabilities whose tensor cores read whole tiles from shared memory, of which they have most
BLACKWELL = (10, 0), (12, 0)  # with warp specialization that holds, and sums in a memory of their own
TURNING = 16 * 2**10  # bytes of shared memory through which sums come from there

Shape = tuple[int, int, int, int, int]  # rows, columns, depth, warps, stages
_SHAPES: dict[tuple[str, bool], tuple[Shape, ...]] = {
    # Two groups of four warps, each with 64 rows of 256 columns, hold 128 sums in a thread's 255 registers.
    ("half", True): (
        (128, 256, 64, 8, 4), (128, 256, 64, 8, 3), (256, 128, 64, 8, 4), (128, 128, 64, 8, 4), (128, 128, 64, 4, 4),
        (64, 256, 64, 4, 4), (64, 128, 64, 4, 5),
    ),
    ("fp8", True): (
        (128, 256, 128, 8, 4), (128, 256, 128, 8, 3), (256, 128, 128, 8, 4), (128, 128, 128, 8, 4),
        (64, 256, 128, 4, 4), (64, 128, 128, 4, 5),
    ),
    # Sums that are added up in float32 after every 128 terms are held twice.
    ("fp8_exact", True): (
        (128, 128, 128, 8, 4), (128, 128, 128, 8, 3), (64, 128, 128, 4, 5), (128, 64, 128, 4, 5), (64, 64, 128, 4, 5),
    ),
    ("tf32", True): ((128, 256, 32, 8, 3), (128, 128, 32, 8, 4), (128, 128, 32, 8, 5), (64, 128, 32, 4, 5)),
    ("half", False): (
        (128, 256, 32, 8, 3), (256, 128, 32, 8, 3), (128, 128, 64, 8, 3), (128, 128, 32, 4, 4), (64, 128, 32, 4, 4),
        (64, 64, 64, 4, 4),
    ),
    ("fp8", False): ((128, 128, 64, 8, 3), (128, 128, 64, 4, 4), (64, 128, 64, 4, 4), (64, 64, 128, 4, 3)),
    ("tf32", False): ((128, 128, 32, 8, 3), (128, 64, 32, 4, 4), (64, 64, 32, 4, 4)),
    ("fp32", False): ((64, 64, 32, 4, 3), (128, 64, 16, 4, 3), (128, 128, 16, 8, 3)),
}  # fmt: skip
_SKINNY = {"half": ((64, 128, 4, 4), (128, 64, 4, 5), (128, 128, 4, 3)), "tf32": ((64, 64, 4, 4), (128, 32, 4, 4)),
           "fp8": ((64, 128, 4, 4), (128, 128, 4, 4)), "fp32": ((64, 32, 4, 3), (128, 32, 4, 3))}  # fmt: skip
SKINNY = 32  # rows or columns: below it no tile fills the tensor cores, and the wider operand's bytes take the time


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """What tiles depend on.

    Attributes:
        capability: CUDA's, (0, 0) in the interpreter.
        processors: streaming multiprocessors.
        shared: bytes of shared memory that one program may take.
    """

    capability: tuple[int, int]
    processors: int
    shared: int

    @property
    def blackwell(self) -> bool:
        """Whether it is a Blackwell of a data centre."""
        return BLACKWELL[0] <= self.capability < BLACKWELL[1]


INTERPRETER = Chip(capability=(0, 0), processors=4, shared=2**20)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A product.

    Attributes:
        kind: ``half``, ``tf32``, ``fp32``, ``fp8`` or ``fp8_exact``, whose sums are added up in float32 on the way.
        size: bytes of an element of both operands.
        out: bytes of an element of the result.
        described: whether both operands and the result can be reached by descriptors.
    """

    m: int
    n: int
    k: int
    batch: int
    kind: str
    size: int
    out: int
    described: bool

    @property
    def small(self) -> bool:
        """Whether it takes microseconds."""
        operands = self.size * self.batch * self.k * (self.m + self.n)
        return self.batch * self.m * self.n * self.k <= SMALL[0] and operands <= SMALL[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """How a product is cut.

    Attributes:
        m: rows of a tile.
        n: columns of a tile.
        k: depth of a step.
        group: rows of tiles in a band.
        warps: of a program.
        stages: steps whose operands are under way at one time.
        splits: of the depth; sums of all are added up by another kernel, in a fixed order.
        variant: ``pointers``, ``descriptors`` (persistent, by the tensor memory accelerator) or ``specialized`` (these,
            with warps of their own for loads and for products).
    """

    m: int
    n: int
    k: int
    group: int = 8
    warps: int = 8
    stages: int = 3
    splits: int = 1
    variant: str = "pointers"

    @property
    def name(self) -> str:
        """``128x256x64-g8-w8-s4-descriptors``, and ``-split4``."""
        split = f"-split{self.splits}" if self.splits > 1 else ""
        return f"{self.m}x{self.n}x{self.k}-g{self.group}-w{self.warps}-s{self.stages}-{self.variant}{split}"

    @property
    def persistent(self) -> bool:
        """Whether programs take tile after tile."""
        return self.variant != "pointers"

    def shared(self, work: Work) -> int:
        """Bytes of shared memory: operands of all stages, and half a tile on its way out by a descriptor."""
        out = 4 if self.splits > 1 else work.out
        leaving = self.m * self.n // 2 * out if self.persistent else 0
        return self.stages * (self.m + self.n) * self.k * work.size + leaving + RESERVED

    def cost(self, work: Work, processors: int) -> float:
        """A rough figure to order tiles by: multiply-adds of all rounds of programs, and what is moved for them."""
        tiles = work.batch * _ceil(work.m, self.m) * _ceil(work.n, self.n) * self.splits
        depth = _ceil(_ceil(work.k, self.k), self.splits) * self.k
        each = depth * (self.m * self.n + 64 * (self.m + self.n))
        partial = 32 * work.batch * work.m * work.n * self.splits / processors if self.splits > 1 else 0
        slower = 1.15 if not self.persistent and work.described else 1.0 if self.group == GROUPS[0] else 1.05
        return slower * _ceil(tiles, processors) * each + partial


def candidates(work: Work, chip: Chip) -> list[Tile]:
    """Tiles worth a try, what is likely the fastest first.

    Args:
        work: the product.
        chip: what computes it.
    """
    if chip.capability == INTERPRETER.capability:
        return [_interpreted(work, chip)]
    room = chip.shared - (TURNING if chip.blackwell else 0)
    found = [tile for tile in _all(work, chip) if tile.shared(work) <= room]
    found = sorted(dict.fromkeys(found), key=lambda tile: tile.cost(work, chip.processors))
    plain = [tile for tile in found if not tile.persistent][:1] or [Tile(m=16, n=32, k=32, warps=4, stages=2)]
    most = FEW if work.small else MOST
    return list(dict.fromkeys((*found[: most - 1], *plain)))  # what needs the least of device and compiler is in it


def _interpreted(work: Work, chip: Chip) -> Tile:
    """One small tile, of each variant where it fits, so that tests see them."""
    tile = Tile(m=32, n=32, k=32, variant="descriptors" if work.described else "pointers")
    return next(_split(tile, work, chip), tile)


def _all(work: Work, chip: Chip) -> Iterator[Tile]:
    wide = WIDE[0] <= chip.capability < WIDE[1]
    kind = work.kind if wide or work.kind != "fp8_exact" else "fp8"
    shapes = _SHAPES.get((kind, wide)) or _SHAPES[kind, False]
    for shape in (*_skinny(work), *shapes):
        tile = Tile(m=shape[0], n=shape[1], k=shape[2], warps=shape[3], stages=shape[4])
        variants = [tile]
        if chip.capability >= DESCRIPTORS and work.described and work.kind != "fp32":
            variants += _described(tile, work, chip)
        for variant in variants:
            yield variant
            yield from _split(variant, work, chip)


def _described(tile: Tile, work: Work, chip: Chip) -> Iterator[Tile]:
    """The same by descriptors, in bands of several heights, where there are as many rows of tiles."""
    for group in GROUPS if _ceil(work.m, tile.m) > GROUPS[0] else GROUPS[:1]:
        yield replace(tile, variant="descriptors", group=group)
        if chip.blackwell:
            yield replace(tile, variant="specialized", group=group)


def _skinny(work: Work) -> Iterator[Shape]:
    """Tiles of few rows, or few columns, and a deep step."""
    for wide, depth, warps, stages in _SKINNY[work.kind.removesuffix("_exact")]:
        if work.m <= SKINNY:
            yield _power(work.m), wide, depth, warps, stages
        elif work.n <= SKINNY:
            yield wide, _power(work.n), depth, warps, stages


def _split(tile: Tile, work: Work, chip: Chip) -> Iterator[Tile]:
    """The same with the depth cut, where tiles are too few for all processors or leave many idle in the last round."""
    tiles = work.batch * _ceil(work.m, tile.m) * _ceil(work.n, tile.n)
    most = min(MOST_SPLITS, _ceil(work.k, tile.k) // FEWEST_STEPS)
    wanted = chip.processors // max(1, tiles) if tiles < chip.processors else 2
    rounds = tiles / chip.processors
    if tiles >= chip.processors and rounds / _ceil(tiles, chip.processors) > 0.8:
        return
    if min(most, wanted) > 1 and (not tile.persistent or work.m % tile.m == 0):
        yield replace(tile, splits=min(most, wanted))


def _power(extent: int) -> int:
    """The next power of two, at least 16."""
    return max(16, 1 << (extent - 1).bit_length())


def _ceil(a: int, b: int) -> int:
    return -(-a // b)

"""Tiles of the product in Gluon, likely fastest first."""

from __future__ import annotations

from dataclasses import dataclass

from perwatt_kernels.matmul.triton_tiles import GROUPS, INTERPRETER, RESERVED, Chip, Work

DEPTH_BYTES = 128  # of a step: what the accelerator copies without a second message, and one pattern of banks
MOST_STAGES = 8
MOST = 6  # tiles that are tried
FEWEST_STAGES = 3
EPILOGUE = 64  # rounds along the depth that an epilogue takes as long as, where nothing multiplies meanwhile

_SHAPES: dict[str, tuple[tuple[int, int, bool], ...]] = {  # rows, columns, whether groups of warps take turns
    # 128 sums of each thread leave room in its 240 registers for whatever else a step and an epilogue need.
    "half": ((128, 256, False), (256, 128, False), (128, 128, True), (64, 256, True), (128, 128, False)),
    "fp8": ((128, 256, False), (256, 128, False), (128, 128, True), (64, 256, True), (128, 128, False)),
    # Sums that are added up in float32 after every 128 terms are held twice.
    "fp8_exact": ((128, 128, False), (64, 128, True)),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """How a product is cut.

    Attributes:
        m: rows of a tile.
        n: columns of a tile.
        k: depth of a step.
        stages: steps whose operands are under way at one time.
        turns: whether both groups of warps take whole tiles by turns; else each has half the rows of every tile.
        group: rows of tiles in a band.
    """

    m: int
    n: int
    k: int
    stages: int
    turns: bool = False
    group: int = GROUPS[0]

    @property
    def name(self) -> str:
        """``128x256x64-g8-s4``, and ``-turns``."""
        return f"{self.m}x{self.n}x{self.k}-g{self.group}-s{self.stages}{'-turns' if self.turns else ''}"

    @property
    def parts(self) -> int:
        """Parts that the rows of a tile are shared out in."""
        return 1 if self.turns else 2

    def cost(self, work: Work, processors: int) -> float:
        """A rough figure to order tiles by: multiply-adds of all rounds of programs, and what is moved for them."""
        rounds = _ceil(_ceil(work.m, self.m) * _ceil(work.n, self.n), processors)
        depth = work.k + (0 if self.turns and rounds > 1 else EPILOGUE)
        return (1.0 if self.group == GROUPS[0] else 1.01) * rounds * depth * (self.m * self.n + 64 * (self.m + self.n))


def candidates(work: Work, chip: Chip) -> list[Tile]:
    """Tiles worth a try, what is likely the fastest first.

    Args:
        work: the product, one that descriptors reach.
        chip: what computes it.
    """
    if chip.capability == INTERPRETER.capability:  # where kernels are emulated: a small one
        return [Tile(m=128, n=64, k=DEPTH_BYTES // work.size, stages=FEWEST_STAGES)]
    found = []
    for m, n, turns in _SHAPES[work.kind]:
        tile = Tile(m=m, n=n, k=DEPTH_BYTES // work.size, stages=_stages(m, n, turns, work, chip), turns=turns)
        groups = GROUPS if _ceil(work.m, m) > GROUPS[0] else GROUPS[:1]
        if tile.stages >= FEWEST_STAGES:
            found += [Tile(m=m, n=n, k=tile.k, stages=tile.stages, turns=turns, group=group) for group in groups]
    return sorted(found, key=lambda tile: tile.cost(work, chip.processors))[:MOST]


def _stages(m: int, n: int, turns: bool, work: Work, chip: Chip) -> int:
    """As many as there is room for beside the results of both groups on their way out, half a group's at a time."""
    leaving = m * n * work.out // (1 if turns else 2)
    return min(MOST_STAGES, (chip.shared - RESERVED - leaving) // ((m + n) * DEPTH_BYTES))


def _ceil(a: int, b: int) -> int:
    return -(-a // b)

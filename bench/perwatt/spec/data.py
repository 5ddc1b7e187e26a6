"""Input data that is bit-equal on every machine (docs/method.md, Work and its keys).

Each tensor has a Philox4x64-10 stream of its own, keyed by the seed and the tensor's name. Counter bits are summed
as integers and scaled by a power of two, so that no step rounds: the values are exact in float32, and the cast to
a narrower format is one IEEE rounding. At most ``PERIOD`` values are drawn; a larger tensor cycles through them
with an offset per turn, so its rows do not repeat in step. A rank can make any slice of a tensor without the rest.

Beside a GPU this is what a visit of a case takes longest for, so threads share the drawing and the copying, and what
was drawn for the latest long tensors is kept: impls of a case have the same ones, and so have cases.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perwatt.errors import InputError, expected

GENERATOR = "philox4x64-10/1"  # part of the work: a change of any line below must change it
DISTRIBUTIONS = ("normal", "uniform", "zeros")
PERIOD = 2**24
TURN = 7_368_787  # odd, near PERIOD x (golden ratio - 1) / sqrt(2): consecutive turns share no alignment
LANE_BITS = 22  # four lanes of 22 bits sum to 24 bits, the significand of a float32
CHUNK = 2**20  # values made at once by one thread; bounds the memory of the generator
KEPT = 8  # streams of ``PERIOD`` values, 64 MiB each: operands and gradient of attention, for both of its checks
THREADS = 8  # at most; more of them wait for memory

_kept: dict[tuple[object, ...], NDArray[Any]] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How one tensor is filled.

    Attributes:
        name: the tensor's name, which selects its stream.
        shape: its shape.
        kind: ``normal`` (sum of four uniforms, bell-shaped, standard deviation 2/sqrt(3), within +-4), ``uniform``
            (-1 to 1), ``zeros``, ``ones``, ``ids`` (uniform integers below ``high``), or ``zipf`` (integers below
            ``high``, r with a probability in proportion to 1 / (r + 1)).
        exponent: values are scaled by two to this power.
        high: exclusive upper bound of ``ids`` and ``zipf``.
    """

    name: str
    shape: tuple[int, ...]
    kind: str = "normal"
    exponent: int = 0
    high: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def check_distribution(name: str) -> str:
    """The name of a case's data distribution.

    Raises:
        InputError: unknown name.
    """
    if name not in DISTRIBUTIONS:
        raise InputError(expected(name, DISTRIBUTIONS), field="data")
    return name


def work(distribution: str) -> dict[str, str]:
    """What of the data enters the match key. The seed does not: it is a column."""
    return {"generator": GENERATOR, "distribution": distribution}


class Source:
    """Makes the tensors of one case and keeps the digest of what it made.

    Args:
        seed: the run's seed; another seed gives other data of the same distribution.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._hash = hashlib.sha256()

    def array(self, recipe: Recipe) -> NDArray[np.float32] | NDArray[np.int64]:
        """The whole tensor: float32 (exact), or int64 for ``ids`` and ``zipf``."""
        base = self._base(recipe, 0, min(recipe.size, PERIOD))
        self._hash.update(repr((recipe.name, recipe.shape, recipe.kind, recipe.exponent, recipe.high)).encode())
        self._hash.update(np.ascontiguousarray(base, dtype=base.dtype.newbyteorder("<")).data)
        return _cycle(base, recipe.size).reshape(recipe.shape)

    def piece(self, recipe: Recipe, start: int, count: int) -> NDArray[np.float32] | NDArray[np.int64]:
        """Elements ``start`` to ``start + count`` of the flattened tensor, without making the others."""
        if recipe.size <= PERIOD:
            return self._base(recipe, start, count)
        return _cycle(self._base(recipe, 0, PERIOD), count, start)

    def digest(self) -> str:
        """First 16 hex digits over every tensor made so far, in the order they were made."""
        return self._hash.hexdigest()[:16]

    def _base(self, recipe: Recipe, start: int, count: int) -> NDArray[np.float32] | NDArray[np.int64]:
        if recipe.kind in ("zeros", "ones"):
            return np.full(count, 2.0**recipe.exponent if recipe.kind == "ones" else 0.0, dtype=np.float32)
        if recipe.size <= PERIOD:
            return self._drawn(recipe, start, count)
        stream = (self.seed, recipe.name, recipe.kind, recipe.exponent, recipe.high, count)
        if stream not in _kept:
            while len(_kept) >= KEPT:
                _kept.pop(next(iter(_kept)))
            _kept[stream] = self._drawn(recipe, start, count)
        return _kept[stream]

    def _drawn(self, recipe: Recipe, start: int, count: int) -> NDArray[np.float32] | NDArray[np.int64]:
        maker = {"normal": _normal, "uniform": _uniform, "ids": _ids, "zipf": _zipf}[recipe.kind]
        key = int.from_bytes(hashlib.sha256(f"{self.seed}/{recipe.name}".encode()).digest()[:16], "little")
        first = start - start % 4  # a Philox block is four words, so blocks and values meet at multiples of four
        form = np.int64 if recipe.kind in ("ids", "zipf") else np.float32
        whole: NDArray[Any] = np.empty(start + count - first, dtype=form)

        def draw(at: int) -> None:
            size = min(CHUNK, len(whole) - at)
            whole[at : at + size] = maker(key, first + at, size, recipe)

        _share_out(draw, range(0, len(whole), CHUNK))
        return whole[start - first :]


def _cycle(base: NDArray, size: int, start: int = 0) -> NDArray:  # type: ignore[type-arg]
    """``size`` values from ``start`` on; turn t goes through the base from t ``TURN`` on, round its end."""
    if start + size <= len(base):
        return base[start : start + size].copy()
    cycled = np.empty(size, dtype=base.dtype)

    def copy(run: tuple[int, int, int]) -> None:
        to, at, count = run
        cycled[to : to + count] = base[at : at + count]

    _share_out(copy, list(_runs(len(base), size, start)))
    return cycled


def _runs(period: int, size: int, start: int) -> Iterator[tuple[int, int, int]]:
    """Where values go, where they are in the base, and how many lie side by side in both."""
    index, end = start, start + size
    while index < end:
        turn, within = divmod(index, period)
        at = (within + turn * TURN) % period
        count = min(end - index, period - within, period - at)
        yield index - start, at, count
        index += count


def _share_out(do: Callable[[Any], None], pieces: Sequence[Any]) -> None:
    """Do it for every piece, by threads where there are several: NumPy lets go of the interpreter meanwhile."""
    threads = min(THREADS, len(os.sched_getaffinity(0)), len(pieces))
    if threads < 2:
        for piece in pieces:
            do(piece)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(do, pieces))


def _words(key: int, first_word: int, count: int) -> NDArray[np.uint64]:
    return np.random.Philox(key=key, counter=first_word // 4).random_raw(count)


def _normal(key: int, at: int, count: int, recipe: Recipe) -> NDArray[np.float32]:
    words = _words(key, 2 * at, 2 * count)
    mask = np.uint64(2**LANE_BITS - 1)
    lanes = (words >> np.uint64(64 - LANE_BITS)) + ((words >> np.uint64(64 - 2 * LANE_BITS)) & mask)
    total = (lanes[0::2] + lanes[1::2]).astype(np.int64) - 2 * (2**LANE_BITS - 1)
    return _scaled(total, recipe.exponent - (LANE_BITS - 1))


def _uniform(key: int, at: int, count: int, recipe: Recipe) -> NDArray[np.float32]:
    total = (_words(key, at, count) >> np.uint64(40)).astype(np.int64) - 2**23
    return _scaled(total, recipe.exponent - 23)


def _ids(key: int, at: int, count: int, recipe: Recipe) -> NDArray[np.int64]:
    return (((_words(key, at, count) >> np.uint64(32)) * np.uint64(recipe.high)) >> np.uint64(32)).astype(np.int64)


def _zipf(key: int, at: int, count: int, recipe: Recipe) -> NDArray[np.int64]:
    """By the inverse of the distribution function: divisions and running sums in order, each rounded as IEEE says."""
    return np.searchsorted(_zipf_ends(recipe.high), _words(key, at, count) >> np.uint64(32), side="right")


@lru_cache(maxsize=2)
def _zipf_ends(high: int) -> NDArray[np.uint64]:
    """For each integer the exclusive end of its share of 0 to 2^32."""
    sums = np.cumsum(1.0 / np.arange(1, high + 1))
    ends: NDArray[np.uint64] = np.floor(sums / sums[-1] * 2.0**32).astype(np.uint64)
    return ends


def _scaled(total: NDArray[np.int64], exponent: int) -> NDArray[np.float32]:
    return np.ldexp(total.astype(np.float32), exponent)

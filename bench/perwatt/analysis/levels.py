"""Centres and intervals of nested measurements: samples in a process, processes on a chip, chips on a side.

A unit is what has an interval of its own: a process where raw samples are at hand, else a row. Everything is in natural
logarithms, in which a relative error is symmetric, and is worked out for any number of groups at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from perwatt.analysis.table import Codes, Floats
from perwatt.timing.student import student_t

FEW = 3  # runs or chips below which their scatter says nothing, and an allowance stands for it (docs: verdicts)
LEARNED = 5  # restarts from which the noise floor of a case is learned


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """What one process or chip may be off by, as the half-width of a 95 % interval, where too few were measured.

    Attributes:
        process: relative difference between processes on the same chip.
        chip: relative difference between chips of the same kind.
    """

    process: float = 0.01
    chip: float = 0.05

    def __post_init__(self) -> None:
        for name in ("process", "chip"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"found an allowance of {getattr(self, name)} for one {name}, expected 0 to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Units:
    """Units of several groups, one entry each.

    Attributes:
        group: number of its group.
        chip: number of its chip.
        log: logarithm of its median.
        down: half-width of its own 95 % interval below; NaN where it has none.
        up: the same above.
        runs: how many processes its interval stands for.
    """

    group: Codes
    chip: Codes
    log: Floats
    down: Floats
    up: Floats
    runs: Floats


class Figure(NamedTuple):
    """What is known of one group; see :class:`Centers`."""

    log: float
    down: float
    up: float
    inner_down: float
    inner_up: float
    process: float
    floor: float
    chips: float
    runs: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Centers:
    """What is known of each group; NaN and 0 for one without units.

    Attributes:
        log: mean over its chips of the means over their units.
        down: half-width of the 95 % interval below, with all levels that were measured, the allowance for processes in.
        up: the same above; both NaN where nothing tells.
        inner_down: the same without differences between chips, which cancel on the same chips.
        inner_up: the same above.
        process: the allowance for processes that is in them, or 0.
        floor: how far medians of so many runs are apart by chance, as logarithm; NaN below :data:`LEARNED` runs.
        chips: chips that were measured.
        runs: processes that were measured.
    """

    log: Floats
    down: Floats
    up: Floats
    inner_down: Floats
    inner_up: Floats
    process: Floats
    floor: Floats
    chips: Floats
    runs: Floats

    def figures(self) -> list[Figure]:
        """The same by group."""
        return list(map(Figure, *(getattr(self, name).tolist() for name in Figure._fields)))


def centers(units: Units, groups: int, allowance: Allowance) -> Centers:
    """Centre and interval of each group.

    Units count equally on their chip, chips in their group. Where at least two degrees of freedom are left, the
    scatter of units about their chip's mean gives the interval (Student's t), but never less than their own intervals
    do. Where not, those and the allowance do, and two units are never further off than the interval says. Chips alike.
    """
    cell, at = _cells(units, groups)
    chips, inside = _count(at, groups), _count(units.group, groups)
    mean = np.bincount(cell, units.log) / np.bincount(cell)
    squares = _sum(units.group, (units.log - mean[cell]) ** 2, groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        log = _sum(at, mean, groups) / chips
        spare = inside - chips
        scatter = np.where(spare >= 2, _t(spare) * np.sqrt(squares / spare), np.nan)  # of one unit
        between = scatter * np.sqrt(_sum(at, 1.0 / np.bincount(cell), groups)) / chips
        runs = _sum(units.group, units.runs, groups)
        process = allowance.process * np.sqrt(_sum(at, 1.0 / np.bincount(cell, units.runs), groups)) / chips
        process = np.where((runs < FEW) & (spare < 2) & (inside > 0), process, 0.0)
        apart = np.where(spare == 1, np.sqrt(squares / 2.0) / chips, 0.0)
        inner = [_inner(units, side, cell, at, groups) / chips for side in (units.down, units.up)]
        inner_down, inner_up = (np.where(spare >= 2, np.fmax(between, i), np.hypot(i, process)) for i in inner)
        inner_down, inner_up = (np.where(i < apart, apart, i) for i in (inner_down, inner_up))
        outer = _outer(mean, at, log, chips, groups)
        floor = np.where((spare >= LEARNED - 1) & (chips == 1), np.sqrt(2.0) * between, np.nan)
    return Centers(
        log=log, down=_larger(outer, inner_down, chips), up=_larger(outer, inner_up, chips), inner_down=inner_down,
        inner_up=inner_up, process=process, floor=floor, chips=chips, runs=runs,
    )  # fmt: skip


def _cells(units: Units, groups: int) -> tuple[Codes, Codes]:
    """The number of each unit's chip in its group, and the group of each such number."""
    width = int(units.chip.max(initial=0)) + 1
    different, cell = np.unique(units.group * width + units.chip, return_inverse=True)
    return cell.astype(np.int64), different // width


def _inner(units: Units, side: Floats, cell: Codes, at: Codes, groups: int) -> Floats:
    """Root of the summed variances of the chips' means, from the units' own intervals."""
    summed = np.bincount(cell, side**2) / np.bincount(cell) ** 2
    return np.sqrt(_sum(at, summed, groups))


def _outer(mean: Floats, at: Codes, log: Floats, chips: Floats, groups: int) -> Floats:
    """Half-width by the scatter of chips: Student's t of at least three, half the distance of two."""
    squares = _sum(at, (mean - log[at]) ** 2, groups)
    by_t = _t(chips - 1) * np.sqrt(squares / (chips - 1) / chips)
    return np.where(chips >= FEW, by_t, np.where(chips == 2, np.sqrt(squares / 2.0), 0.0))


def _larger(outer: Floats, inner: Floats, chips: Floats) -> Floats:
    """The larger; what is unknown inside a chip is in the scatter of at least three."""
    return np.where(chips >= FEW, np.fmax(outer, inner), np.maximum(outer, inner))


def _t(freedom: Floats) -> Floats:
    """Student's t of each number of degrees of freedom; NaN below 1."""
    different, where = np.unique(freedom, return_inverse=True)
    quantiles = np.array([student_t(0.95, float(df)) if df >= 1 else np.nan for df in different], dtype=np.float64)
    return np.asarray(quantiles[where], dtype=np.float64)


def _count(group: Codes, groups: int) -> Floats:
    return np.bincount(group, minlength=groups).astype(np.float64)


def _sum(group: Codes, values: Floats, groups: int) -> Floats:
    return np.asarray(np.bincount(group, values, minlength=groups), dtype=np.float64)

"""Units of intervals: rows, or processes where raw samples are at hand (see :mod:`perwatt.analysis.levels`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perwatt.analysis.levels import Centers
from perwatt.analysis.raw import Process
from perwatt.analysis.table import Codes, Floats, Rows
from perwatt.timing.statistics import estimate

DRIFT = 0.02  # relative difference of the time in the energy window from which it counts (docs: method, energy)


@dataclass(frozen=True, kw_only=True, eq=False)  # told apart by identity
class Spread:
    """Units of a column's rows: how far each is from its row's median, and its own interval, as logarithms.

    Attributes:
        row: number of the row each belongs to.
        offset: of its median from ``time_s`` of the row.
        down: half-width of its interval below.
        up: the same above.
        runs: processes it stands for.
        raw: rows whose raw samples were used.
    """

    row: Codes
    offset: Floats
    down: Floats
    up: Floats
    runs: Floats
    raw: frozenset[int] = frozenset()

    def of_rows(self, rows: Codes) -> Spread:
        """The units of some rows alone."""
        kept = np.isin(self.row, rows)
        parts = {name: getattr(self, name)[kept] for name in ("row", "offset", "down", "up", "runs")}
        return Spread(**parts, raw=self.raw)


def of_intervals(rows: Rows) -> Spread:
    """A unit for each row, its interval columns taken for log-normal."""
    time, every = rows.numbers("time_s"), np.arange(len(rows))
    with np.errstate(invalid="ignore", divide="ignore"):
        down = np.log(time / rows.numbers("time_s_lo"))
        up = np.log(rows.numbers("time_s_hi") / time)
    runs = np.nan_to_num(np.maximum(rows.numbers("processes"), 1.0), nan=1.0)
    return Spread(row=every, offset=np.zeros(len(every)), down=down, up=up, runs=runs)


def with_raw(plain: Spread, raw: dict[int, list[Process]], time: Floats) -> Spread:
    """Units in which rows with raw samples have one for each process."""
    rest = ~np.isin(plain.row, list(raw))
    parts: list[tuple[int, float, float, float]] = []
    for row, processes in raw.items():
        for process in processes:
            found = estimate(process.seconds)
            down = np.log(found.median / found.lo) if found.lo > 0 else np.inf
            parts.append((row, np.log(found.median / time[row]), down, np.log(found.hi / found.median)))
    rows, offset, down, up = (np.array(values, dtype=np.float64) for values in zip(*parts, strict=True))
    return Spread(
        row=np.concatenate([plain.row[rest], rows.astype(np.int64)]),
        offset=np.concatenate([plain.offset[rest], offset]),
        down=np.concatenate([plain.down[rest], down]),
        up=np.concatenate([plain.up[rest], up]),
        runs=np.concatenate([plain.runs[rest], np.ones(len(rows))]),
        raw=frozenset(raw),
    )


def drift(rows: Rows) -> Floats:
    """By how much the time in the energy window differs from that of the samples, as logarithm; 0 up to 2 %."""
    times, windows = rows.numbers("time_s"), rows.numbers("energy_time_s")
    with np.errstate(invalid="ignore", divide="ignore"):
        drifted = (times > 0.0) & (windows > 0.0) & (np.abs(windows / times - 1.0) > DRIFT)
        return np.where(drifted, np.log(windows / times), 0.0)


def about(found: Centers, points: Floats) -> Centers:
    """The same around the points of the rows: intervals are laid around both, which part where processes differ."""
    gap = points - found.log
    below, above = np.maximum(gap, 0.0), np.maximum(-gap, 0.0)
    return Centers(
        log=points, down=found.down + below, up=found.up + above, inner_down=found.inner_down + below,
        inner_up=found.inner_up + above, process=found.process, floor=found.floor, chips=found.chips, runs=found.runs,
    )  # fmt: skip

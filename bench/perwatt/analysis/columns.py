"""Sides into columns: one for each kind of chip, its rows in groups; rows that are not ok are put aside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from perwatt.analysis.groups import SAME, Column
from perwatt.analysis.raw import Samples
from perwatt.analysis.result import LeftOut, Options
from perwatt.analysis.sides import Side
from perwatt.analysis.table import Codes, Rows
from perwatt.results.schema import Status

POWER_LIMITS = 1.05  # ratio of power limits above which two chips are not the same (method: time)
GATED = "train_step"  # the workload with a training gate
FREE = ("precision", *SAME[3:])  # what tells groups apart where rows are joined by task


def columns(sides: Sequence[Side], options: Options) -> tuple[list[Column], list[LeftOut]]:
    """Columns of all sides in order, and rows that enter no comparison."""
    made: list[Column] = []
    aside: list[LeftOut] = []
    samples = Samples()
    limits = _limits(sides)
    for side in sides:
        kept, excluded = _eligible(side, options)
        aside += excluded
        kinds = _by_chip(kept, limits)
        for chip, rows in kinds.items():
            label = side.name if len(kinds) == 1 else f"{side.name}: {chip}"
            groups = _groups(rows, options)
            made.append(
                Column(side.name, label, chip, rows=rows, group=groups, samples=samples, allowance=options.allowance)
            )
    return made, aside


def _eligible(side: Side, options: Options) -> tuple[Rows, list[LeftOut]]:
    """Rows that may be compared, and why the others may not."""
    rows = side.rows
    fit = rows.is_text("status", Status.OK)
    if options.across_formats:
        fit &= rows.is_text("workload", GATED) & ~np.isnan(rows.numbers("rel_err"))
    excluded = [left_out(side.name, rows, int(row), _why(rows, int(row))) for row in np.flatnonzero(~fit)]
    return rows.where(fit), excluded


def _why(rows: Rows, row: int) -> str:
    status, error = rows.text("status", row), rows.text("error", row)
    if status != Status.OK:
        return f"{status}: {error}"
    return "passed no training gate, which rows of different formats have to"


def left_out(column: str, rows: Rows, row: int, reason: str) -> LeftOut:
    """A row as one that is in no pair."""
    file, line = rows.place(row)
    case, impl = rows.text("case", row) or "", rows.text("impl", row) or ""
    key = rows.text("match_key", row)
    return LeftOut(column=column, file=file, line=line, case=case, impl=impl, match_key=key, reason=reason)


def _limits(sides: Sequence[Side]) -> dict[str, list[list[float]]]:
    """Power limits of each kind of chip over all sides, in clusters that are within :data:`POWER_LIMITS`."""
    found: dict[str, set[float]] = {}
    for side in sides:
        for (chip, limit), _ in _kinds(side.rows):
            found.setdefault(chip, set()).update([] if math.isnan(limit) else [limit])
    return {chip: _clusters(sorted(limits)) for chip, limits in found.items()}


def _kinds(rows: Rows) -> list[tuple[tuple[str, float], Codes]]:
    """Each combination of chip and power limit with its rows, in the order in which they appear."""
    codes = rows.combined(["chip", "power_limit_w"])
    different, first = np.unique(codes, return_index=True)
    limits = rows.numbers("power_limit_w")
    return [
        ((rows.text("chip", int(first[at])) or "", float(limits[first[at]])), np.flatnonzero(codes == different[at]))
        for at in np.argsort(first)
    ]


def _clusters(limits: list[float]) -> list[list[float]]:
    made: list[list[float]] = []
    for limit in limits:
        if made and limit <= POWER_LIMITS * made[-1][0]:
            made[-1].append(limit)
        else:
            made.append([limit])
    return made


def _named(chip: str, limit: float, clusters: list[list[float]]) -> str:
    """The kind of chip; with the power limit where limits make several of it."""
    if len(clusters) < 2:
        return chip
    own = next((cluster for cluster in clusters if limit in cluster), None)
    return f"{chip} at {own[0]:g} W" if own else f"{chip} at an unknown power limit"


def _by_chip(rows: Rows, limits: dict[str, list[list[float]]]) -> dict[str, Rows]:
    """Rows of each kind of chip, in the order in which kinds appear."""
    found: dict[str, list[Codes]] = {}
    for (chip, limit), members in _kinds(rows):
        found.setdefault(_named(chip, limit, limits.get(chip, [])), []).append(members)
    if len(found) == 1:
        return dict.fromkeys(found, rows)
    return {name: rows.where(np.sort(np.concatenate(members))) for name, members in found.items()}


def _groups(rows: Rows, options: Options) -> Codes:
    """The number of each row's group, in the order in which groups appear."""
    names = ("task_key", "protocol_key", *FREE) if options.across_formats else SAME
    codes = rows.combined(names)
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return rank[inverse].astype(np.int64)

"""Which implementations of a case stand for the two sides: like with like, or the best of each (method: comparing)."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace

from perwatt.analysis.best import TIMING, Series, best
from perwatt.analysis.groups import Column
from perwatt.analysis.metrics import METRICS
from perwatt.analysis.raw import Process
from perwatt.analysis.units import Spread, with_raw

LIKE, BEST = "like", "best"
LUCKY = "the best of {} was chosen by the samples that it is judged by, so it looks better than it is"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A group that stands for a side.

    Attributes:
        group: its number.
        spread: units of the samples that had no part in the choice; None for all.
        note: what the choice costs, if it does.
        in_window: whether times are those of the energy window, because they differ there.
    """

    group: int
    spread: Spread | None = None
    note: str = ""
    in_window: bool = False


def chosen(
    a: Column, mine: list[int], b: Column, others: list[int], track: str
) -> Iterator[tuple[str, Choice, Choice]]:
    """Track and the two groups of each pair that groups of one place and key make."""
    if track in (LIKE, "all"):
        for left, right in _like(a, mine, b, others):
            yield LIKE, left, right
    if track in (BEST, "all"):
        yield BEST, _headline(a, mine), _headline(b, others)


def _like(a: Column, mine: list[int], b: Column, others: list[int]) -> Iterator[tuple[Choice, Choice]]:
    """Of each class what both sides call the same; where they have nothing of one name, the best of the class."""
    left, right = _by_class(a, mine), _by_class(b, others)
    for kind in [kind for kind in left if kind in right]:
        names = {b.how(group): group for group in right[kind]}
        same = [(group, names[name]) for group in left[kind] if (name := a.how(group)) in names]
        for one, other in same:
            yield Choice(group=one), Choice(group=other)
        if not same:
            yield _best(a, left[kind]), _best(b, right[kind])


def _by_class(column: Column, groups: list[int]) -> dict[str | None, list[int]]:
    found: dict[str | None, list[int]] = {}
    for group in groups:
        found.setdefault(column.text("impl_class", group), []).append(group)
    return found


def not_chosen(column: Column, groups: set[int], other: Column, others: list[int], track: str) -> dict[int, str]:
    """Why groups that have something to meet stand for no side all the same."""
    classes = _by_class(other, others) if groups else {}
    return {group: "; ".join(_passed_over(column.text("impl_class", group), other, classes, track)) for group in groups}


def _passed_over(kind: str | None, other: Column, classes: Container[str | None], track: str) -> Iterator[str]:
    if track in (BEST, "all"):
        yield "another implementation is the best of its side"
    if track in (LIKE, "all") and kind in classes:
        yield f"{other.label} has none of its name"
    elif track in (LIKE, "all"):
        yield f"{other.label} has no {kind or 'such'} implementation of it"


def _headline(column: Column, groups: list[int]) -> Choice:
    """The best, by the time that goes with its energy where the two differ (method: energy)."""
    choice = _best(column, groups)
    return replace(choice, in_window=True) if choice.group in column.drifting else choice


def _best(column: Column, groups: list[int]) -> Choice:
    """The fastest group: chosen on half of the blocks and judged by the other, where all have raw samples."""
    if len(groups) == 1:
        return Choice(group=groups[0])
    raw = {group: _raw(column, group) for group in groups}
    candidates = {str(group): _series(list(kept.values())) for group, kept in raw.items() if kept}
    found = best(candidates) if len(candidates) == len(groups) else None
    if found is None or len(found.among) < len(groups):
        fastest = min(groups, key=lambda group: column.figure(METRICS["time_s"], group).log)
        return Choice(group=fastest, note=LUCKY.format(len(groups)))
    group = int(found.impl)
    return Choice(group=group, spread=_other_half(column, group, raw[group]))


def _raw(column: Column, group: int) -> dict[int, list[Process]]:
    """Raw samples of a group's rows; none where one has none."""
    found = {int(row): column.processes(int(row)) for row in column.members[group]}
    return {row: kept for row, kept in found.items() if kept} if all(found.values()) else {}


def _series(rows: Sequence[list[Process]]) -> list[Series]:
    processes = [process for row in rows for process in row]
    return [
        Series(process=number, blocks=one.blocks.tolist(), seconds=one.seconds.tolist())
        for number, one in enumerate(processes)
    ]


def _other_half(column: Column, group: int, raw: dict[int, list[Process]]) -> Spread:
    """Units of the blocks that had no part in the choice."""
    halves = {row: [_half(process) for process in kept] for row, kept in raw.items()}
    own = column.spread.of_rows(column.members[group])
    return with_raw(own, halves, column.rows.numbers("time_s"))


def _half(process: Process) -> Process:
    chosen = process.blocks % 2 == TIMING
    return Process(seconds=process.seconds[chosen], blocks=process.blocks[chosen])

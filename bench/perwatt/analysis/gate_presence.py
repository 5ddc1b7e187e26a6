"""Rows of two sides by what they measured: which were ok and are no more, which vanished, which are new."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from perwatt.analysis.gate_result import Change
from perwatt.analysis.groups import HOW
from perwatt.analysis.sides import Side
from perwatt.analysis.table import Rows
from perwatt.results.schema import Status, columns

IDENTITY = ("chip", "match_key", "protocol_key", "placement", "mode", "replicas", "devices_used", *HOW)
Identity = tuple[str | float | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A row."""

    case: str
    impl: str
    chip: str
    match_key: str | None
    status: str
    error: str
    file: str
    line: int

    @property
    def okay(self) -> bool:
        """Whether it was measured and may be trusted."""
        return self.status == Status.OK

    def change(self, what: str) -> Change:
        """The row with what happened to it."""
        return Change(
            case=self.case, impl=self.impl, chip=self.chip, match_key=self.match_key, what=what, file=self.file,
            line=self.line,
        )  # fmt: skip


def identity(rows: Rows, row: int) -> Identity:
    """What a row measured and how, which rows of other runs may have in common with it."""
    cell: dict[bool, Callable[[str, int], str | float | None]] = {True: rows.text, False: rows.number}
    return tuple(cell[columns()[name].type is str](name, row) for name in IDENTITY)


def seen(side: Side) -> dict[Identity, list[Seen]]:
    """Rows of a side by identity, in order; those without a key are left out."""
    found: dict[Identity, list[Seen]] = {}
    for row in range(len(side.rows)):
        one = _row(side.rows, row)
        if one.match_key is not None:
            found.setdefault(identity(side.rows, row), []).append(one)
    return found


def _row(rows: Rows, row: int) -> Seen:
    file, line = rows.place(row)
    texts = {name: rows.text(name, row) or "" for name in ("case", "impl", "chip", "status", "error")}
    return Seen(**texts, match_key=rows.text("match_key", row), file=file, line=line)


@dataclass(frozen=True, kw_only=True, slots=True)
class Presence:
    """Rows by what happened to them; see :class:`perwatt.analysis.gate_result.Gate`."""

    broken: list[Change]
    vanished: list[Change]
    new: list[Change]
    recovered: list[Change]
    failing: list[Change]


def presence(baseline: Side, current: Side, met: Iterable[Identity]) -> Presence:
    """What happened to every row; ``met`` are identities that were compared, with whatever stood for them."""
    before, now = seen(baseline), seen(current)
    compared = frozenset(met)
    found = Presence(broken=[], vanished=[], new=[], recovered=[], failing=[])
    for key, rows in before.items():
        if key in now:
            _judge(rows, now[key], found)
        elif key not in compared:
            okay = [one for one in rows if one.okay]
            kind, what = (found.vanished, "is not there now") if okay else (found.failing, f"was {_why(rows)}")
            kind.append((okay or rows)[0].change(what if okay else f"{what}, and is not there now"))
    for key, rows in now.items():
        if key not in before and key not in compared:
            okay = [one for one in rows if one.okay]
            kind, what = (found.new, "is new") if okay else (found.failing, f"is new, and {_why(rows)}")
            kind.append((okay or rows)[0].change(what))
    return found


def _judge(before: list[Seen], now: list[Seen], found: Presence) -> None:
    """A row that was ok breaks where it is ok no more, or where none failed before and some do."""
    were, are = [one.okay for one in before], [one.okay for one in now]
    first = next((one for one in now if not one.okay), now[0])
    if any(were) and (not any(are) or (all(were) and not all(are))):
        some = f" in {are.count(False)} of {len(are)} runs" if any(are) else ""
        found.broken.append(first.change(f"was ok, is {_why(now)}{some}"))
    elif not any(were):
        kind, what = (found.recovered, "is ok now") if any(are) else (found.failing, f"is {_why(now)}")
        kind.append(first.change(f"was {_why(before)}, {what}"))


def _why(rows: list[Seen]) -> str:
    """Status and reason of the first row that is not ok."""
    one = next(one for one in rows if not one.okay)
    return f"{one.status}: {one.error}" if one.error else one.status

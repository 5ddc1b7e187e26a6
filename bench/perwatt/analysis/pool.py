"""Repeated runs as one result: restarts, days and chips, with chip, process, block and sample kept apart.

A row stands for one chip, so its interval has the levels below: processes of all its runs, and their samples. The level
above is between rows; whatever compares them takes rows of several chips for that.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perwatt.analysis import levels
from perwatt.analysis.levels import Allowance, Units
from perwatt.analysis.origin import POOLED
from perwatt.analysis.pool_row import pooled
from perwatt.analysis.pool_source import Line, Source, read, refuse_different
from perwatt.errors import InputError
from perwatt.results import csvfile
from perwatt.results.schema import Row, Status
from perwatt.runner import folder

DIGITS = 12  # of the hash in the name of a pooled run
TAKEN = ("results.csv", "samples.jsonl", "journal.jsonl", "pool.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """What became of a row's runs.

    Attributes:
        runs: names of the runs that it was made of.
        raw: whether it was made of raw samples; else of the rows' intervals.
        differ: columns that are empty because its runs differ in them.
    """

    case: str
    impl: str
    chip: str
    status: str
    runs: tuple[str, ...]
    processes: int | None
    time_s: float | None
    time_s_lo: float | None
    time_s_hi: float | None
    raw: bool
    differ: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class OverChips:
    """A case over all chips that it was measured on: their mean, with the interval that chips make."""

    case: str
    impl: str
    chips: int
    processes: int
    time_s: float
    time_s_lo: float | None
    time_s_hi: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """Pooled runs.

    Attributes:
        rows: one for each case, impl and chip.
        lines: of their raw samples, with the run and process each comes from.
        members: what each row was made of.
        over_chips: the same over several chips.
        left_out: rows that cannot be pooled and files that cannot be trusted, with the reason.
    """

    rows: tuple[Row, ...]
    lines: tuple[Line, ...]
    members: tuple[Member, ...]
    over_chips: tuple[OverChips, ...]
    left_out: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """What was pooled, of plain values."""
        names = ("members", "over_chips")
        return {name: [asdict(one) for one in getattr(self, name)] for name in names} | {"left_out": self.left_out}


def pool(paths: Iterable[str], *, skip_bad: bool = False) -> Pool:
    """Pool runs.

    Args:
        paths: folders of runs, CSVs, folders of them, or globs.
        skip_bad: leave out files that cannot be trusted, and say so.

    Raises:
        InputError: a path leads to no results, they cannot be trusted, or pooled they would say nothing.
    """
    everything, skipped = read(paths, skip_bad=skip_bad)
    left_out = skipped + [f"{source.place}: {why}" for source in everything if (why := _keyless(source))]
    sources = [source for source in everything if not _keyless(source)]
    if not sources:
        raise InputError(f"none of the {len(everything)} rows has a match key, so none can be pooled")
    refuse_different(sources)
    groups: dict[Any, list[Source]] = {}
    for source in sources:
        groups.setdefault(source.key, []).append(source)
    names = {chip: _run_id(chip, sources) for chip in {source.chip for source in sources}}
    made = [_one(group, names[group[0].chip]) for group in groups.values()]
    rows = [row for row, _, _ in made]
    return Pool(
        rows=tuple(rows),
        lines=tuple(line for _, lines, _ in made for line in lines),
        members=tuple(member for _, _, member in made),
        over_chips=tuple(_over_chips(rows, [group[0] for group in groups.values()])),
        left_out=tuple(left_out),
    )


def write(found: Pool, out: Path) -> None:
    """Write a folder that reads as a run's: ``results.csv``, ``samples.jsonl``, and ``pool.json`` with what is in it.

    Raises:
        InputError: the folder has results, or cannot be written.
    """
    for name in TAKEN:
        if (out / name).exists():
            raise InputError(f"found {name} in it, expected a new or empty folder", file=str(out))
    with folder.writing(out):
        out.mkdir(parents=True, exist_ok=True)
    folder.replace(out / "pool.json", [json.dumps(found.as_json(), indent=2, allow_nan=False) + "\n"])
    if found.lines:
        folder.replace(out / "samples.jsonl", [json.dumps(one, separators=(",", ":")) + "\n" for one in found.lines])
    csvfile.write(found.rows, out / "results.csv")


def _keyless(source: Source) -> str:
    return "" if source.row.match_key and source.row.protocol_key else "has no match key, so it is not known to repeat"


def _run_id(chip: str, sources: Sequence[Source]) -> str:
    """A name for the runs of a chip that is the same for the same runs."""
    runs = sorted({source.row.run_id for source in sources if source.chip == chip})
    return f"{POOLED}{hashlib.sha256(' '.join([chip, *runs]).encode()).hexdigest()[:DIGITS]}"


def _one(group: list[Source], run_id: str) -> tuple[Row, list[Line], Member]:
    row, lines, differ = pooled(group, run_id)
    head = {"samples_digest": row.samples_digest, "run_id": row.run_id}
    member = Member(
        case=row.case, impl=row.impl or "", chip=group[0].chip, status=row.status,
        runs=tuple(dict.fromkeys(source.row.run_id for source in group)), processes=row.processes, time_s=row.time_s,
        time_s_lo=row.time_s_lo, time_s_hi=row.time_s_hi, raw=bool(lines), differ=tuple(differ),
    )  # fmt: skip
    return row, [head | line for line in lines], member


def _over_chips(rows: Sequence[Row], firsts: Sequence[Source]) -> list[OverChips]:
    """Cases on more than one chip, each chip as one."""
    groups: dict[Any, list[Row]] = {}
    for row, first in zip(rows, firsts, strict=True):
        if row.status == Status.OK and row.time_s:
            groups.setdefault(first.key[1:], []).append(row)
    return [_centered(group) for group in groups.values() if len(group) > 1]


def _centered(rows: Sequence[Row]) -> OverChips:
    count = len(rows)
    log = np.log([row.time_s or math.nan for row in rows])
    units = Units(
        group=np.zeros(count, dtype=np.int64), chip=np.arange(count), log=log,
        down=log - np.log([row.time_s_lo or math.nan for row in rows]),
        up=np.log([row.time_s_hi or math.nan for row in rows]) - log,
        runs=np.array([float(row.processes or 1) for row in rows]),
    )  # fmt: skip
    found = levels.centers(units, 1, Allowance())
    middle, down, up = (float(each[0]) for each in (found.log, found.down, found.up))
    known = math.isfinite(down) and math.isfinite(up)
    return OverChips(
        case=rows[0].case, impl=rows[0].impl or "", chips=count, processes=sum(row.processes or 1 for row in rows),
        time_s=math.exp(middle), time_s_lo=math.exp(middle - down) if known else None,
        time_s_hi=math.exp(middle + up) if known else None,
    )  # fmt: skip

"""Runs that are to be pooled: their rows with the raw samples of each, and what keeps them from being pooled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perwatt.analysis.groups import SAME
from perwatt.analysis.sides import found
from perwatt.errors import InputError, shorten
from perwatt.results import csvfile, validate
from perwatt.results.schema import Row, header_name

Line = dict[str, Any]  # of a samples.jsonl

POWER_LIMITS = 1.05  # ratio of power limits above which two chips are not the same (method: time)
OF_RUNS = (
    "chip", "backend", "devices_per_chip", "instance_type", "mig", "torch", "driver", "runtime", "compiler", "seed",
)  # fmt: skip
OF_ROWS = (
    "input_digest", "path", "timing_method", "power_source", "power_scope", "power_assumption", "power_die_rule",
    "idle_def", "peak_basis",
)  # fmt: skip
NAMED = ("workload", "case", "precision", "impl", "placement")  # what one would take for the same case


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A row of a run.

    Attributes:
        row: the row.
        place: ``file:line`` of it.
        lines: of its raw samples; empty where there are none.
    """

    row: Row
    place: str
    lines: tuple[Line, ...]

    @property
    def chip(self) -> str:
        """The very chip: by its id, else by the host, which then is taken for one chip."""
        return self.row.chip_id or (f"of host {self.row.host}" if self.row.host else "")

    @property
    def key(self) -> tuple[Any, ...]:
        """What rows have in common that are pooled."""
        return (self.chip, *(getattr(self.row, name) for name in SAME))


def read(paths: Iterable[str], *, skip_bad: bool = False) -> tuple[list[Source], list[str]]:
    """Rows of all runs, in order, and a line for each file that was left out.

    Args:
        paths: folders of runs, CSVs, folders of them, or globs.
        skip_bad: leave out files that cannot be trusted instead of raising.

    Raises:
        InputError: a path leads to no results, they cannot be trusted, or a run is given twice.
    """
    files = list(dict.fromkeys(file for path in paths for file in found(path)))
    sources: list[Source] = []
    skipped: list[str] = []
    for file in files:
        try:
            sources += _of_file(file)
        except InputError as error:
            if not skip_bad:
                raise
            skipped.append(str(error))
    runs: dict[str, str] = {}
    for source in sources:
        file = source.place.rpartition(":")[0]
        if (other := runs.setdefault(source.row.run_id, file)) != file:
            raise InputError(f"run {source.row.run_id} is in {other} too; it would count twice", file=file)
    if len(runs) < 2:
        raise InputError(f"found {len(runs)} run, expected at least two to pool", file=files[0])
    return sources, skipped


def _of_file(file: str) -> list[Source]:
    if problems := validate.check(file):
        first = problems[0]
        raise InputError(first.what, file=first.file, line=first.line, field=first.column)
    kept = _samples(Path(file).with_name("samples.jsonl"))
    records = csvfile.records_of(file)[1]
    return [
        Source(
            row=row, place=f"{file}:{record.line}",
            lines=tuple(kept.get((row.run_id, row.samples_digest), ())) if row.samples_digest else (),
        )
        for row, record in zip(csvfile.read(file), records, strict=True)
    ]  # fmt: skip


def _samples(path: Path) -> dict[tuple[str, str], list[Line]]:
    """Lines of raw samples by run and digest; the validator has looked at them."""
    kept: dict[tuple[str, str], list[Line]] = {}
    if path.is_file():
        with open(path, encoding="utf-8") as file:
            for line in map(json.loads, file):
                kept.setdefault((line["run_id"], line["samples_digest"]), []).append(line)
    return kept


def refuse_different(sources: Sequence[Source]) -> None:
    """Refuse what pooled would be a figure of nothing: other chips, software, power limits, or work.

    Raises:
        InputError: with what differs, and where.
    """
    for name in OF_RUNS:
        _agree(sources, name, "compare the runs instead of pooling them")
    limited = [source for source in sources if source.row.power_limit_w]
    if limited:
        low, high = (pick(limited, key=_power_limit) for pick in (min, max))
        if _power_limit(high) > POWER_LIMITS * _power_limit(low):
            _differ("power_limit_w", low, high, "over 5 % apart, so not the same chip")
    work: dict[tuple[Any, ...], Source] = {}
    for source in sources:
        known = work.setdefault(tuple(getattr(source.row, name) for name in NAMED), source)
        if known.row.match_key != source.row.match_key:
            _differ("match_key", known, source, f"other work under the name {source.row.case!r}")
    counts: dict[Any, set[str]] = {}
    for source in sources:
        counts.setdefault(source.key[1:], set()).add(source.row.run_id)
    if max(map(len, counts.values())) < 2:
        raise InputError("no two of the runs have a case in common", file=sources[0].place.rpartition(":")[0])


def refuse_unlike(sources: Sequence[Source]) -> None:
    """Refuse rows of the same case that were measured in different ways.

    Raises:
        InputError: with what differs, and where.
    """
    for name in OF_ROWS:
        _agree(sources, name, "the rows were not measured in the same way")


def _agree(sources: Sequence[Source], name: str, why: str) -> None:
    value: Callable[[Source], Any] = lambda source: getattr(source.row, name)  # noqa: E731
    for source in sources[1:]:
        if value(source) != value(sources[0]):
            _differ(name, sources[0], source, why)


def _differ(name: str, a: Source, b: Source, why: str) -> None:
    values = [getattr(one.row, name) for one in (a, b)]
    shown = ["nothing" if value is None else shorten(value) for value in values]
    file, _, line = b.place.rpartition(":")
    raise InputError(
        f"found {shown[1]}, and {shown[0]} in {a.place}: {why}", file=file, line=int(line), field=header_name(name)
    )


def _power_limit(source: Source) -> float:
    return source.row.power_limit_w or 0.0

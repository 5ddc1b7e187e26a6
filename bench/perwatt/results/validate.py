"""Whether a results CSV can be trusted: its form, what each status allows, and its keys and digests recomputed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from perwatt.errors import InputError, expected, shorten
from perwatt.results import csvfile, samples
from perwatt.results.csvfile import Record
from perwatt.results.published import rules
from perwatt.results.schema import FLAGS, READABLE, SCHEMA_VERSION, Status, columns
from perwatt.runner import journal
from perwatt.runner.folder import Folder
from perwatt.runner.ledger import Ledger
from perwatt.spec import work

Values = Mapping[str, Any]  # by column name; None where a cell is empty or could not be read
Found = Iterator[tuple[str, str]]  # column, what is wrong with it

NO_ROW = "no row below the header"
UNIQUE = (
    "run_id", "match_key", "protocol_key", "impl", "placement", "mode", "parallel", "micro_batch", "grad_accum",
    "recompute",
)  # fmt: skip
INTERVALS = ("time_s", "energy_j", "tflops_per_w", "tokens_per_j", "tflops_per_pct", "tokens_per_pct_s")
WHOLE_MODELS = ("tokens_per_j", "tokens_per_j_lo", "tokens_per_j_hi", "tokens_per_kwh", "usd_per_mtok")
RATES = (("tflops", "flops", 1e12), ("gbps", "bytes", 1e9), ("tokens_per_s", "tokens", 1.0))
ROUNDING = 1e-9  # relative: a product and a quotient of doubles, each rounded once


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong with a file.

    Attributes:
        line: 1-based line in the file.
        column: name of the column, where one is to blame.
        what: what was found and what was expected.
    """

    file: str
    line: int | None
    column: str | None
    what: str

    def __str__(self) -> str:
        return str(InputError(self.what, file=self.file, line=self.line, field=self.column))


def check(path: str | Path) -> list[Problem]:
    """Everything wrong with a results CSV, and with ``samples.jsonl`` beside it; empty when it can be trusted.

    Of a very large file only the first thing.
    """
    file = str(path)
    if csvfile.is_large(path) and (problem := first_problem(path)):  # which need not be read whole to be refused
        return [problem]
    try:
        header, records = csvfile.records_of(path)
    except InputError as error:
        return [Problem(file=file, line=error.line, column=error.field, what=error.message)]
    if whole := list(_whole(header, records)):
        return [Problem(file=file, line=line, column=column, what=what) for line, column, what in whole]
    problems, read = [], []
    for record in records:
        values, wrong = _values(header, record)
        unreadable = dict(wrong)
        wrong += _missing(values, unreadable)
        if not unreadable:  # else what follows from the cell would be judged without it
            wrong += [item for judge in JUDGES for item in judge(values)]
            read.append((record.line, values))
        problems += [Problem(file=file, line=record.line, column=column, what=what) for column, what in wrong]
    return [*problems, *_duplicates(file, read), *_samples(file, read), *_journal(file, len(records), read)]


def _whole(header: list[str], records: list[Record]) -> Iterator[tuple[int, str | None, str]]:
    """What keeps every single row from being judged: line, column, what."""
    if not records:
        yield 1, None, NO_ROW
        return
    first = csvfile.version_of(header, records[0])
    for record in records:
        if wrong := _version(csvfile.version_of(header, record), first):
            yield record.line, "schema_version", wrong
            return
    for column, what in csvfile.header_problems(header, first):
        yield 1, column, what
    for record in records:
        if len(record.texts) != len(header):
            yield record.line, None, f"found {len(record.texts)} cells, expected {len(header)}"


def _version(found: str, first: str) -> str | None:
    """What is wrong with a record's schema version; a CSV holds one."""
    if found not in READABLE:
        return csvfile.other_version(found)
    return f"found {found!r}, expected {first!r} as above" if found != first else None


def first_problem(path: str | Path) -> Problem | None:
    """The first thing that is wrong with a results CSV, by itself, of any size; None when it can be trusted.

    What :func:`check` finds in ``samples.jsonl`` is not looked for.
    """
    file, found = str(path), _stream_problems(path)
    try:
        line, column, what = next(found, (None, None, None))
    except InputError as error:
        return Problem(file=file, line=error.line, column=error.field, what=error.message)
    return None if what is None else Problem(file=file, line=line, column=column, what=what)


def _stream_problems(path: str | Path) -> Iterator[tuple[int | None, str | None, str]]:
    header: list[str] = []
    version, seen = SCHEMA_VERSION, dict[tuple[Any, ...], int]()
    for item in csvfile.stream(path):
        if isinstance(item, list):
            header = item
            continue
        if not seen:
            version = csvfile.version_of(header, item)
        if wrong := _version(csvfile.version_of(header, item), version):
            yield item.line, "schema_version", wrong
        if not seen:
            yield from ((1, column, what) for column, what in csvfile.header_problems(header, version))
        yield from ((item.line, column, what) for column, what in _record(header, item, seen))
    if not seen:
        known = csvfile.header_problems(header)
        yield (1, known[0][0], known[0][1]) if known else (1, None, NO_ROW)


def _record(header: list[str], record: Record, seen: dict[tuple[Any, ...], int]) -> Iterator[tuple[str | None, str]]:
    """What is wrong with one record, and with it beside those seen before."""
    if len(record.texts) != len(header):
        yield None, f"found {len(record.texts)} cells, expected {len(header)}"
        return
    values, wrong = _values(header, record)
    yield from wrong
    yield from _missing(values, dict(wrong))
    for judge in JUDGES:
        yield from judge(values)
    if twice := _twice(record.line, values, seen):
        yield None, twice


def _values(header: list[str], record: Record) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """A record's values, and the cells that hold none of their column's type."""
    values: dict[str, Any] = dict.fromkeys(columns())  # those that an older version lacks are empty
    wrong = []
    for name, text in zip(header, record.texts, strict=True):
        try:
            values[name] = csvfile.value_of(columns()[name], text)
        except ValueError as error:
            values[name] = None
            wrong.append((name, str(error)))
    return values, wrong


def _missing(values: Values, unreadable: Mapping[str, str]) -> Found:
    """Empty cells that rows of this kind must fill."""
    for name, value in values.items():
        if value is None and name not in unreadable and not columns()[name].may_be_empty(rules.is_foreign(values)):
            yield name, "found nothing, expected a value"


def _cells(values: Values) -> Found:
    """Closed sets of values, and signs. Only a time that is the difference of two may come out below zero."""
    difference = values["method"] == "difference"
    for name, value in values.items():
        column = columns()[name]
        if value is None:
            continue
        if column.choices and value not in column.choices:
            yield name, expected(value, column.choices)
        may_be_below = column.below_zero or (difference and name.startswith("time_s"))
        if column.type is not str and value < 0 and not may_be_below:
            yield name, f"found {value}, expected no number below zero"


def _status(values: Values) -> Found:
    """Which cells the status allows, and what it asks for."""
    status = values["status"]
    if status not in columns()["status"].choices:
        return
    for name, value in values.items():
        if value is not None and Status(status) not in columns()[name].statuses:
            yield name, f"found {shorten(value)}, expected an empty cell in a row that is {status}"
    if status == Status.OK and not rules.is_published(values) and not (values["time_s"] or 0) > 0:
        yield "time_s", f"found {values['time_s'] or 'nothing'}, expected a time in a row that is ok"
    if status != Status.OK and values["error"] is None:
        yield "error", f"found nothing, expected the reason why the row is {status}"


def _flags(values: Values) -> Found:
    for flag in (values["flags"] or "").split():
        if flag not in FLAGS:
            yield "flags", expected(flag, FLAGS)


def _keys(values: Values) -> Found:
    """Keys recomputed from ``work`` and the protocol, and ``work`` against the columns that repeat it."""
    if values["work"] is None:
        for name in ("match_key", "task_key"):
            if values[name] is not None:
                yield name, f"found {shorten(values[name])}, expected an empty cell in a row without `work`"
        return
    for name in ("match_key", "task_key"):
        if values[name] is None and rules.is_foreign(values):
            yield name, "found nothing, expected the key of `work`"
    try:
        content = json.loads(values["work"])
        canonical = work.canonical(content)
        task_key = work.task_key(content)
        repeated = {"workload": content["workload"], "pass": content["pass"], "precision": content["precision"]["name"]}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        yield "work", f"found {shorten(values['work'])}, expected the canonical JSON of a work object"
        return
    if _unbound(values, content["precision"]):
        yield "work", "precision.autocast_ops is empty, expected the hash of the list that was in force"
    if canonical != values["work"]:
        yield "work", "not canonical JSON (RFC 8785)"
    keys = {"match_key": work.key_of(values["work"]), "task_key": task_key, **repeated}
    if values["method"] is not None:
        keys["protocol_key"] = work.protocol_key(cache=values["cache"] or "", method=values["method"])
    for name, computed in keys.items():
        if values[name] is not None and values[name] != computed:
            source = "`cache` and `method` give" if name == "protocol_key" else "`work` gives"
            yield name, f"found {shorten(values[name])}, {source} {shorten(computed)}: the row was changed"


def _unbound(values: Values, precision: Mapping[str, Any]) -> bool:
    """Whether something was measured under autocast by a key that does not say which: it would match any other."""
    measured = values["time_s"] is not None and not rules.is_published(values)
    return measured and precision.get("casts") == "autocast" and not precision.get("autocast_ops")


def _intervals(values: Values) -> Found:
    """Medians inside their intervals, quantiles in order."""
    for name in INTERVALS:
        middle = values[name]
        for end, sign in ((f"{name}_lo", 1), (f"{name}_hi", -1)):
            if end in values and None not in (middle, values[end]) and sign * (middle - values[end]) < 0:
                yield end, f"found {values[end]}, which leaves {name} {middle} outside its interval"
    if None not in (values["time_s_p10"], values["time_s_p90"]) and values["time_s_p10"] > values["time_s_p90"]:
        yield "time_s_p10", f"found {values['time_s_p10']}, above time_s_p90 {values['time_s_p90']}"


def _rates(values: Values) -> Found:
    """Rates are the work of all copies over their time."""
    copies = values["replicas"]
    if rules.is_published(values) or not copies or not values["time_s"]:
        return
    for rate, amount, scale in RATES:
        if None in (values[rate], values[amount]):
            continue
        computed = copies * values[amount] / values["time_s"] / scale
        if not math.isclose(values[rate], computed, rel_tol=ROUNDING):
            done = amount if copies == 1 else f"{amount} x {copies}"
            yield rate, f"found {values[rate]}, {done} / time_s is {computed}: the row was changed"


def _per_layer(values: Values) -> Found:
    """Tokens per joule or dollar of a model that was cut in layers would be taken for those of the whole model."""
    for name in WHOLE_MODELS:
        if values["per_layer"] is not None and values[name] is not None:
            yield name, f"found {values[name]}, expected an empty cell in a row that is per_layer"


def judge_started(values: Values) -> Found:
    """An ISO 8601 time in UTC."""
    if values["started_at"] is None:
        return
    try:
        offset = datetime.fromisoformat(values["started_at"]).utcoffset()
    except ValueError:
        offset = None
    if offset != timedelta(0):
        yield "started_at", f"found {shorten(values['started_at'])}, expected a time in UTC, ISO 8601"


JUDGES = (_cells, _status, rules.judge, _flags, _keys, _intervals, _rates, _per_layer, judge_started)


def _duplicates(file: str, rows: Iterable[tuple[int, Values]]) -> Iterator[Problem]:
    first: dict[tuple[Any, ...], int] = {}
    for line, values in rows:
        if what := _twice(line, values, first):
            yield Problem(file=file, line=line, column=None, what=what)


def _twice(line: int, values: Values, first: dict[tuple[Any, ...], int]) -> str | None:
    """What to say of a row that stands in an earlier line too; it is remembered."""
    unique = rules.UNIQUE if rules.is_foreign(values) else UNIQUE
    key = (unique, *(values[name] for name in unique))
    if first.setdefault(key, line) != line:
        return f"same {', '.join(unique)} as in line {first[key]}"
    return None


def _samples(file: str, rows: Iterable[tuple[int, Values]]) -> Iterator[Problem]:
    """Rows against the raw samples beside them, where those are at hand."""
    path = Path(file).with_name("samples.jsonl")
    if not path.is_file():
        return
    try:
        kept = _kept(path)
    except InputError as error:
        yield Problem(file=str(path), line=error.line, column=error.field, what=error.message)
        return
    for line, values in rows:
        digest = values["samples_digest"]
        if digest is None:
            continue
        for column, what in _against(values, kept.get((values["run_id"], digest), [])):
            yield Problem(file=file, line=line, column=column, what=what)


def _journal(file: str, count: int, rows: Sequence[tuple[int, Values]]) -> Iterator[Problem]:
    """The results of a run that has ended against its journal: as many rows, and the samples that they were made of."""
    folder = Folder(Path(file).parent)
    if Path(file).name != folder.results.name or not folder.journal.is_file():
        return
    try:
        ledger = Ledger.of(journal.read(folder.journal)[0])
    except InputError as error:
        yield Problem(file=str(folder.journal), line=error.line, column=error.field, what=error.message)
        return
    if not ledger.ended:
        return
    if (outcomes := len(ledger.outcomes())) != count:
        what = f"found {count} rows, expected {outcomes} as in {folder.journal.name}"
        yield Problem(file=file, line=None, column=None, what=what)
    sampled = sum(values["samples_digest"] is not None for _, values in rows)
    if sampled and not folder.samples.is_file():
        what = f"found no such file, expected the samples of {sampled} rows that have a samples_digest"
        yield Problem(file=str(folder.samples), line=None, column=None, what=what)


def _kept(path: Path) -> dict[tuple[Any, Any], list[dict[str, Any]]]:
    """Lines of ``samples.jsonl`` by run and by the digest of the row that they belong to."""
    kept: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for number, line in enumerate(samples.lines_of(path), start=1):
        try:
            message = json.loads(line)
            kept.setdefault((message["run_id"], message["samples_digest"]), []).append(message)
        except (ValueError, TypeError, KeyError):
            raise InputError("found no line of raw samples", file=str(path), line=number) from None
    return kept


def _against(values: Values, lines: list[dict[str, Any]]) -> Found:
    if not lines:
        yield "samples_digest", "samples.jsonl beside the file has no samples of this row"
        return
    try:
        computed, times = samples.digest_of(lines), [time for line in lines for time in _times(line)]
    except (ValueError, TypeError, KeyError):
        computed, times = "nothing", []
    if computed != values["samples_digest"]:
        yield "samples_digest", f"found {values['samples_digest']}, samples.jsonl gives {computed}: one was changed"
    elif values["samples"] is not None and values["samples"] != len(times):
        yield "samples", f"found {values['samples']}, samples.jsonl has {len(times)}"
    elif values["time_s"] is not None and not min(times) <= values["time_s"] <= max(times):
        yield "time_s", f"found {values['time_s']}, samples.jsonl has {min(times)} to {max(times)}"


def _times(line: Mapping[str, Any]) -> list[float]:
    """Seconds of the samples of a line, the pass that is taken off taken off."""
    return [a - b for a, b in zip(line["samples"], line["minus"] or [0.0] * len(line["samples"]), strict=True)]

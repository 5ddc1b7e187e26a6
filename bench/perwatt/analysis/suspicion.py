"""Whether columns may break a rule of the validator: what is right may be doubted, what is wrong is never trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache, lru_cache

import numpy as np

from perwatt.analysis.table import Rows, combine
from perwatt.results import validate
from perwatt.results.schema import FLAGS, READABLE, Status, columns
from perwatt.spec import work

KEYS = ("work", "match_key", "task_key", "workload", "pass", "precision")
PROTOCOL = ("cache", "method", "protocol_key")
REMEMBERED = 2**15  # works whose keys are kept, half a kilobyte each; many files of a sweep repeat them


def doubtful(rows: Rows) -> bool:
    """Whether some rule may be broken, so that the rows have to be looked at one by one."""
    if not len(rows) or rows.is_text("time_evidence", "published").any():
        return True
    return any(rule(rows) for rule in RULES)


def _missing(rows: Rows) -> bool:
    return any(column.required and rows.empty(name) for name, column in columns().items())


def _texts(rows: Rows) -> bool:
    """Closed sets, flags, times and the schema's version, each different text once."""
    for name, column in columns().items():
        if column.choices and not set(rows.codes(name)[1]) <= set(column.choices):
            return True
    flags = {flag for text in rows.codes("flags")[1] for flag in text.split()}
    versions = rows.codes("schema_version")[1]
    if not flags <= set(FLAGS) or len(versions) != 1 or versions[0] not in READABLE:
        return True
    return any(next(validate.judge_started({"started_at": text}), None) for text in rows.codes("started_at")[1])


def _numbers(rows: Rows) -> bool:
    """NaN, infinities, and what is below zero."""
    for name, column in columns().items():
        if column.type is str or not rows.has(name):
            continue
        values = rows.numbers(name)
        if np.isnan(values).sum() != rows.empty(name) or np.isinf(values).any():
            return True
        if not column.below_zero and (values < 0).any():
            return True
    return False


def _statuses(rows: Rows) -> bool:
    """Cells that the status does not allow, or asks for."""
    for status in map(Status, rows.codes("status")[1]):
        chosen = rows.is_text("status", status)
        barred = [name for name, column in columns().items() if status not in column.statuses and rows.has(name)]
        if any(rows.filled(name)[chosen].any() for name in barred):
            return True
    okay = rows.is_text("status", Status.OK)
    if not (rows.numbers("time_s")[okay] > 0).all():
        return True
    if (rows.codes("error")[0][~okay] < 0).any():
        return True
    return any(column.published_only and rows.has(name) for name, column in columns().items())


def _keys(rows: Rows) -> bool:
    """Keys recomputed, once for each different combination of cells."""
    return not all(_keys_fit(*cells) for cells in _different(rows, KEYS)) or not all(
        _protocol_fits(*cells) for cells in _different(rows, PROTOCOL)
    )


def _different(rows: Rows, names: tuple[str, ...]) -> Iterable[tuple[str | None, ...]]:
    _, first = np.unique(rows.combined(names), return_index=True)
    parts = [rows.codes(name) for name in names]
    texts = [np.array([*known, None], dtype=object)[codes[first]] for codes, known in parts]  # -1 is the last, None
    return zip(*(column.tolist() for column in texts), strict=True)


@lru_cache(REMEMBERED)
def _keys_fit(*cells: str | None) -> bool:
    text, *found = cells
    if text is None:
        return False
    try:
        content = json.loads(text)
        precision = content["precision"]
        if precision.get("casts") == "autocast":
            return False  # the validator asks whether it was measured
        expected = [work.key_of(text), work.task_key(content), content["workload"], content["pass"], precision["name"]]
        return work.canonical(content) == text and expected == found
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


@cache
def _protocol_fits(*cells: str | None) -> bool:
    mode, method, key = cells
    return method is not None and work.protocol_key(cache=mode or "", method=method) == key


def _intervals(rows: Rows) -> bool:
    for name in validate.INTERVALS:
        middle = rows.numbers(name)
        if (rows.numbers(f"{name}_lo") > middle).any() or (rows.numbers(f"{name}_hi") < middle).any():
            return True
    return bool((rows.numbers("time_s_p10") > rows.numbers("time_s_p90")).any())


def _rates(rows: Rows) -> bool:
    single = (rows.numbers("replicas") == 1) & (rows.numbers("time_s") > 0)
    for rate, amount, scale in validate.RATES:
        found, computed = rows.numbers(rate), rows.numbers(amount) / rows.numbers("time_s") / scale
        gap = np.abs(found - computed) > 0.5 * validate.ROUNDING * np.abs(computed)
        if (gap & single).any():
            return True
    return False


def _per_layer(rows: Rows) -> bool:
    cut = rows.is_text("per_layer", "yes")
    return any(rows.has(name) and rows.filled(name)[cut].any() for name in validate.WHOLE_MODELS)


def _duplicates(rows: Rows) -> bool:
    parts = [rows.combined([name]) for name in validate.UNIQUE]
    return len(np.unique(combine(parts, len(rows)))) != len(rows)


RULES: tuple[Callable[[Rows], bool], ...] = (
    _missing, _texts, _numbers, _statuses, _keys, _intervals, _rates, _per_layer, _duplicates,
)  # fmt: skip

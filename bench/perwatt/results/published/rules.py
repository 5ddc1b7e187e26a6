"""What the validator asks of published and imported rows, and of the columns that only they have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from perwatt.errors import shorten
from perwatt.hardware import figure
from perwatt.results.schema import columns

NEEDS = ("source", "source_date", "grade", "printed")  # what a published row always says
NEEDS_IMPORTED = ("source", "printed")
UNIQUE = ("run_id", "case")  # no two rows of a file have both in common; they may have no keys to tell them apart
DATE = re.compile(figure.DATE)


def is_published(values: Mapping[str, Any]) -> bool:
    """Whether a row, as values by column name, is cited rather than measured."""
    return bool(values["time_evidence"] == "published")


def is_foreign(values: Mapping[str, Any]) -> bool:
    """Whether a row comes from no run of ours: it is published, or imported from another tool, which it then names."""
    return is_published(values) or values["source"] is not None


def judge(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Column, and what is wrong with it.

    A published row says where it was printed, an imported one which tool measured it, a row of a run has no such
    cell, and published energy is marked so.
    """
    if not is_published(values):
        yield from _judge_measured(values)
        return
    for name in NEEDS:
        if values[name] is None:
            yield name, "found nothing, expected a value in a published row"
    yield from _date(values)
    wanted, cell = ("none", "an empty") if values["energy_j"] is None else ("published", "a")
    for name in ("energy_evidence", "power_source"):
        if values[name] in columns()[name].choices and values[name] != wanted:
            yield name, f"found {values[name]!r}, expected {wanted!r} in a published row with {cell} cell energy_j"


def _judge_measured(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of a row of a run, or of another tool's measurement, which says what that tool prints."""
    imported = is_foreign(values)
    for name, value in values.items():
        column = columns()[name]
        if value is not None and column.published_only and not (imported and column.imported):
            yield name, f"found {shorten(value)}, expected an empty cell in a row that is not published"
    if imported:
        for name in NEEDS_IMPORTED:
            if values[name] is None:
                yield name, "found nothing, expected a value in a row with `source`"
        yield from _date(values)


def _date(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if values["source_date"] is not None and not DATE.fullmatch(values["source_date"]):
        yield "source_date", f"found {shorten(values['source_date'])}, expected YYYY-MM or YYYY-MM-DD"

"""Documentation and JSON schema of the results CSV, made from the row itself.

``python -m perwatt.results.document > docs/results.md`` writes the page anew; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from perwatt.results.published import rules
from perwatt.results.schema import (
    ANY,
    FLAGS,
    GATED,
    RAN,
    READABLE,
    SCHEMA_VERSION,
    STATUS_MEANING,
    TIMED,
    Column,
    Status,
    columns,
)

EXIT_CODES = {
    0: "every row is ok, unsupported or skipped",
    1: "some row is inaccurate, unstable, oom, timeout, crashed or rank_failed",
    2: "the input is wrong: one line says where, what was found and what was expected",
    3: "no row is ok: nothing could be measured",
    130: "interrupted; `--resume` goes on",
}
TYPES = {str: "text", int: "whole number", float: "number"}
SETS = {
    ANY: ("any", "any"),
    RAN: ("run", "something was run: not unsupported, not skipped"),
    GATED: ("gated", "the accuracy gate was reached: " + ", ".join(status for status in Status if status in GATED)),
    TIMED: ("timed", "times may be shown: " + ", ".join(status for status in Status if status in TIMED)),
}

HEAD = f"""\
# Results

A results CSV has one row for each case, impl and placement of a run. This page is made from the row's definition in
`bench/perwatt/results/schema.py`; `perwatt validate FILE` checks a file against it. Schema version: {SCHEMA_VERSION}.
Files of version {" and ".join(READABLE[:-1])} are read too: a new one adds columns and lets cells be empty.

The file is UTF-8 with a header, commas, quotes after RFC 4180 and `\\n` line ends. A number is written in the shortest
form that reads back to the same value. **An empty cell means not known, or not defined for this row**; it never means
zero, and no cell holds NaN or infinity. Text is kept as it was: escape it before showing it, since a spreadsheet takes
a cell that begins with `=`, `+`, `-` or `@` for a formula.

`match_key` is the first 16 hex digits of the SHA-256 of `work`, so it can be recomputed from the file alone
(`printf %s "$work" | sha256sum`); `validate` does, and refuses a row whose keys, rates or samples do not agree.
"""


MARKS = """\
A column marked `*` is never empty. One marked `†` may be empty only in published rows (`time_evidence` is `published`)
and in rows that `perwatt import` made of another tool's measurement (`source` names it), because a source does not say
everything: such a row has `work` and its keys only where the source specifies the work in full, and without them it is
compared with no other row. The iteration of a published row is one sequence, or one whole training. A column marked `‡`
is filled in published rows only; these always have `source`, `source_date`, `grade` and `printed`. Imported rows have
`source` and `printed`, and may have `source_date`. [Published results](published.md) lists the rows that are shipped.
"""


def render() -> str:
    """The page, as Markdown."""
    parts = [HEAD, "## Columns", "", "`when` says in which rows a cell may be filled:", ""]
    parts += table(("when", "rows whose status says that"), SETS.values())
    parts += [MARKS, ""]
    for group, members in groupby(columns().values(), key=lambda column: column.group):
        parts += [f"### {group}", ""]
        parts += table(("column", "type", "unit", "when", "meaning"), (_cells(column) for column in members))
    parts += ["## Status", "", "One outcome for each row.", ""]
    parts += table(("status", "meaning"), ((f"`{status}`", STATUS_MEANING[status]) for status in Status))
    parts += ["## Flags", "", "Further marks, any number of them.", ""]
    parts += table(("flag", "meaning"), ((f"`{name}`", meaning) for name, meaning in FLAGS.items()))
    parts += ["## Exit codes of `perwatt run`", ""]
    parts += table(("code", "meaning"), ((str(code), meaning) for code, meaning in EXIT_CODES.items()))
    return "\n".join(parts).rstrip("\n") + "\n"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Lines of a Markdown table, an empty one behind it."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of one row as an object with a member for each column, null where a cell is empty."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"perwatt result row, schema version {SCHEMA_VERSION}",
        "type": "object",
        "additionalProperties": False,
        "required": list(columns()),
        "properties": {name: _property(column) for name, column in columns().items()},
        "allOf": [rule for status in Status if (rule := _rule(status))] + [_evidence_rule()],
    }


def _cells(column: Column) -> tuple[str, ...]:
    mark = " †" if column.run_only else " *" if column.required else " ‡" if column.published_only else ""
    name = f"`{column.name}`{mark}"
    choices = f" ({', '.join(f'`{choice}`' for choice in column.choices)})" if column.choices else ""
    return name, TYPES[column.type], column.unit, SETS[column.statuses][0], column.doc + choices


def _property(column: Column) -> dict[str, Any]:
    kind = {str: "string", int: "integer", float: "number"}[column.type]
    optional = column.may_be_empty(foreign=True)
    fields: dict[str, Any] = {"type": [kind, "null"] if optional else kind, "description": column.doc}
    if column.unit:
        fields["description"] += f" [{column.unit}]"
    if column.choices:
        fields["enum"] = [*column.choices, *([None] if optional else [])]
    if column.name == "schema_version":
        fields["const"] = SCHEMA_VERSION
    return fields


def _rule(status: Status) -> dict[str, Any] | None:
    """Cells that have to be empty in rows of one status."""
    empty = [column.name for column in columns().values() if status not in column.statuses]
    if not empty:
        return None
    matches = {"properties": {"status": {"const": status.value}}}
    return {"if": matches, "then": {"properties": {name: {"type": "null"} for name in empty}}}


def _evidence_rule() -> dict[str, Any]:
    """Cells that published rows must fill, and those that only they may leave empty or fill."""
    filled = {"not": {"type": "null"}}
    needs = dict.fromkeys(rules.NEEDS, filled)
    of_runs: dict[str, dict[str, Any]] = {column.name: filled for column in columns().values() if column.run_only}
    of_runs |= {column.name: {"type": "null"} for column in columns().values() if column.published_only}
    of_tools: dict[str, dict[str, Any]] = dict.fromkeys(rules.NEEDS_IMPORTED, filled)
    of_tools |= {c.name: {"type": "null"} for c in columns().values() if c.published_only and not c.imported}
    matches = {"properties": {"time_evidence": {"const": "published"}}}
    measured: dict[str, Any] = {"if": {"properties": {"source": filled}}, "then": {"properties": of_tools}}
    measured |= {"else": {"properties": of_runs}}
    return {"if": matches, "then": {"properties": needs}, "else": measured}


if __name__ == "__main__":
    print(render(), end="")

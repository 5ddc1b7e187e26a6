"""A comparison on a terminal, in Markdown and as CSV. What files say is made harmless for each of the three."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import fields
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perwatt.analysis.result import Comparison, Pair, Point
from perwatt.report.comparison import lines, sheets
from perwatt.report.format import plain
from perwatt.report.narrow import fitted, paragraphs
from perwatt.report.sheet import Sheet

STYLES = {
    "faster": "green", "slower": "red", "same": "dim", "unclear": "yellow", "failed": "red", "passed": "green",
}  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters by which a spreadsheet takes text for a formula
ENDS = ("baseline", "candidate")  # fields of a pair that have fields of their own
GAP = 3  # columns of the screen beside a column of a table
WORD = 24  # letters of a word that is never broken, such as the name of a figure
MARKUP = re.compile(r"([\\`*_\[\]|~])")


def show(console: Console, found: Comparison) -> None:
    """Print tables, then what is in none of them."""
    print_all(console, sheets(found), lines(found))


def print_all(console: Console, tables: Iterable[Sheet], rest: Iterable[str]) -> None:
    """Print these tables, and these lines below them; rows of a table that is too wide for the screen as paragraphs."""
    for sheet in tables:
        rows = [[plain(cell) for cell in row] for row in sheet.rows]
        title, head = plain(sheet.title), [plain(name) for name in sheet.head]
        columns = [list(column) for column in zip(head, *rows, strict=True)]
        widths = fitted(columns, console.width + 1, GAP, WORD, names=False)  # nothing beside the last column
        if widths is None:
            console.print(paragraphs(title, head, rows, STYLES))
            console.print()
        else:
            console.print(_grid(title, head, rows, widths, sheet.right))
    for line in rest:
        console.print(Text(plain(line), overflow="fold"))


def _grid(
    title: str, head: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int], right: Container[int]
) -> Table:
    table = Table(box=SIMPLE_HEAD, title=Text(title, style="bold"), title_justify="left", pad_edge=False)
    for number, (name, width) in enumerate(zip(head, widths, strict=True)):
        side: Literal["right", "left"] = "right" if number in right else "left"
        table.add_column(Text(name), justify=side, overflow="fold", width=width)
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    return table


def markdown(found: Comparison) -> str:
    """Tables and lines as GitHub's Markdown, with all markup of the input escaped."""
    return markdown_of(sheets(found), lines(found))


def markdown_of(tables: Iterable[Sheet], rest: Iterable[str]) -> str:
    """These tables, and these lines as a list below them."""
    return "\n".join([*map(_table, tables), *(f"- {escaped(line)}" for line in rest)]) + "\n"


def _table(sheet: Sheet) -> str:
    rule = ["---:" if number in sheet.right else "---" for number in range(len(sheet.head))]
    rows = [sheet.head, *sheet.rows]
    cells = [[escaped(cell) for cell in row] for row in rows]
    body = [cells[0], rule, *cells[1:]]
    return "\n".join([f"### {escaped(sheet.title)}", "", *(f"| {' | '.join(row)} |" for row in body), ""])


def escaped(text: str) -> str:
    """Text of a file so that Markdown shows it as it is."""
    return MARKUP.sub(r"\\\1", html.escape(plain(text), quote=False))


def as_csv(found: Comparison) -> str:
    """One line for each pair; text that a spreadsheet would take for a formula begins with an apostrophe."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([name for field in fields(Pair) for name in _names(field.name)])
    writer.writerows(
        [_cell(cell) for field in fields(Pair) for cell in _cells(pair, field.name)] for pair in found.pairs
    )
    return stream.getvalue()


def _names(name: str) -> list[str]:
    """Columns of a field of pairs; each end has one for each of its own."""
    return [f"{name}_{field.name}" for field in fields(Point)] if name in ENDS else [name]


def _cells(pair: Pair, name: str) -> list[Any]:
    value = getattr(pair, name)
    return [getattr(value, field.name) for field in fields(Point)] if name in ENDS else [value]


def _cell(item: Any) -> Any:
    if item is None:
        return ""
    if isinstance(item, (tuple, list)):
        item = " ".join(item)
    if isinstance(item, str):
        text = plain(item)
        return f"'{text}" if text.startswith(FORMULA) else text
    return repr(item)

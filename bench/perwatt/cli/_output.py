"""What commands print: JSON for machines, tables for people. Text from files is made harmless before it is shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

GAP = 2  # columns between two cells

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def print_json(value: Any) -> None:
    """One JSON document with sorted keys, the same for the same value.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    print(json.dumps(value, indent=2, sort_keys=True, allow_nan=False))


def print_table(
    title: str, head: Sequence[str], rows: Iterable[Sequence[object]], *, page: int | None = None
) -> None:  # fmt: skip
    """A table under a title; cells are shown as they are, without markup, empty ones for None.

    Nothing is cut: names, which stand first, stay on one line, and other cells are folded where the screen is narrow.
    What is too wide even so is shown row by row.

    Args:
        title: above it.
        head: names of the columns.
        rows: their cells.
        page: columns of the screen that a file or a pipe is taken for; None sets no limit, so that each row is a line.
    """
    from perwatt.report.console import console
    from perwatt.report.format import plain
    from perwatt.report.narrow import fitted, paragraphs

    cells = [["" if cell is None else plain(str(cell)) for cell in row] for row in rows]
    screen = console(sys.stdout, None if sys.stdout.isatty() else page)
    widths = fitted([list(column) for column in zip(head, *cells, strict=True)], screen.width, GAP)
    screen.print(paragraphs(title, head, cells) if widths is None else _table(title, head, widths, cells))
    screen.print()


def _table(title: str, head: Sequence[str], widths: Sequence[int], cells: Iterable[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=None, padding=(0, GAP, 0, 0)
    )
    for name, width in zip(head, widths, strict=True):
        table.add_column(name, width=width, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    return table

"""What commands print: JSON for machines, tables for people. Text from files is made harmless before it is shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

GAP = 2  # columns between two cells
WORD = 16  # letters of a word that is never broken; addresses and paths are longer
INDENT = 4

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def print_json(value: Any) -> None:
    """One JSON document with sorted keys, the same for the same value.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    print(json.dumps(value, indent=2, sort_keys=True, allow_nan=False))


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table under a title; cells are shown as they are, without markup, empty ones for None.

    Nothing is cut: names, which stand first, stay on one line, and other cells are folded where the screen is narrow.
    What is too wide even so is shown row by row.
    """
    from perwatt.report.console import console
    from perwatt.report.format import plain

    cells = [["" if cell is None else plain(str(cell)) for cell in row] for row in rows]
    screen = console(sys.stdout)
    widths = fitted([list(column) for column in zip(head, *cells, strict=True)], screen.width)
    screen.print(_paragraphs(title, head, cells) if widths is None else _table(title, head, widths, cells))
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


def _paragraphs(title: str, head: Sequence[str], cells: Iterable[Sequence[str]]) -> Group:
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    shown: list[RenderableType] = [Text(title, "bold")]
    for name, *row in cells:
        said = "; ".join(f"{what} {cell}" for what, cell in zip(head[1:], row, strict=True) if cell)
        shown += [Text(name), Padding(Text(said, overflow="fold"), (0, 0, 0, INDENT))]
    return Group(*shown)


def fitted(columns: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """A width for each column that together fill at most ``room``; None if there are none that leave words whole.

    The first column is never folded, others not within a word of up to ``WORD`` letters. What room is left goes to the
    columns that want least first, so that only long texts are folded.
    """
    from rich.cells import cell_len

    widest = [max(map(cell_len, column)) for column in columns]
    words = [max((cell_len(word) for cell in column for word in cell.split()), default=0) for column in columns]
    widths = [widest[0], *(min(word, WORD) for word in words[1:])]
    spare = room - sum(widths) - GAP * len(widths)
    if spare < 0:
        return None
    wanted = [most - width for most, width in zip(widest, widths, strict=True)]
    order = sorted(range(len(widths)), key=wanted.__getitem__)
    for left, index in zip(range(len(order), 0, -1), order, strict=True):
        given = min(wanted[index], spare // left)
        widths[index] += given
        spare -= given
    return widths

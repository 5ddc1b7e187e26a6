"""What commands print: JSON for machines, tables for people. Text from files is made harmless before it is shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def print_json(value: Any) -> None:
    """One JSON document with sorted keys, the same for the same value.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    print(json.dumps(value, indent=2, sort_keys=True, allow_nan=False))


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table under a title; cells are shown as they are, without markup, empty ones for None."""
    from rich.table import Table
    from rich.text import Text

    from perwatt.report.console import console
    from perwatt.report.format import plain

    table = Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=None, padding=(0, 3, 0, 0)
    )
    for name in head:
        table.add_column(name)
    for row in rows:
        table.add_row(*(Text("" if cell is None else plain(str(cell))) for cell in row))
    screen = console(sys.stdout)
    screen.print(table)
    screen.print()

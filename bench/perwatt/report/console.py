"""Where tables and progress are printed."""

from __future__ import annotations

import io
from typing import TextIO

from rich.console import Console

WIDE = 10_000  # columns where no terminal sets a width, so that no cell is folded in a file or a pipe


def console(stream: TextIO, width: int | None = None) -> Console:
    """A console on a stream that shows text as it is: no markup, no highlighting, and no failure over an accent.

    ``width`` None is the terminal's, or no limit where there is no terminal.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    if width is None and not stream.isatty():
        width = WIDE
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)

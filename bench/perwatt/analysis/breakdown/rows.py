"""Rows with their work, which tables of columns leave out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perwatt.analysis import reading
from perwatt.analysis.sides import found
from perwatt.errors import InputError
from perwatt.results import csvfile
from perwatt.results.schema import Row


def read(paths: Sequence[str], *, skip_bad: bool = False, tell: Callable[[str], None] | None = None) -> list[Row]:
    """Rows of files, folders and globs; ``tell`` hears of each file that is left out.

    Raises:
        InputError: a path leads to no CSV, or a file cannot be trusted and ``skip_bad`` is not given.
    """
    rows: list[Row] = []
    for file in dict.fromkeys(file for path in paths for file in found(path)):
        try:
            reading.read(file)  # which judges it
            rows += csvfile.read(file)
        except InputError as error:
            if not skip_bad:
                raise
            if tell:
                tell(f"left out: {error}")
    return rows

"""One results CSV into columns, at the speed that a million rows need.

Arrow parses, and every rule of :mod:`perwatt.results.validate` is asked of whole columns. Where one seems broken the
file goes through the validator row by row, which has the last word and says what is wrong in one line.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from perwatt.analysis import suspicion
from perwatt.analysis.table import FILE, LINE, UNUSED, Rows, arrow_type
from perwatt.errors import InputError
from perwatt.results import csvfile, validate
from perwatt.results.schema import READABLE, SCHEMA_VERSION, cells, columns

HEAD = 2**20  # bytes in which a header has to end
LARGE = 2**24  # bytes from which it pays to parse one file by several threads; smaller ones are read side by side


def read(path: str | Path) -> Rows:
    """Rows of a results CSV that can be trusted.

    Raises:
        InputError: for the first thing that is wrong with it, with line and column.
    """
    file = str(path)
    header = _header(file)
    try:
        rows = Rows(_parsed(file, header), (file,))
        trusted = not suspicion.doubtful(rows)
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError):
        trusted = False
    if not trusted:
        if problem := validate.first_problem(file):
            raise InputError(problem.what, file=file, line=problem.line, field=problem.column)
        rows = Rows(_slowly(file), (file,))
    return _placed(rows, file)


def _header(file: str) -> list[str]:
    """The header, if that is one.

    Raises:
        InputError: it is none, so the rest need not be read, however large it is.
    """
    try:
        with open(file, "rb") as binary:
            line = binary.readline(HEAD)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot be read: {reason}", file=file) from None
    if len(line) == HEAD:
        raise InputError(f"found no line end in the first {HEAD >> 20} MiB, expected a header", file=file, line=1)
    try:
        header = next(csv.reader([line.decode("utf-8-sig")], strict=True), [])
    except UnicodeDecodeError as error:
        raise InputError(f"found byte 0x{line[error.start]:02x}, expected UTF-8", file=file, line=1) from None
    except csv.Error:
        header = []
    if not set(header) & set(columns()):
        if problem := validate.first_problem(file) if len(line) < 2 else None:  # nothing, or an empty line
            raise InputError(problem.what, file=file, line=1)
        raise InputError("found no column of a results CSV, expected its header", file=file, line=1)
    return header


def _parsed(file: str, header: list[str]) -> Any:
    """The table as Arrow reads it. What it takes for a number and the schema does not comes out NaN or raises."""
    if len(set(header)) < len(header):
        raise pa.ArrowInvalid("a column is there twice")
    known = {name: arrow_type(name) for name in header if name in columns()}
    table = pa.csv.read_csv(
        file,
        read_options=pa.csv.ReadOptions(use_threads=os.path.getsize(file) > LARGE),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pa.csv.ConvertOptions(
            column_types=known, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=True
        ),
    )
    with open(file, "rb") as binary:
        binary.seek(-1, 2)
        if binary.read(1) != b"\n":
            raise pa.ArrowInvalid("no line end at the end of the file")
    version = table.column("schema_version")[0].as_py() if table.num_rows and "schema_version" in header else None
    if version not in READABLE or csvfile.header_problems(header, version or SCHEMA_VERSION):
        raise pa.ArrowInvalid("other columns than those of the schema")
    return table


def _slowly(file: str) -> Any:
    """The table from rows read one by one, as the validator reads them."""
    rows = csvfile.read(file)
    names = list(columns())
    values = list(zip(*([value for _, value in cells(row)] for row in rows), strict=True))
    return pa.table({name: pa.array(column, arrow_type(name)) for name, column in zip(names, values, strict=True)})


def _placed(rows: Rows, file: str) -> Rows:
    """The rows with their lines, without the columns that nobody filled or nobody asks for."""
    names = [name for name in rows.table.column_names if name not in UNUSED and rows.has(name)]
    table = rows.table.select(names)
    table = table.append_column(FILE, pa.array(np.zeros(table.num_rows, dtype=np.int32)))
    return Rows(table.append_column(LINE, pa.array(_lines(file, table.num_rows))), (file,))


def _lines(file: str, count: int) -> Any:
    """The line in which each record begins: one below the other, unless a cell holds a line end."""
    with open(file, "rb") as binary:
        ends = sum(block.count(b"\n") for block in iter(lambda: binary.read(HEAD), b""))
    if ends == count + 1:
        return np.arange(2, count + 2, dtype=np.int32)
    lines = [item.line for item in csvfile.stream(file) if isinstance(item, csvfile.Record)]
    return np.array(lines, dtype=np.int32)

"""Results CSVs: rows to text and back without loss (RFC 4180, UTF-8, line feeds).

Numbers are written in the shortest form that reads back to the same value, an unknown cell is empty, and text stays
as it is: what a terminal or a spreadsheet must not see is escaped where it is shown. Line ends of other systems and
a byte order mark are read all the same; a file without its last line end was cut off, and is refused.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from perwatt import textfile
from perwatt.errors import InputError, shorten
from perwatt.results.schema import READABLE, SCHEMA_VERSION, Column, Row, cells, columns, columns_of, header_name
from perwatt.runner import folder

WHOLE = re.compile(r"-?[0-9]{1,4000}")  # Python refuses to read longer ones
LARGEST = 2**63 - 1  # of whole numbers, as tables of columns hold them
NUMBER = re.compile(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
QUOTED = re.compile('[",\r\n]')
LARGE = 2**27  # bytes of a file from which it is looked at line by line first
LONGEST = 2**24  # bytes of a line; a file without line ends must not be read whole to be refused


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One line below the header, not yet understood.

    Attributes:
        line: 1-based line in the file where it begins.
        texts: cells as they stand, in the order of the file.
    """

    line: int
    texts: list[str]


def write(rows: Iterable[Row], path: Path) -> None:
    """Write a results CSV, so that at any moment either the old or the new one is there, whole.

    Raises:
        InputError: the file cannot be written.
        ValueError: a cell holds NaN or infinity, which stand for nothing that was measured.
    """
    folder.replace(path, lines(rows))


def lines(rows: Iterable[Row]) -> list[str]:
    """The same as lines with their ends, the header first. Raises ValueError as :func:`write`."""
    return [_line(columns()), *(_line(_text(column, value) for column, value in cells(row)) for row in rows)]


def read(path: str | Path) -> list[Row]:
    """Rows of a results CSV. Columns are found by name; :func:`perwatt.results.validate.check` looks closer.

    Raises:
        InputError: for the first thing that keeps a row from being read, with line and column.
    """
    header, records = records_of(path)
    version = version_of(header, records[0]) if records else SCHEMA_VERSION
    if version not in READABLE:
        raise InputError(other_version(version), file=str(path), line=records[0].line, field="schema_version")
    if wrong := header_problems(header, version):
        raise InputError(wrong[0][1], file=str(path), line=1, field=wrong[0][0])
    return [_row(str(path), header, record) for record in records]


def records_of(path: str | Path) -> tuple[list[str], list[Record]]:
    """Header and records of a CSV, cells still text.

    Raises:
        InputError: unreadable, not UTF-8, empty, cut off, or not a CSV.
    """
    file, text = str(path), _decoded(str(path))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[Record] = []
    before = 0
    try:
        for texts in reader:
            found.append(Record(line=before + 1, texts=texts))
            before = reader.line_num
    except csv.Error as error:
        raise InputError(f"not a CSV: {error}", file=file, line=before + 1) from None
    return found[0].texts, found[1:]


def stream(path: str | Path) -> Iterator[list[str] | Record]:
    """The same one by one, the header first, of a file of any size.

    Raises:
        InputError: as :func:`records_of`, once the damage is reached.
    """
    lines = _Lines(str(path))
    reader, before, first = csv.reader(iter(lines), strict=True), 0, True
    try:
        for texts in reader:
            yield texts if first else Record(line=before + 1, texts=texts)
            before, first = reader.line_num, False
    except csv.Error as error:
        raise InputError(f"not a CSV: {error}", file=str(path), line=before + 1) from None


def is_large(path: str | Path) -> bool:
    """Whether a file is so large that it should not be read whole before something is known of it."""
    try:
        return Path(path).stat().st_size > LARGE
    except OSError:
        return False  # reading it will say why


def version_of(header: list[str], record: Record) -> str:
    """What a record says of its schema version; that of this perwatt where there is no such cell."""
    at = header.index("schema_version") if "schema_version" in header else len(record.texts)
    return record.texts[at] if at < len(record.texts) else SCHEMA_VERSION


def other_version(found: str) -> str:
    """What is wrong with a schema version that is not read."""
    return f"found {shorten(found)}, this perwatt reads {', '.join(map(repr, READABLE[:-1]))} and {READABLE[-1]!r}"


def header_problems(header: list[str], version: str = SCHEMA_VERSION) -> list[tuple[str | None, str]]:
    """Column and what is wrong with it, for every column missing, unknown or twice there.

    A missing column that an unknown one is like counts as one problem. Where most are missing, the file is another's.
    """
    known = columns_of(version)
    missing = [name for name in known if name not in header]
    if len(missing) > len(known) / 2:
        here = len(known) - len(missing)
        return [(None, f"found {here} of the {len(known)} columns of a results CSV: the file is not one")]
    found: list[tuple[str | None, str]] = []
    for name in dict.fromkeys(name for name in header if name not in known):
        near = difflib.get_close_matches(name, missing, n=1)
        found.append((name, "unknown column" + (f" (did you mean {near[0]!r}?)" if near else "")))
        missing = [other for other in missing if other not in near]
    twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    return [*((name, "missing column") for name in missing), *found, *((n, "column is there twice") for n in twice)]


def value_of(column: Column, text: str) -> Any:
    """A cell's value; None for an empty one.

    Raises:
        ValueError: the text is not of the column's type. The message says what was found and what was expected.
    """
    return _READ[column.type](text) if text else None


def row_of(values: Mapping[str, Any]) -> Row:
    """The row of values by column name."""
    cells: dict[str, Any] = {f.name: values.get(header_name(f.name)) for f in fields(Row)}
    return Row(**cells)


def _row(file: str, header: list[str], record: Record) -> Row:
    if len(record.texts) != len(header):
        message = f"found {len(record.texts)} cells, expected {len(header)}"
        raise InputError(message, file=file, line=record.line)
    values = {}
    for name, text in zip(header, record.texts, strict=True):
        try:
            values[name] = value_of(columns()[name], text)
        except ValueError as error:
            raise InputError(str(error), file=file, line=record.line, field=name) from None
    foreign = values["time_evidence"] == "published" or values["source"] is not None
    for name, value in values.items():
        if value is None and not columns()[name].may_be_empty(foreign):
            raise InputError("found nothing, expected a value", file=file, line=record.line, field=name)
    return row_of(values)


class _Lines:
    """Lines of a file, decoded one at a time."""

    def __init__(self, file: str) -> None:
        self._file = file

    def __iter__(self) -> Iterator[str]:
        try:
            with open(self._file, "rb") as binary:
                yield from self._lines(binary)
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", file=self._file) from None

    def _lines(self, binary: io.BufferedReader) -> Iterator[str]:
        number = 0
        while line := binary.readline(LONGEST):
            number += 1
            if len(line) == LONGEST:
                self._refuse(f"found a line of over {LONGEST >> 20} MiB, expected a results CSV", number)
            if not line.endswith(b"\n"):
                self._refuse("the last line is cut off: it has no line end", number)
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                self._refuse(f"found byte 0x{line[error.start]:02x}, expected UTF-8", number)
        if not number:
            self._refuse("empty file, expected a header", 1)

    def _refuse(self, what: str, line: int) -> NoReturn:
        raise InputError(what, file=self._file, line=line)


def _decoded(file: str) -> str:
    text = textfile.read(file)
    if not text.strip():
        raise InputError("empty file, expected a header", file=file, line=1)
    if not text.endswith("\n"):
        raise InputError("the last line is cut off: it has no line end", file=file, line=text.count("\n") + 1)
    return text


def _line(texts: Iterable[str]) -> str:
    return ",".join(f'"{t.replace(chr(34), chr(34) * 2)}"' if QUOTED.search(t) else t for t in texts) + "\n"


def _text(column: Column, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{column.name} is {value}, which no cell may hold")
    text = repr(value) if type(value) in (int, float) else str(value)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # half characters that a crash left in its message


def _whole(text: str) -> int:
    if not WHOLE.fullmatch(text):
        raise ValueError(f"found {shorten(text)}, expected a whole number")
    if abs(value := int(text)) > LARGEST:
        raise ValueError(f"found {shorten(text)}, expected a whole number of at most 63 bits")
    return value


def _number(text: str) -> float:
    value = float(text) if NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"found {shorten(text)}, expected a finite number")
    return value


_READ: dict[type, Callable[[str], Any]] = {str: str, int: _whole, float: _number}

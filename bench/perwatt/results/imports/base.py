"""What every format of results to import is made of."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from perwatt.errors import InputError, shorten
from perwatt.results.schema import SCHEMA_VERSION, Row

HEAD = 2**16  # bytes by which a format is told
LARGEST_JSON = 2**26  # bytes; read whole, it takes up to twenty times as much memory
EMPTY: dict[str, Any] = dict.fromkeys(field.name for field in fields(Row))
DIGITS = 12  # of the file's hash in the name of an imported run
MICRO = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What is imported.

    Attributes:
        path: the file.
        chip: kind of chip, where the user says it.
        op: collective operation, where the user says it.
    """

    path: Path
    chip: str | None = None
    op: str | None = None

    @property
    def file(self) -> str:
        """The path for messages."""
        return str(self.path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """Rows, and what to know of them."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A format of results.

    Attributes:
        name: of the tool, which is the rows' suite.
        doc: one line.
        detects: whether the beginning of a file is of this format.
        read: rows of a file; raises InputError where it is not what it seems.
    """

    name: str
    doc: str
    detects: Callable[[str], bool]
    read: Callable[[Given], Imported]


def head(path: Path) -> str:
    """The beginning of a file as text; what is no text comes out replaced.

    Raises:
        InputError: it cannot be read, or is empty.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(HEAD)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=str(path)) from None
    if not data.strip():
        raise InputError("empty file, expected results", file=str(path), line=1)
    return data.decode("utf-8-sig", "replace")


def run_id(path: Path, tool: str) -> str:
    """A name for what was imported that is the same for the same file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return f"{tool}-{digest.hexdigest()[:DIGITS]}"


def row(tool: str, run: str, **cells: Any) -> Row:
    """A measured row of another tool: what it does not say is empty, and without `work` it is compared with nothing."""
    return Row(
        **EMPTY
        | {
            "schema_version": SCHEMA_VERSION, "run_id": run, "suite": tool, "source": tool, "status": "ok",
            "time_evidence": "measured", "energy_evidence": "none", "power_source": "none",
        }
        | cells
    )  # fmt: skip


def loaded(given: Given) -> Any:
    """A JSON document.

    Raises:
        InputError: too large, not UTF-8, not JSON, or with NaN in it.
    """
    size = given.path.stat().st_size
    if size > LARGEST_JSON:
        raise InputError(f"found {size >> 20} MiB, expected at most {LARGEST_JSON >> 20} MiB of JSON", file=given.file)
    try:
        return json.loads(given.path.read_bytes().decode("utf-8-sig"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg.lower()}", file=given.file, line=error.lineno) from None
    except (ValueError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"not JSON: {reason}", file=given.file) from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"found {name}, which stands for nothing that was measured")


def of_kind(given: Given, value: Any, kind: type, field: str) -> Any:
    """The value, if it is of that kind. Raises InputError."""
    if not isinstance(value, kind):
        names: dict[type, str] = {dict: "an object", list: "a list", str: "text"}
        raise InputError(f"found {shorten(value)}, expected {names[kind]}", file=given.file, field=field)
    return value


def number(given: Given, content: Mapping[str, Any], name: str, field: str, *, above_zero: bool = False) -> float:
    """A finite number of an object. Raises InputError."""
    value = content.get(name)
    place = f"{field}.{name}"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        found = "nothing" if value is None else shorten(value)
        raise InputError(f"found {found}, expected a number", file=given.file, field=place)
    if value < 0 or (above_zero and value == 0):
        expected = "a number above zero" if above_zero else "no number below zero"
        raise InputError(f"found {value}, expected {expected}", file=given.file, field=place)
    return float(value)


def chip_of(given: Given, found: str | None) -> str:
    """The kind of chip: as the user says, else as the file does.

    Raises:
        InputError: neither does.
    """
    chip = given.chip or found
    if not chip:
        raise InputError("the file does not say on what chip it was measured, expected --chip NAME", file=given.file)
    return chip

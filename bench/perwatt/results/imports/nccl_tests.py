"""Text that the programs of nccl-tests print, such as ``all_reduce_perf``.

Format: https://github.com/NVIDIA/nccl-tests, its README and doc/PERFORMANCE.md. Comment lines name the settings and
devices; a line of the table has a size, then time (us), algbw and busbw (10^9 bytes) and wrong values out of place,
then the same in place. Lines of other programs in between, as of NCCL's own log, are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from perwatt.errors import InputError, shorten
from perwatt.results.imports import collective
from perwatt.results.imports.base import MICRO, Format, Given, Imported, chip_of, row, run_id
from perwatt.results.schema import TIMED, Row, Status, columns, header_name

NAME = "nccl-tests"
LONGEST = 2**16  # bytes of a line
TASK = re.compile(r"^\s*\d+:\s")  # that a launcher writes before each line
PROGRAM = re.compile(r"\b([a-z_]+)_perf\b")
SETTINGS = re.compile(r"# nThread \d+ .*?(?<!warmup )(?<!agg )\biters: (\d+)")
DEVICE = re.compile(r"#\s+Rank\s+\d+ .*\bon\s+(\S+)\s+device\s+\d+ \[([^\]]+)\] (.+?)\s*$")
HEADER = re.compile(r"#\s+size\s.*\btime\b|#\s+size\s.*\bcputime\b")
AVERAGE = re.compile(r"# Avg bus bandwidth\s*: (\S+)")
ROW = re.compile(r"\d+\s")
NUMBER = re.compile(r"\d+(\.\d*)?([eE][-+]?\d+)?")
BLOCK = ("time", "algbw", "busbw", "#wrong")
PLACES = ("out of place", "in place")
CLOSE = 0.01  # of averages of figures with two decimals


@dataclass(slots=True)
class _Output:
    """What was read so far."""

    op: str | None = None
    iters: int | None = None
    devices: list[tuple[str, str, str]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    average: str | None = None
    found: list[dict[str, Any]] = field(default_factory=list)
    buses: list[float] = field(default_factory=list)


def read(given: Given) -> Imported:
    """Two rows of each line of the table, out of place and in place."""
    output = _Output(op=given.op)
    for number, text in _lines(given):
        _take(given, output, number, text)
    if not output.found:
        raise InputError("found no line of a table of nccl-tests, expected at least one", file=given.file)
    notes = [*_check_average(given, output)]
    if output.op is None:
        notes.append("the operation is not stated; --op says it")
    chips = sorted({name for _, _, name in output.devices})
    if len(chips) > 1 and not given.chip:
        raise InputError(f"found devices of {len(chips)} kinds ({', '.join(chips)}), expected one", file=given.file)
    common = _where(output) | {
        "run": run_id(given.path, NAME), "chip": chip_of(given, chips[0] if chips else None), "impl": "nccl",
        "iters_per_sample": output.iters, "samples": 1,
    }  # fmt: skip
    unchecked = sum(cells.pop("unchecked") for cells in output.found)
    if unchecked:
        notes.append(f"{unchecked} rows were not checked for wrong values")
    return Imported(rows=tuple(_row(common | cells) for cells in output.found), notes=tuple(notes))


def _lines(given: Given) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        with open(given.path, "rb") as file:
            while line := file.readline(LONGEST):
                number += 1
                if len(line) == LONGEST:
                    raise InputError(
                        f"found a line of over {LONGEST >> 10} KiB, expected text", file=given.file, line=number
                    )
                yield number, TASK.sub("", line.decode("utf-8-sig")).rstrip()
    except UnicodeDecodeError as error:
        message = f"found byte 0x{error.object[error.start]:02x}, expected UTF-8"
        raise InputError(message, file=given.file, line=number) from None


def _take(given: Given, output: _Output, number: int, text: str) -> None:
    if match := PROGRAM.search(text):
        output.op = given.op or output.op or match[1]
    if match := SETTINGS.search(text):
        output.iters = int(match[1])
    elif match := DEVICE.match(text):
        output.devices.append((match[1], match[2], match[3]))
    elif HEADER.match(text):
        output.names = text.lstrip("# ").split()
    elif match := AVERAGE.match(text):
        output.average = match[1]
    elif ROW.match(text.strip() + " "):
        _table_line(given, output, number, text.split())


def _table_line(given: Given, output: _Output, number: int, texts: list[str]) -> None:
    """The rows of one line; one that begins with a whole number is of the table, once its head was seen."""
    if not output.names:
        return
    if len(texts) != len(output.names):
        message = f"found {len(texts)} cells, expected {len(output.names)}"
        raise InputError(message, file=given.file, line=number)
    starts = [at for at, name in enumerate(output.names) if name in ("time", "cputime")]
    size = int(texts[0])
    named = dict(zip(output.names[: starts[0]], texts, strict=False))
    for place, start in zip(PLACES, starts, strict=False):
        if size == 0:
            continue  # nothing was moved, so there is no rate and nothing to compare
        block = dict(zip(BLOCK, texts[start : start + len(BLOCK)], strict=False))
        where: dict[str, Any] = {"line": number, "field": output.names[start]}
        seconds = _number(given, block["time"], **where) * MICRO
        if seconds <= 0.0:
            raise InputError(f"found {block['time']}, expected a time above zero", file=given.file, **where)
        algbw, busbw = (_number(given, block[name], line=number, field=name) for name in ("algbw", "busbw"))
        if collective.unit(algbw, size, seconds) != collective.GIGA and not _tiny(algbw, size, seconds):
            raise collective.wrong_bandwidth(algbw, size, seconds, given.file, line=number, field="algbw")
        output.buses.append(busbw)
        kind = named.get("type", "")
        detail = " ".join(filter(None, (_said(named, "redop"), _said(named, "root"), place)))
        cells = collective.cells(output.op, size, kind, seconds, detail)
        cells |= _outcome(block.get("#wrong", "N/A"), output.names[start])
        cells["printed"] = f"{output.names[start]} {block['time']} us, algbw {algbw:g} GB/s, busbw {busbw:g} GB/s"
        output.found.append(cells)


def _tiny(printed: float, size: int, seconds: float) -> bool:
    """Whether a bandwidth is so low that both units round to it."""
    return abs(printed - size / seconds / collective.GIGA) <= collective.DIGIT


def _said(named: dict[str, str], name: str) -> str:
    """An operator or a root, where there is one."""
    value = named.get(name, "")
    if value in ("", "none", "-1"):
        return ""
    return f"root {value}" if name == "root" else value


def _outcome(wrong: str, clock: str) -> dict[str, Any]:
    """Status by wrong values; a time of the host alone ends before the devices do."""
    cells: dict[str, Any] = {"unchecked": not wrong.isdigit(), "timing_method": f"nccl-tests, {clock}"}
    if wrong.isdigit() and int(wrong) > 0:
        return cells | {"status": Status.INACCURATE, "error": f"{wrong} wrong values"}
    if clock == "cputime":
        return cells | {"status": Status.UNSTABLE, "error": "the host's time (-C 1), which ends before the devices do"}
    return cells


def _number(given: Given, text: str, **where: Any) -> float:
    if not NUMBER.fullmatch(text):
        raise InputError(f"found {shorten(text)}, expected a number", file=given.file, **where)
    return float(text)


def _where(output: _Output) -> dict[str, Any]:
    """Placement by the devices that are listed; empty where none is."""
    if not output.devices:
        return {}
    hosts, devices = {host for host, _, _ in output.devices}, {(host, bus) for host, bus, _ in output.devices}
    placement = "cluster" if len(hosts) > 1 else "node" if len(devices) > 1 else "device"
    return {
        "backend": "cuda", "placement": placement, "world_size": len(output.devices), "devices_used": len(devices),
        "devices_per_chip": 1, "chips": float(len(devices)),
    }  # fmt: skip


def _check_average(given: Given, output: _Output) -> Iterator[str]:
    """The average below the table is that of its bus bandwidths, if the table is whole."""
    if output.average is None:
        yield "no line `Avg bus bandwidth` follows the table: the output may be cut off"
        return
    printed, computed = _number(given, output.average, field="Avg bus bandwidth"), fmean(output.buses or [0.0])
    if abs(printed - computed) > max(CLOSE, CLOSE * printed):
        message = f"found {printed:g}, the table gives {computed:.6g}: lines are missing or were changed"
        raise InputError(message, file=given.file, field="Avg bus bandwidth")


def _row(cells: dict[str, Any]) -> Row:
    """The row; one that is not ok has no cells that its status does not allow."""
    status = Status(cells.get("status", Status.OK))
    if status in TIMED:
        return row(NAME, **cells)
    allowed = {name: column.statuses for name, column in columns().items()}
    kept = {name: cell for name, cell in cells.items() if name == "run" or status in allowed[header_name(name)]}
    return row(NAME, **kept)


FORMAT = Format(
    name=NAME,
    doc="text of the programs of nccl-tests",
    detects=lambda text: "# nThread " in text or any(map(HEADER.match, map(str.strip, text.splitlines()))),
    read=read,
)

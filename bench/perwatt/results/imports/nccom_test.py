"""JSON of AWS Neuron's nccom-test (``--report-to-json-file``).

Format: the nccom-test user guide (awsdocs-neuron, tools/neuron-sys-tools/nccom-test). Its columns are labelled GB/s and
defined as GiB/s (2^30 bytes): 32 MiB in 768 us are printed as 40.69. The guide's own JSON example is in 10^9 bytes all
the same (1,024 bytes in 6.19 us as 0.1655), so each line is asked which of the two its figures are; rates are worked
out from size and time, and are right either way. To ask again: compare algbw of one line with its size over its time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from perwatt.errors import InputError
from perwatt.results.imports import collective
from perwatt.results.imports.base import (
    MICRO,
    Format,
    Given,
    Imported,
    chip_of,
    loaded,
    number,
    of_kind,
    row,
    run_id,
)
from perwatt.results.schema import Row

NAME = "nccom-test"
TIME = re.compile(r"time(:(?P<what>[a-z0-9]+))?\(us\)")
CONVERSION = {
    collective.GIBI: "GB/s of the file are GiB/s (2^30 bytes), as documented",
    collective.GIGA: "GB/s of the file are 10^9 bytes, although documented as GiB/s",
}


def read(given: Given) -> Imported:
    """A row of each size."""
    content = of_kind(given, loaded(given), dict, "the document")
    results = of_kind(given, content.get("results"), list, "results")
    if not results:
        raise InputError("found no result, expected at least one", file=given.file, field="results")
    chip, run = chip_of(given, None), run_id(given.path, NAME)
    rows: list[Row] = []
    units: dict[float, int] = {}
    for at, one in enumerate(results):
        made, unit = _row(given, of_kind(given, one, dict, f"results[{at}]"), f"results[{at}]", chip, run)
        rows.append(made)
        units[unit] = units.get(unit, 0) + 1
    notes = [f"{CONVERSION[unit]} ({count} of {len(rows)} rows)" for unit, count in units.items()]
    if other := sorted(set(content) - {"results"}):
        notes.append(f"not read: {', '.join(other)}")
    return Imported(rows=tuple(rows), notes=tuple(notes))


def _row(given: Given, one: Mapping[str, Any], field: str, chip: str, run: str) -> tuple[Row, float]:
    size = int(number(given, one, "size(B)", field, above_zero=True))
    kind = of_kind(given, one.get("type"), str, f"{field}.type")
    name, what = _time(given, one, field)
    micro = number(given, one, name, field, above_zero=True)
    rates = [number(given, one, f"{rate}(GB/s)", field) for rate in ("algbw", "busbw")]
    unit = collective.unit(rates[0], size, micro * MICRO)
    if unit is None:
        raise collective.wrong_bandwidth(rates[0], size, micro * MICRO, given.file, field=f"{field}.algbw(GB/s)")
    label = "GiB/s" if unit == collective.GIBI else "GB/s"
    algorithm = one.get("algorithm")
    cells = collective.cells(given.op, size, kind, micro * MICRO, algorithm if isinstance(algorithm, str) else "")
    printed = f"{what} time {micro:g} us, algbw {rates[0]:.6g} {label}, busbw {rates[1]:.6g} {label}"
    return row(NAME, run=run, chip=chip, impl=NAME, timing_method=f"nccom-test, {what}", printed=printed, **cells), unit


def _time(given: Given, one: Mapping[str, Any], field: str) -> tuple[str, str]:
    """The column with the time, the median before the mean, and what it is."""
    found = {name: match["what"] or "avg" for name in one if (match := TIME.fullmatch(name))}
    if not found:
        raise InputError("found no time, expected time:avg(us) or another statistic", file=given.file, field=field)
    return min(found.items(), key=lambda item: (item[1] != "p50", item[1] != "avg", item[1]))


FORMAT = Format(
    name=NAME,
    doc="JSON of AWS Neuron's nccom-test",
    detects=lambda text: text.lstrip().startswith("{") and '"size(B)"' in text,
    read=read,
)

"""By how much each figure may get worse before a gate fails, as the user says it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from perwatt.analysis.metrics import METRICS
from perwatt.errors import InputError, expected, shorten
from perwatt.spec import yamlfile

USUAL = 0.03  # of a figure that has no limit of its own
SHORT = {"time": "time_s", "energy": "energy_j", "memory": "peak_bytes", "compile": "compile_cold_s"}
PERCENT = re.compile(r"([0-9]+(\.[0-9]*)?|\.[0-9]+) ?%")


def limits(
    *, usual: str | None = None, metrics: Iterable[str] = (), own: Iterable[str] = (), file: str | Path | None = None
) -> dict[str, float]:
    """Limits by name of the figure, relative; of the time alone if nothing else is asked.

    Args:
        usual: limit of figures without one of their own, for example ``3%``.
        metrics: names of figures to look at.
        own: limits of single figures, for example ``peak_bytes=1%``.
        file: a YAML file with a mapping of figures to limits; what is said otherwise goes before it.

    Raises:
        InputError: no such figure, or no percentage.
    """
    rest = percent(usual, field="--max-regression") if usual else USUAL
    found = _of_file(file) if file else {}
    found |= {_name(metric, "--metric"): rest for metric in metrics}
    for text in own:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"found {shorten(text)}, expected NAME=PERCENT such as peak_bytes=1%", field="--limit")
        found[_name(name.strip(), "--limit")] = percent(value.strip(), field=f"--limit {name.strip()}")
    found = found or {"time_s": rest}
    for name, limit in found.items():
        if METRICS[name].better > 0 and limit >= 1.0:
            raise InputError(f"found {100 * limit:g}%, expected less than 100%: it cannot fall by more", field=name)
    return {name: found[name] for name in METRICS if name in found}


def percent(value: Any, field: str) -> float:
    """``3%`` as 0.03. A number without the sign could mean either, so it is refused.

    Raises:
        InputError: it is none.
    """
    match = PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InputError(f"found {shorten(value)}, expected a percentage such as 3%", field=field)
    return float(match[1]) / 100.0


def _name(name: str, field: str) -> str:
    full = SHORT.get(name, name)
    if full not in METRICS:
        raise InputError(expected(name, [*METRICS, *SHORT], "the name of a figure"), field=field)
    return full


def _of_file(path: str | Path) -> dict[str, float]:
    document = yamlfile.load(path)
    with document.placed():
        content: Mapping[str, Any] = yamlfile.of_kind("", document.value, dict)
        return {_name(name, name): percent(value, field=name) for name, value in content.items()}

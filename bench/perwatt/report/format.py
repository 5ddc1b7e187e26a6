"""Numbers as people read them: four digits, a unit that fits, an interval in percent."""

from __future__ import annotations

import math

DIGITS = 4  # significant; more than the interval of any row supports
TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
BYTE_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))  # powers of ten
MINUTE, HOUR = 60, 3600


def number(value: float | None) -> str:
    """``12.31``, ``1,234``, ``0.01234``; nothing for None."""
    if value is None:
        return ""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = DIGITS - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(decimals, 0), 12)}f}"


def seconds(value: float | None) -> str:
    """``12.31 ms``; nothing for None."""
    if value is None:
        return ""
    scale, unit = next((pair for pair in TIME_UNITS if abs(value) >= pair[0]), TIME_UNITS[-1])
    return f"{number(value / scale)} {unit}"


def volume(value: float) -> str:
    """Bytes: ``20.00 GB``, which is 20 x 10^9."""
    scale, unit = next((pair for pair in BYTE_UNITS if abs(value) >= pair[0]), BYTE_UNITS[-1])
    return f"{number(value / scale)} {unit}"


def interval(value: float | None, lo: float | None, hi: float | None) -> str:
    """``±0.8%``: the farther end of an interval, relative to the value; nothing where one of them is unknown.

    From 100 % on the figure says nothing more than that: ``>100%``.
    """
    if value is None or lo is None or hi is None or value == 0:
        return ""
    percent = 100 * max(value - lo, hi - value) / abs(value)
    if not math.isfinite(percent):
        return ""
    if percent >= 100:
        return ">100%"
    return f"±{percent:.0f}%" if percent >= 10 else f"±{percent:.2g}%"


def span(value: float) -> str:
    """A span of time to wait: ``45 s``, ``3 min``, ``2 h 05 min``."""
    if value < 2 * MINUTE:
        return f"{value:.0f} s"
    if value < 2 * HOUR:
        return f"{value / MINUTE:.0f} min"
    return f"{value // HOUR:.0f} h {value % HOUR / MINUTE:02.0f} min"


def plain(text: str) -> str:
    """Text of a file as one line without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in " ".join(text.split()))

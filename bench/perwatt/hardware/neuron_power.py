"""Lines of the Neuron driver's power files: one strict reader for each.

``utilization`` is documented: status, seconds since 1970, minimum, maximum, average, all three in percent with two
decimals (Neuron sysfs user guide; the driver's ``npower_format_stats``). Of ``utilization_raw`` it is documented that
it has one line for each die, what stands for a value that is missing or out of range, and no more. A good line is taken
to have one of three shapes, in which a percentage cannot be mistaken for a counter; whatever else is there is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

VALID, NO_DATA, INVALID = "POWER_STATUS_VALID", "POWER_STATUS_NO_DATA", "POWER_STATUS_INVALID"
WHOLE = 100.0
SHOWN = 120  # characters of a line that an error quotes

_PERCENT = r"\d{1,3}\.\d\d"
_MINUTE = re.compile(rf"(\w+),(\d+),({_PERCENT}),({_PERCENT}),({_PERCENT})\n?", re.ASCII)
_DIE = re.compile(
    rf"(?P<die>\d),(?:(?P<lone>{_PERCENT})"  # hypothetical: the value alone,
    rf"|(?P<first>{_PERCENT}),\d{{1,5}}"  # before the firmware's 16-bit counter,
    rf"|\d{{1,5}},(?P<last>{_PERCENT})"  # or after it
    r"|(?P<missing>unavailable)|(?P<bogus>bogus\(\d+\)))",
    re.ASCII,
)


class Garbage(ValueError):
    """A file says what is not documented, or what cannot be; quotes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Minute:
    """What the driver made of a wall-clock minute.

    Attributes:
        valid: whether there is a value; False is ``POWER_STATUS_NO_DATA``: fewer than 60 samples, or none ever.
        stamp: when it was rolled up, seconds since 1970: just after the minute's end, by a clock that may be set.
        low: smallest percentage.
        high: largest.
        average: of the samples.
    """

    valid: bool
    stamp: float
    low: float
    high: float
    average: float


def minute(text: str, label: str) -> Minute:
    """Read ``utilization``.

    Args:
        text: all of the file.
        label: of its chip, for errors.

    Raises:
        Garbage: it is not as documented, or has a status that says nothing good.
    """
    match = _MINUTE.fullmatch(text)
    if not match:
        raise Garbage(f"{label}: utilization reads {shown(text)}, expected status,epoch,min,max,avg")
    status, (low, high, average) = match[1], (float(match[index]) for index in (3, 4, 5))
    if status not in (VALID, NO_DATA):
        raise Garbage(f"{label}: {status if status == INVALID else f'unknown status {status}'} in {shown(text)}")
    if not low <= average <= high <= WHOLE:
        raise Garbage(f"{label}: utilization reads {shown(text)}, expected 0 <= min <= avg <= max <= 100")
    if not int(match[2]):
        raise Garbage(f"{label}: utilization reads {shown(text)}, which is of the year 1970")
    return Minute(valid=status == VALID, stamp=float(match[2]), low=low, high=high, average=average)


def dies(text: str, label: str, count: int) -> tuple[float, ...] | None:
    """Read ``utilization_raw``.

    Args:
        text: all of the file.
        label: of its chip, for errors.
        count: dies that the chip has.

    Returns:
        Percentage of each die's maximum; None while one of them is unavailable.

    Raises:
        Garbage: a line has no shape that is known, a value is out of range, or there are other dies than expected.
    """
    matches = [_DIE.fullmatch(line) for line in text.splitlines()]
    known = [match for match in matches if match]
    if len(known) < len(matches) or [int(match["die"]) for match in known] != list(range(count)):
        raise Garbage(f"{label}: utilization_raw reads {shown(text)}, expected a line for each of {count} dies")
    if any(match["bogus"] for match in known):
        raise Garbage(f"{label}: the driver calls a value bogus: {shown(text)}")
    if any(match["missing"] for match in known):
        return None
    values = tuple(float(match["lone"] or match["first"] or match["last"]) for match in known)
    if max(values) > WHOLE:
        raise Garbage(f"{label}: utilization_raw reads {shown(text)}, expected 0 to 100")
    return values


def shown(text: str) -> str:
    """A file's text on one line, for an error or to be kept."""
    line = text.strip().replace("\n", " | ")
    return repr(line if len(line) <= SHOWN else line[:SHOWN] + "...")

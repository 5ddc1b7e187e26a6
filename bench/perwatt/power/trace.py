"""What a sensor said over a window: readings with their times, as the journal keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from perwatt.power.base import Facts, Reading


@dataclass(slots=True, kw_only=True)
class Trace:
    """Readings of one sensor.

    Attributes:
        facts: what the sensor says of itself.
        times: when it was read, seconds of the monotonic clock: middle of the call.
        took: seconds that each call took.
        unix: the wall clock at the same moments.
        readings: what it said.
        lost: why there are no more; empty where it answered until the end.
    """

    facts: Facts
    times: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    unix: list[float] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    lost: str = ""

    def add(self, start: float, end: float, unix: float, reading: Reading) -> None:
        """Take in a reading that was asked for at ``start`` and had at ``end``."""
        self.times.append((start + end) / 2)
        self.took.append(end - start)
        self.unix.append(unix)
        self.readings.append(reading)

    def copy(self) -> Trace:
        """What is there now, whole readings only: a thread that hangs may still add to this one."""
        count = len(self.readings)
        times, took, unix = self.times[:count], self.took[:count], self.unix[:count]
        return replace(self, times=times, took=took, unix=unix, readings=self.readings[:count])

    def message(self) -> dict[str, Any]:
        """JSON form: a column for each thing, without what is empty throughout."""
        columns: dict[str, list[Any]] = {"times": self.times, "took": self.took, "unix": self.unix}
        columns["values"] = [one.values for one in self.readings]
        for name in ("lows", "highs", "stamp", "raw"):
            cells = [getattr(one, name) for one in self.readings]
            if any(cell not in ((), None, "") for cell in cells):
                columns[name] = cells
        return {"facts": asdict(self.facts), "lost": self.lost, **columns}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Trace:
        """The trace of a JSON form."""
        values = message["values"]
        count = len(values)
        lows, highs = message.get("lows", [()] * count), message.get("highs", [()] * count)
        stamps, raws = message.get("stamp", [None] * count), message.get("raw", [""] * count)
        readings = [
            Reading(values=tuple(one), lows=tuple(low), highs=tuple(high), stamp=stamp, raw=raw)
            for one, low, high, stamp, raw in zip(values, lows, highs, stamps, raws, strict=True)
        ]
        facts: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in message["facts"].items()
        }
        return cls(facts=Facts(**facts), times=list(message["times"]), took=list(message["took"]),
                   unix=list(message["unix"]), readings=readings, lost=message["lost"])  # fmt: skip

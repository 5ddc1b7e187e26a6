"""The two times that no implementation of a case can beat on a chip, by its sheet.

Operations at the dense peak of their format, and compulsory bytes at the bandwidth of memory; the larger one binds.
Both are of data sheets: what is measured beside them is a gap, never a floor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from perwatt.hardware.chips import Chip
from perwatt.results import limits
from perwatt.spec.case import Case
from perwatt.spec.work import canonical


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """Of one copy of a case on one device of a chip.

    Attributes:
        case: its name.
        flops: operations, and ``bytes`` of compulsory traffic; None where the workload counts none.
        flops_s: seconds of the operations, and ``bytes_s`` of the bytes; None where a peak or a count is missing.
    """

    case: str
    flops: float | None
    bytes: float | None
    flops_s: float | None
    bytes_s: float | None

    @property
    def floor_s(self) -> float | None:
        """The larger one; None where neither is known."""
        return largest(self.flops_s, self.bytes_s)

    @property
    def bound(self) -> str:
        """What binds: ``operations``, ``memory``, or nothing where neither is known."""
        return "" if self.floor_s is None else "operations" if self.floor_s == self.flops_s else "memory"

    def as_json(self) -> dict[str, Any]:
        """The same of plain values."""
        return {**asdict(self), "floor_s": self.floor_s, "bound": self.bound}


def floors(cases: Iterable[Case], chip: Chip) -> tuple[Floor, ...]:
    """Floors of cases, once each, whatever their implementations.

    A device that is a part of a chip has its part of the peak; its memory is that of the whole chip, as the sheet
    prints no other figure.
    """
    return tuple(_floor(case, chip) for case in {case.name: case for case in cases}.values())


def _floor(case: Case, chip: Chip) -> Floor:
    counts = case.workload.counts(case.params, case.pass_, case.precision)
    place = {"chip": chip.name, "devices_per_chip": chip.devices_per_chip(), "devices_used": 1, "chips": None}
    kind = {"workload": case.workload.name, "precision": case.precision.name, "work": canonical(case.work)}
    most = limits.of({**place, **kind, "flops": counts.flops, "tokens": counts.tokens}, case.precision.compute)
    flops_s, bytes_s = times(counts.flops, counts.bytes, most.peak_tflops, chip)
    return Floor(case=case.name, flops=counts.flops, bytes=counts.bytes, flops_s=flops_s, bytes_s=bytes_s)


def times(
    flops: float | None, moved: float | None, peak_tflops: float | None, chip: Chip | None, chips: float = 1.0
) -> tuple[float | None, float | None]:
    """Seconds that operations take at a peak, and bytes at the bandwidth of so many chips; None for what is missing."""
    return (
        flops / (peak_tflops * 1e12) if flops and peak_tflops else None,
        moved / (chip.bandwidth_bytes * chips) if moved and chip else None,
    )


def largest(*floors: float | None) -> float | None:
    """The one that binds; None where none is known."""
    return max((one for one in floors if one), default=None)

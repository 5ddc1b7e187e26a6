"""Points of a calibration from a run: percentages of each window, and the watts of an outside meter meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perwatt.errors import InputError
from perwatt.power import evaluate, meter, percent
from perwatt.power.calibration import Subject
from perwatt.power.calibration_file import Point
from perwatt.power.measured import Measured, Unusable
from perwatt.power.meter import Aligned, Interval
from perwatt.power.meterfile import MeterFile
from perwatt.power.trace import Trace
from perwatt.runner import journal
from perwatt.runner.folder import Folder
from perwatt.runner.ledger import Ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What a run gives.

    Attributes:
        subject: what its percentages and watts are of.
        points: of its windows.
        left_out: windows that give none, and why.
        offset_s: by which the meter's clock is ahead.
        offset_u95: half-width of its 95 % interval, seconds.
    """

    subject: Subject
    points: tuple[Point, ...]
    left_out: tuple[str, ...]
    offset_s: float
    offset_u95: float


def points(run: str | Path, trace: MeterFile, offset_s: float | None = None) -> Taken:
    """Points of a run.

    Args:
        run: its folder.
        trace: of the meter, which saw the run.
        offset_s: by which the meter's clock is ahead, if stated.

    Raises:
        InputError: it is no run's folder, has no windows with percentages, or the trace is of another time.
    """
    ledger = _ledger(run)
    windows = [(event, interval) for event in ledger.windows.values() if (interval := Interval.of(event))]
    if not any(_percentages(event) for event, _ in windows):
        reason = ledger.sensors.get("reason")
        message = "found no window with percentages of power, expected a run with energy: all on a Neuron device"
        raise InputError(message + (f" ({reason})" if reason else ""), file=str(run))
    aligned = meter.aligned(trace, [interval for _, interval in windows], offset_s=offset_s)
    made: list[Point] = []
    left_out: list[str] = []
    subjects = []
    for (event, interval), reason in zip(windows, aligned.reasons, strict=True):
        name = ledger.cases[event["case"]]["name"]
        try:
            own = _usable(event, reason)
            made.append(_point(name, event, own, ledger.sensors["chips"], interval, aligned))
        except Unusable as error:
            left_out.append(f"{name}, {event['impl']}: {error}")
            continue
        subjects.append(_subject(ledger, own, trace))
    if not subjects:
        raise InputError(f"no window gives a point: {'; '.join(left_out)}", file=str(run))
    return Taken(
        subject=the_same(subjects, str(run)), points=tuple(made), left_out=tuple(left_out), offset_s=aligned.offset_s,
        offset_u95=aligned.offset_u95,
    )  # fmt: skip


def chips(run: str | Path) -> int:
    """Number of chips that worked in a run, whose power percentages were read; 1 where none were.

    Raises:
        InputError: it is no run's folder.
    """
    return int(_ledger(run).sensors.get("chips", 1))


def _ledger(run: str | Path) -> Ledger:
    folder = Folder(Path(run))
    if not folder.journal.is_file():
        raise InputError("found no journal.jsonl, expected a run's folder", file=str(run))
    return Ledger.of(journal.read(folder.journal)[0])


def the_same(subjects: list[Subject], where: str) -> Subject:
    """What all points are of.

    Raises:
        InputError: they are not of the same.
    """
    for other in subjects[1:]:
        for field in Subject.__dataclass_fields__:
            if (found := getattr(other, field)) != (wanted := getattr(subjects[0], field)):
                raise InputError(f"found points of {found!r} and of {wanted!r}, expected them of one", file=where,
                                 field=field)  # fmt: skip
    return subjects[0]


def _percentages(event: dict[str, Any]) -> dict[str, Any] | None:
    return next((trace for trace in event["traces"] if trace["facts"]["quantity"] == "%"), None)


def _usable(event: dict[str, Any], reason: str) -> Trace:
    """The percentages of a window, if the window is any good."""
    found = _percentages(event)
    if why := event["failed"] or event["ended"] or reason or ("" if found else "no percentages"):
        raise Unusable(why)
    assert found
    return Trace.from_message(found)


def _subject(ledger: Ledger, own: Trace, trace: MeterFile) -> Subject:
    device = ledger.run["device"]
    return Subject(
        chip=device["chip"], chips=ledger.sensors["chips"], die_rule=percent.rule(own.facts), scope=trace.scope,
        instance_type=device["instance_type"] or "", driver=device["driver"] or "",
        meter_class_pct=100 * trace.accuracy,
    )  # fmt: skip


def _point(
    name: str, event: dict[str, Any], own: Trace, chips: int, interval: Interval, aligned: Aligned
) -> Point:  # fmt: skip
    """Percentage and watts over the same span, the whole updates of the percentage inside the steady load."""
    found = evaluate.measured(own, interval.start + event["ramp_s"], interval.end)
    seen = evaluate.measured(aligned.trace, found.start, found.end)
    late = meter.shift_j(aligned.trace, found.start, found.end, aligned.offset_u95) / found.seconds
    pct = _means(found, chips)
    watts = _means(seen, 1)
    return Point(
        case=name, impl=event["impl"], pct=pct[0], pct_lo=pct[1], pct_hi=pct[2], watts=watts[0],
        watts_lo=watts[1] - late, watts_hi=watts[2] + late,
    )  # fmt: skip


def _means(found: Measured, count: int) -> tuple[float, float, float]:
    """Mean over time and over so many chips, with its interval."""
    scale = 1 / found.seconds / count
    return found.total * scale, found.lo * scale, found.hi * scale

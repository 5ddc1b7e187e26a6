"""An outside meter's trace as a trace of the run: on our monotonic clock, with what the meter says of itself.

What a window of load gets from it depends on how well the two clocks are known to agree: :attr:`Aligned.offset_u95`, of
which :func:`shift_j` says what it is worth in joules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from perwatt.errors import InputError
from perwatt.power import alignment
from perwatt.power.alignment import SEARCHED_S, Load
from perwatt.power.base import Facts, Reading
from perwatt.power.meterfile import FEWEST, Floats, MeterFile
from perwatt.power.trace import Trace

STEPPED_S = 0.5  # by which the host's clock may differ between windows, where an offset to it was stated
SHIFTS = 9  # positions that a window is tried at within the interval of the offset


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A window of steady load and the quiet around it.

    Attributes:
        start: the load begins, seconds of the monotonic clock.
        end: it ends.
        unix: the wall clock at ``start``, seconds since 1970.
        before: seconds of quiet before it.
        after: and after.
    """

    start: float
    end: float
    unix: float
    before: float
    after: float

    @classmethod
    def of(cls, window: Mapping[str, Any]) -> Interval | None:
        """That of a journal's ``window`` event; None where the load did not come to its end.

        The event says when the quiet behind the load was over. That before it was as long, or a little longer.
        """
        if not window["marks"] or not window["clocks"]:
            return None
        start, end = float(window["marks"][0][0]), float(window["marks"][-1][0])
        quiet, wall = window["clocks"][0] - end, window["clocks"][1] - window["clocks"][0]
        return cls(start=start, end=end, unix=start + wall, before=quiet, after=quiet)


@dataclass(frozen=True, kw_only=True, slots=True)
class Aligned:
    """A meter's trace on our clock.

    Attributes:
        trace: its times are of the monotonic clock.
        offset_s: by which the meter's clock is ahead of the host's.
        offset_u95: half-width of its 95 % interval, seconds.
        correlation: of watts with the loads; None where the offset was stated.
        reasons: for each window, in order, why the trace says nothing about it; empty where it does.
    """

    trace: Trace
    offset_s: float
    offset_u95: float
    correlation: float | None
    reasons: tuple[str, ...]


def aligned(meter: MeterFile, windows: Sequence[Interval], *, offset_s: float | None = None) -> Aligned:
    """Put a meter's trace on our clock.

    Args:
        meter: the file that was read.
        windows: of one run, one at least.
        offset_s: by which the meter's clock is ahead of the host's, if the user states it; else it is found by when the
            watts rise and fall.

    Raises:
        InputError: the trace does not overlap the windows, or no offset explains it clearly.
    """
    wall = [window.unix - window.start for window in windows]
    ahead = float(np.median(wall))  # of the wall clock before the monotonic one; a clock that is set changes it
    if max(wall) - min(wall) > SEARCHED_S:
        message = "the run's windows are of two boots of the host, or its clock was set far, expected one of a kind"
        raise InputError(message, file=meter.file)
    reach = SEARCHED_S if offset_s is None else 0.0
    _refuse_apart(meter, windows, ahead + (offset_s or 0.0), reach)
    if offset_s is not None:
        if max(wall) - min(wall) > STEPPED_S:
            message = f"the host's clock was set by {max(wall) - min(wall):.1f} s during the run, so that no stated"
            raise InputError(f"{message} offset holds; leave it out", field="meter offset")
        found, u95, correlation = offset_s, meter.step_s / 2, None
    else:
        loads = [Load(start=one.start, end=one.end, before=one.before, after=one.after) for one in windows]
        try:
            offset = alignment.find(meter.times - ahead, meter.total, loads)
        except InputError as error:
            raise error.at(file=meter.file) from None
        found, u95, correlation = offset.seconds, offset.u95, offset.correlation
    times = meter.times - ahead - found
    return Aligned(
        trace=_trace(meter, times, ahead, found, u95), offset_s=found, offset_u95=u95, correlation=correlation,
        reasons=tuple(_reason(times, meter.step_s, window) for window in windows),
    )  # fmt: skip


def shift_j(trace: Trace, start: float, end: float, by_s: float) -> float:
    """By how many joules the energy of a window may be off because its clock is, at most.

    Args:
        trace: of watts.
        start: of the window, seconds of the monotonic clock.
        end: of the same.
        by_s: seconds by which it may lie earlier or later.
    """
    times = np.array(trace.times)
    watts = np.array([sum(reading.values) for reading in trace.readings])
    joules = np.concatenate([[0.0], np.cumsum(np.diff(times) * (watts[1:] + watts[:-1]) / 2)])
    shifts = np.linspace(-by_s, by_s, SHIFTS)
    energy = _between(times, watts, joules, start + shifts, end + shifts)
    return float(np.abs(energy - energy[SHIFTS // 2]).max())


def _between(times: Floats, watts: Floats, joules: Floats, starts: Floats, ends: Floats) -> Floats:
    """Integral of straight lines between the values."""

    def up_to(moment: Floats) -> Floats:
        at = np.clip(np.searchsorted(times, moment) - 1, 0, len(times) - 2)
        into = np.clip(moment, times[0], times[-1]) - times[at]
        slope = (watts[at + 1] - watts[at]) / (times[at + 1] - times[at])
        return np.asarray(joules[at] + into * watts[at] + into**2 * slope / 2)

    return up_to(ends) - up_to(starts)


def _refuse_apart(meter: MeterFile, windows: Sequence[Interval], ahead: float, reach: float) -> None:
    first, last = (float(time) - ahead for time in meter.times[[0, -1]])
    start, end = min(window.start for window in windows), max(window.end for window in windows)
    if last + reach > start and first - reach < end:
        return
    trace = f"{_utc(float(meter.times[0]))} to {_utc(float(meter.times[-1]))} UTC"
    run = f"{_utc(start + ahead)} to {_utc(end + ahead)} UTC"
    hint = f" (clocks may be {reach:g} s apart)" if reach else " by the meter's clock as stated"
    raise InputError(f"found a trace from {trace}, expected one that overlaps the run's windows, {run}{hint}",
                     file=meter.file)  # fmt: skip


def _utc(unix: float) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S}"


def _reason(times: Floats, step: float, window: Interval) -> str:
    if times[0] - step > window.start or times[-1] + step < window.end:
        return "the meter's trace does not reach over the whole window"
    inside = int(((times >= window.start) & (times <= window.end)).sum())
    if inside < FEWEST:
        return f"{inside} lines of the meter's trace in the window, expected at least {FEWEST}: one each {step:g} s"
    return ""


def _trace(meter: MeterFile, times: Floats, ahead: float, offset: float, u95: float) -> Trace:
    note = f"the meter's clock is ahead by {offset:.2f} s (±{u95:.2g} s)"
    facts = Facts(
        sensor="meter", source="metered", scope=meter.scope, quantity="W", kind="samples", channels=meter.channels,
        update_s=meter.step_s, poll_s=meter.step_s, window_s=FEWEST * meter.step_s, resolution=meter.resolution,
        rel_sys=meter.accuracy, chips=meter.chips, note="; ".join(filter(None, (note, meter.note))),
    )  # fmt: skip
    readings = [
        Reading(values=tuple(row), stamp=stamp)
        for row, stamp in zip(meter.watts.tolist(), meter.times.tolist(), strict=True)
    ]
    return Trace(facts=facts, times=times.tolist(), took=[0.0] * len(times), unix=(times + ahead).tolist(),
                 readings=readings)  # fmt: skip

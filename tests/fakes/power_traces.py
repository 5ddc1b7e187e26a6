"""Sensors of a power that is known at every moment, and what they say when they are polled.

Written apart from what evaluates traces: nothing here is imported from there but the form of a trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from perwatt.power.base import Facts, Reading
from perwatt.power.trace import Trace

Floats: TypeAlias = NDArray[np.float64]
MINUTE = 60.0


class Power:
    """Power in steps: ``watts[i]`` from ``edges[i]`` to ``edges[i + 1]``."""

    def __init__(self, edges: Floats, watts: Floats) -> None:
        self._edges = np.asarray(edges, dtype=np.float64)
        self._joules = np.concatenate(([0.0], np.cumsum(np.diff(self._edges) * watts)))

    def energy(self, moments: Floats | float) -> Floats:
        """Joules used since the beginning."""
        return np.interp(moments, self._edges, self._joules)

    def between(self, start: float, end: float) -> float:
        return float(self.energy(end) - self.energy(start))


def constant(watts: float, length: float) -> Power:
    return Power(np.array([0.0, length]), np.array([watts]))


def square(low: float, high: float, period: float, length: float, phase: float, uneven: Floats | None = None) -> Power:
    """Half of each period low, half high, beginning ``phase`` periods before 0; ``uneven`` scales each half."""
    halves = np.full(int(2 * length / period) + 4, period / 2.0)
    if uneven is not None:
        halves *= np.resize(uneven, halves.size)
    edges = np.concatenate(([0.0], np.cumsum(halves))) - phase * period
    watts = np.resize([low, high], halves.size)
    return Power(np.append(edges, edges[-1] + length), np.append(watts, low))


def ramp(first: float, last: float, begin: float, end: float, length: float) -> Power:
    """From one power to another in a straight line (in steps of 0.5 ms), level before and after."""
    edges = np.linspace(begin, end, int((end - begin) / 5e-4) + 2)
    watts = np.interp((edges[1:] + edges[:-1]) / 2.0, [begin, end], [first, last])
    return Power(
        np.concatenate(([min(0.0, begin - 1.0)], edges, [max(length, end) + 1.0])),
        np.concatenate(([first], watts, [last])),
    )


def noisy(watts: float, sigma: float, memory: float, length: float, rng: np.random.Generator) -> Power:
    """First-order autoregression with a memory in seconds, in ten steps a memory."""
    step = memory / 10.0
    count = int(length / step) + 2
    keep = np.exp(-step / memory)
    fresh = rng.normal(0.0, sigma * np.sqrt(1.0 - keep * keep), count)
    kernel = keep ** np.arange(120)
    values = np.convolve(fresh, kernel)[:count]
    return Power(np.arange(count + 1) * step, np.maximum(0.0, watts + values))


@dataclass(frozen=True, kw_only=True)
class Device:
    """A sensor's true ways; what it says of itself is in ``facts``.

    Attributes:
        facts: as the evaluation knows it.
        average_s: seconds that a sample is averaged over.
        noise: standard deviation of each sample, W.
        jitter: of updates, as a share of their distance.
        poll_jitter: of readings, the same.
        took_s: longest that a reading takes.
    """

    facts: Facts
    average_s: float = 0.0
    noise: float = 0.0
    jitter: float = 0.001
    poll_jitter: float = 0.2
    took_s: float = 2e-4


@dataclass(kw_only=True)
class Faults:
    """What goes wrong.

    Attributes:
        dropped: chance that a reading is missing, and that a gap begins there.
        gap: seconds of such a gap.
        stall: from when to when the sensor repeats itself.
        forgets: whether a counter misses what was used meanwhile.
        step: when the wall clock is set, and by how much.
    """

    dropped: float = 0.0
    gap: float = 0.0
    stall: tuple[float, float] | None = None
    forgets: bool = False
    step: tuple[float, float] | None = None


@dataclass(kw_only=True)
class Polls:
    """Moments of readings."""

    start: Floats
    end: Floats
    taken: Floats
    unix: Floats = field(default_factory=lambda: np.zeros(0))


def _updates(device: Device, length: float, rng: np.random.Generator) -> Floats:
    period = device.facts.update_s
    count = int(length / period) + 3
    nominal = (np.arange(count) + rng.random() - 1.0) * period
    return np.sort(nominal + rng.normal(0.0, device.jitter * period, count))


def _polls(device: Device, length: float, faults: Faults, epoch: float, rng: np.random.Generator) -> Polls:
    poll = device.facts.poll_s
    steps = poll * (1.0 + device.poll_jitter * rng.exponential(1.0, int(length / poll) + 2))
    start = np.cumsum(steps) - steps[0] * rng.random()
    start = start[start < length]
    end = start + device.took_s * rng.uniform(0.2, 1.0, start.size)
    unix = start + epoch
    if faults.step:
        unix = unix + np.where(start >= faults.step[0], faults.step[1], 0.0)
    keep = np.ones(start.size, dtype=bool)
    for place in np.flatnonzero(rng.random(start.size) < faults.dropped):
        keep &= (start < start[place]) | (start > start[place] + faults.gap * rng.exponential())
    return Polls(
        start=start[keep], end=end[keep], taken=rng.uniform(start[keep], end[keep]), unix=unix[keep]
    )  # fmt: skip


def _held(moments: Floats, stall: tuple[float, float] | None) -> Floats:
    """Moments whose state is shown: during a stall, that of its beginning."""
    if stall is None:
        return moments
    return np.where((moments > stall[0]) & (moments < stall[1]), stall[0], moments)


def _count(device: Device, power: Power, updates: Floats, faults: Faults, first: float) -> Floats:
    joules = power.energy(updates)
    if faults.stall and faults.forgets:
        missed = power.between(*faults.stall)
        joules = np.where(updates > faults.stall[1], joules - missed, joules)
    return np.floor((joules + first) / device.facts.resolution) * device.facts.resolution


def _sample(device: Device, power: Power, updates: Floats, rng: np.random.Generator) -> Floats:
    span = device.average_s
    watts = (power.energy(updates) - power.energy(updates - span)) / span
    watts = np.maximum(0.0, watts + rng.normal(0.0, device.noise, watts.size))
    step = device.facts.resolution
    return np.rint(watts / step) * step


def poll(
    device: Device, powers: list[Power], length: float, rng: np.random.Generator, faults: Faults | None = None,
    first: float = 1000.0,
) -> Trace:  # fmt: skip
    """The trace of a counter or of samples from 0 to ``length``, each channel with updates of its own."""
    faults = faults or Faults()
    polls = _polls(device, length, faults, 1.7e9, rng)
    columns = []
    for number, power in enumerate(powers):
        updates = _updates(device, length, rng)
        if device.facts.kind == "counter":
            values = _count(device, power, updates, faults, first)
            wrap = device.facts.wrap[number] if device.facts.wrap else None
            values = values if wrap is None else np.mod(values, wrap)
        else:
            values = _sample(device, power, updates, rng)
        shown = np.searchsorted(updates, _held(polls.taken, faults.stall), side="right") - 1
        columns.append(values[np.maximum(shown, 0)].tolist())
    return _trace(device.facts, polls, [Reading(values=row) for row in zip(*columns, strict=True)])


def _trace(facts: Facts, polls: Polls, readings: list[Reading]) -> Trace:
    times, took = (polls.start + polls.end) / 2, polls.end - polls.start
    return Trace(facts=facts, times=times.tolist(), took=took.tolist(), unix=polls.unix.tolist(), readings=readings)


def minutes(
    device: Device, percent: Callable[[Floats], Floats], length: float, epoch: float, samples: int, stamp: float,
    rng: np.random.Generator, faults: Faults | None = None,
) -> Trace:  # fmt: skip
    """The trace of a sensor that tells averages over whole minutes of the wall clock.

    Args:
        device: whose facts say ``buckets``.
        percent: at moments.
        length: of the trace, from 0.
        epoch: wall clock at 0.
        samples: in a minute, evenly spaced.
        stamp: added to the minute's end; 0 or -60, which is not documented.
        rng: source of chance.
        faults: what goes wrong; a step of the clock moves the minutes, too.
    """
    faults = faults or Faults()
    polls = _polls(device, length, faults, epoch, rng)
    delay = rng.uniform(0.1, 3.0)
    shown = np.floor((polls.unix - delay) / MINUTE)  # the minute, by number, that a reading tells of: the one before
    known = {number: _minute(device, percent, number * MINUTE - epoch, samples, rng) for number in np.unique(shown)}
    readings = [replace(known[number], stamp=number * MINUTE + stamp) for number in shown]
    return _trace(device.facts, polls, readings)


def _minute(
    device: Device, percent: Callable[[Floats], Floats], end: float, samples: int, rng: np.random.Generator
) -> Reading:
    at = end - MINUTE + (np.arange(samples) + rng.random(samples)) * MINUTE / samples
    values = percent(at)
    low, high, mean = (
        float(np.clip(np.rint(one * 100.0) / 100.0, 0.0, 100.0)) for one in (values.min(), values.max(), values.mean())
    )
    return Reading(values=(mean,), lows=(low,), highs=(high,))

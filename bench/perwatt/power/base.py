"""The protocol of a sensor: whether it is here, what it says of itself, and its readings. One file is one sensor.

Built-in sensors are found by a scan of :mod:`perwatt.power.sensors`, others by entry points of ``perwatt.sensors``; a
module's constant ``SENSOR`` is one. A sensor is read by the orchestrator, in a process that does not compute, so that
reading it costs the load nothing (docs/energy.md).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from perwatt.finding import said
from perwatt.hardware.cgroup import ROOT

Kind = Literal["counter", "samples", "buckets"]
Quantity = Literal["J", "W", "%"]
Use = Literal["chips", "host", "asked", "never"]
State = Literal["readable", "denied", "absent", "failed"]

IMPLAUSIBLE_W = 10_000.0  # of a chip; more is garbage, or declared by mistake
IMPLAUSIBLE_NODE_W = 100_000.0
CHIP_LIKE = ("die", "package", "gpu_board", "module")  # scopes whose watts are bounded by the number of chips


class Lost(RuntimeError):
    """A sensor answers no more, or what it answers makes no sense; says what, in one line."""


def implausible_w(scope: str, chips: int = 1) -> float:
    """Watts of one channel that are garbage, where it is of this scope; racks and facilities have no bound.

    Args:
        scope: value of ``power_scope``.
        chips: of which the channel may be the sum.
    """
    return {**dict.fromkeys(CHIP_LIKE, IMPLAUSIBLE_W * chips), "node": IMPLAUSIBLE_NODE_W}.get(scope, math.inf)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What is to be measured, as sensors need to know it.

    Attributes:
        backend: kind of device.
        chip: name of its chip sheet, or of the processor.
        chips: the chips that work, by the names that their sensors know: UUIDs of GPU cards, numbers of Neuron chips.
            Empty where the host's processors are meant.
        partial: why the power of these chips is not that of the work alone; empty where every device of them works.
        root: of the file system, for sensors that are files.
        options: what the user said for sensors: a trace, watts, a calibration.
    """

    backend: str
    chip: str
    chips: tuple[str, ...] = ()
    partial: str = ""
    root: Path = ROOT
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of chips."""
        return max(1, len(self.chips))


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Whether a sensor can be used here.

    Attributes:
        state: ``readable``, ``denied`` (there, but not for this user), ``absent``, or ``failed`` where looking did.
        detail: what was found, or why there is nothing.
        remedy: what would make it readable; empty where nothing would.
    """

    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What an opened sensor says of itself. It goes into the journal, so that energy can be worked out again.

    Attributes:
        sensor: its name.
        source: value of the row's ``power_source`` for what it measures.
        scope: value of ``power_scope``.
        quantity: of a reading.
        kind: ``counter`` (grows), ``samples`` (of one moment, or an average that ends then), ``buckets`` (averages over
            whole wall-clock intervals of ``update_s``).
        channels: what the numbers of a reading belong to, in order; the sum over them is meant.
        update_s: seconds between two updates; length of a bucket.
        poll_s: seconds between two readings.
        window_s: shortest window that says something.
        resolution: smallest step of a channel, in its unit.
        rel_sys: relative systematic uncertainty (gain), which no longer window makes smaller.
        wrap: where the counters of the channels begin anew; None where they do not.
        lag_s: by how much the value is late: half of the time it is averaged over.
        chips: of which a channel is the sum: of an outside meter nobody says how it divides what it sees.
        dies: power dies of a chip, of which only the larger one's value is known; 1 where that is all of it.
        note: what else has to be known about the values.
    """

    sensor: str
    source: str
    scope: str
    quantity: Quantity
    kind: Kind
    channels: tuple[str, ...]
    update_s: float
    poll_s: float
    window_s: float
    resolution: float
    rel_sys: float = 0.0
    wrap: tuple[float | None, ...] = ()
    lag_s: float = 0.0
    chips: int = 1
    dies: int = 1
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The sensor at one moment.

    Attributes:
        values: one for each channel.
        lows: smallest value within a bucket, for each channel; empty where there are no buckets.
        highs: largest.
        stamp: when the sensor says that its values are of, seconds since 1970; None where it does not say.
        raw: the text it was read from, where its format is not documented; kept as evidence.
    """

    values: tuple[float, ...]
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    stamp: float | None = None
    raw: str = ""


class Probe(ABC):
    """An opened sensor."""

    facts: Facts

    @abstractmethod
    def read(self) -> Reading | None:
        """The values now; None where the sensor has nothing valid at this moment, which is a gap.

        Raises:
            Lost: it answers no more, or with what makes no sense.
        """

    def close(self) -> None:  # noqa: B027
        """Let go of what was opened. Never raises."""


class Sensor(ABC):
    """One way to learn about power.

    Attributes:
        name: as ``--sensor`` and the row's ``power_sensor`` have it.
        priority: of those that can be used, the one with the highest is.
    """

    name: ClassVar[str]
    priority: ClassVar[int] = 0

    @abstractmethod
    def use(self, target: Target) -> Use:
        """What it would measure.

        The ``chips`` that work, the ``host`` around them, something that has to be ``asked`` for by name, or nothing of
        this target at all (``never``).
        """

    @abstractmethod
    def detect(self, target: Target) -> Found:
        """Whether it can be used here. Starts nothing, reads no values out, never raises."""

    @abstractmethod
    def open(self, target: Target) -> Probe:
        """Make it ready to be read.

        Raises:
            Lost: it cannot be.
        """


def used(sensor: Sensor, target: Target) -> Use:
    """What it would measure; never raises: one of somebody else's that does is looked at only if asked for by name."""
    try:
        return sensor.use(target)
    except Exception:
        return "asked"


def detected(sensor: Sensor, target: Target) -> Found:
    """Whether it can be used; never raises: a sensor of somebody else's that does has ``failed``."""
    try:
        return sensor.detect(target)
    except Exception as error:
        return Found(state="failed", detail=said(error), remedy="report it to whom the sensor belongs")


def opened(sensor: Sensor, target: Target) -> Probe:
    """The sensor, ready to be read.

    Raises:
        Lost: it cannot be opened, for whatever reason: a sensor of somebody else's must not cost a run.
    """
    try:
        return sensor.open(target)
    except Lost:
        raise
    except Exception as error:
        raise Lost(f"{sensor.name}: {type(error).__name__}: {' '.join(str(error).split())}") from error

"""Which rows get an energy window, how long one is, and what all of them will take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from perwatt.power.base import Facts
from perwatt.results.schema import Row, Status
from perwatt.spec.suite import Energy

Mode = Literal["off", "headline", "all"]

HEADLINE = 6  # rows
LONG_S = 30.0  # a window longer than this is not spent on every row unless asked for
RAMP_SHARE, RAMP_S = 0.1, 1.0  # of a window and seconds, at least, that are trimmed off its beginning
LAGS = 4.0  # lags of the sensor: its average has then left the ramp twice over
QUIET_S = 1.0  # of readings before and after a load
IDLE_S, IDLE_UPDATES = 5.0, 20  # a look at the idle device takes at least so many seconds and updates
METER_S, METER_QUIET_S = 30.0, 5.0  # an outside meter's window, and the quiet on both sides by which it is found
LEAD_S = 1.0  # by so much a load begins earlier than it would have to, for what counts to begin with a bucket
LATE_S = 2.0  # after the end of a bucket until the sensor shows it
OVERHEAD_S = 5.0  # of a window: opening the case anew and warming up, about
FIRST = ("train_step", "transformer_layer", "lm_head_loss", "attention", "mlp", "gemm", "grouped_gemm")
"""Workloads by how much of training they are; headlines are taken in this order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The windows of a run.

    Attributes:
        mode: for which rows.
        window_s: length of the steady load, with what is trimmed off.
        ramp_s: of it, trimmed off the beginning.
        idle_s: length of a look at the idle device.
        align_s: what counts begins on a multiple of that of the wall clock; 0 where it begins at once.
        quiet_s: of readings before and after a load.
    """

    mode: Mode
    window_s: float
    ramp_s: float
    idle_s: float
    align_s: float
    quiet_s: float

    @property
    def each_s(self) -> float:
        """What one window takes, about."""
        return self.window_s + 2 * self.quiet_s + self.align_s / 2 + OVERHEAD_S

    def total_s(self, windows: int) -> float:
        """What so many windows take, with the looks at the idle device before and after."""
        return windows * self.each_s + 2 * (self.idle_s + self.align_s / 2) if windows else 0.0

    def wait_s(self, unix: float) -> float:
        """Seconds until a load is to begin, so that what counts begins on the wall clock's multiple."""
        return -(unix + self.ramp_s + LEAD_S) % self.align_s if self.align_s else 0.0


def plan(asked: Energy, mode: str | None, facts: Facts) -> Plan:
    """The windows that a sensor needs.

    Args:
        asked: by the suite.
        mode: by the user, who has the last word; None leaves it to the suite.
        facts: of the sensor.
    """
    chosen = mode or asked.mode
    if chosen == "auto":
        chosen = "headline" if facts.window_s > LONG_S else "all"
    steady = max(asked.window_s or 0.0, facts.window_s)
    if facts.kind == "buckets":  # whole ones, which trimming must not cut; the last is seen only when it is over
        steady, bucket = math.ceil(steady / facts.update_s) * facts.update_s, facts.update_s
        ramp = RAMP_S + 2 * facts.poll_s
        more = 2 * (ramp + LEAD_S)
        return Plan(mode=_mode(chosen), window_s=steady + more, ramp_s=ramp, idle_s=bucket + more,
                    align_s=bucket, quiet_s=LATE_S + 2 * facts.poll_s)  # fmt: skip
    ramp = max(RAMP_S, RAMP_SHARE * steady, LAGS * facts.lag_s)
    quiet = max(QUIET_S, 3 * facts.update_s)
    idle = max(IDLE_S, IDLE_UPDATES * facts.update_s)
    return Plan(mode=_mode(chosen), window_s=steady + ramp, ramp_s=ramp, idle_s=idle, align_s=0.0, quiet_s=quiet)


def outside(asked: Energy, mode: str | None) -> Plan:
    """Windows for an outside meter, of which nothing is known but that it reads once in a second or so."""
    chosen = mode or asked.mode
    steady = max(asked.window_s or 0.0, METER_S)
    return Plan(mode=_mode("all" if chosen == "auto" else chosen), window_s=steady + METER_QUIET_S,
                ramp_s=METER_QUIET_S, idle_s=IDLE_S, align_s=0.0, quiet_s=METER_QUIET_S)  # fmt: skip


def _mode(text: str) -> Mode:
    return cast(Mode, text)


def chosen(rows: Sequence[Row], mode: Mode) -> list[Row]:
    """Rows that get a window, the most telling first.

    For ``headline`` the fastest implementation of each of the :data:`HEADLINE` cases that say most about training.
    """
    able = [row for row in rows if row.status == Status.OK]
    if mode == "off":
        return []
    if mode == "headline":
        best: dict[tuple[str | None, ...], Row] = {}
        for row in able:
            case = row.case, row.placement, row.mode, row.parallel
            if case not in best or (row.time_s or math.inf) < (best[case].time_s or math.inf):
                best[case] = row
        able = list(best.values())
    ranked = sorted(able, key=_rank)
    return ranked[:HEADLINE] if mode == "headline" else ranked


def _rank(row: Row) -> tuple[int, float]:
    kind = FIRST.index(row.workload) if row.workload in FIRST else len(FIRST)
    return kind, -(row.flops or row.bytes or 0.0)


def most(rows: int, cases: int, mode: Mode) -> int:
    """The most windows that a run of so many rows and cases can need."""
    return {"off": 0, "all": rows, "headline": min(HEADLINE, cases)}[mode]

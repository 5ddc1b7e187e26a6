"""What sides are compared by: the value of each row, which way is better, and where its spread comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from perwatt.analysis.table import Floats, Rows

Spread = Literal["time", "own", "none", "exact"]
HOUR_S, MILLION = 3600.0, 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One figure of rows.

    Attributes:
        name: as in the CSV, where it is a column.
        unit: of the value.
        better: 1 where more is better, -1 where less is.
        spread: ``time``: that of the samples; ``own``: columns ``_lo`` and ``_hi``; ``none``: only that between rows;
            ``exact``: as none, and a single row is right.
        kind: ``time``, ``energy``, ``percent``, ``cost`` or ``other``; each has its own refusals.
        per_copy: whether it depends on how many copies of the work ran, so that sides have to agree in that.
        whole: whether only whole models have it: of one that is cut in layers it would mislead.
        value: of each row, NaN where it is not known; by default the column of that name.
    """

    name: str
    unit: str
    better: Literal[1, -1]
    spread: Spread
    kind: Literal["time", "energy", "percent", "cost", "other"] = "time"
    per_copy: bool = False
    whole: bool = False
    value: Callable[[Rows], Floats] | None = None

    @property
    def by_time(self) -> bool:
        """Whether it follows from the time of the samples; work per percent-second has a window of its own."""
        return self.spread == "time" and self.kind != "percent"

    def of(self, rows: Rows) -> Floats:
        """The value of each row; NaN where it is not known or not above zero, which has no ratio."""
        values = self.value(rows) if self.value else rows.numbers(self.name)
        known = values > 0.0
        if self.whole:
            known &= ~rows.is_text("per_layer", "yes")
        return np.where(known, values, np.nan)


def _usd_per_mtok(rows: Rows) -> Floats:
    """As written, else of a whole instance by its price; what a part of one costs nobody says."""
    seconds = rows.numbers("usd_per_hour") / HOUR_S / rows.numbers("tokens_per_s") * MILLION
    whole = rows.is_text("allocation", "whole")
    found = rows.numbers("usd_per_mtok")
    return np.where(np.isnan(found) & whole, seconds, found)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="time_s", unit="s", better=-1, spread="time", per_copy=True),
        Metric(name="tflops", unit="TFLOP/s", better=1, spread="time", per_copy=True),
        Metric(name="tflops_per_chip", unit="TFLOP/s", better=1, spread="time"),
        Metric(name="tokens_per_s", unit="token/s", better=1, spread="time", per_copy=True),
        Metric(name="tokens_per_s_per_chip", unit="token/s", better=1, spread="time"),
        Metric(name="mfu", unit="", better=1, spread="time"),
        Metric(name="ceiling_fraction", unit="", better=1, spread="time"),
        Metric(name="energy_j", unit="J", better=-1, spread="own", kind="energy", per_copy=True),
        Metric(name="energy_j_net", unit="J", better=-1, spread="none", kind="energy", per_copy=True),
        Metric(name="tflops_per_w", unit="TFLOP/J", better=1, spread="own", kind="energy"),
        Metric(name="tokens_per_j", unit="token/J", better=1, spread="own", kind="energy", whole=True),
        Metric(name="tflops_per_pct", unit="TFLOP/(%.s)", better=1, spread="time", kind="percent"),
        Metric(name="tokens_per_pct_s", unit="token/(%.s)", better=1, spread="time", kind="percent"),
        Metric(
            name="usd_per_mtok",
            unit="USD/Mtoken",
            better=-1,
            spread="time",
            kind="cost",
            whole=True,
            value=_usd_per_mtok,
        ),
        Metric(name="compile_cold_s", unit="s", better=-1, spread="none", kind="other"),
        Metric(name="compile_warm_s", unit="s", better=-1, spread="none", kind="other"),
        Metric(name="peak_bytes", unit="B", better=-1, spread="exact", kind="other"),
    )
}

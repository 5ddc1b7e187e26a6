"""Rows of one kind of chip that measured the same thing, together: groups, with their centres by any metric."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from perwatt.analysis import ceilings, levels, units
from perwatt.analysis.levels import Allowance, Centers, Figure, Units
from perwatt.analysis.metrics import Metric
from perwatt.analysis.raw import Process, Samples
from perwatt.analysis.table import Codes, Floats, Rows
from perwatt.analysis.units import Spread

DIFFERENT = -2  # in place of a code that rows would share
OF_CEILING = "ceiling_fraction"
HOW = ("impl", "lnc", "parallel", "micro_batch", "grad_accum", "recompute")  # how the same work may be done
SAME = (
    "match_key", "task_key", "protocol_key", "placement", "mode", "devices_used", "devices_per_chip", "replicas",
    "impl_class", "time_evidence", *HOW,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Column:
    """One kind of chip on one side: rows that are ok, in groups of what is the same but for runs and chips.

    Attributes:
        side: name of the side.
        label: how the column is called; the side's name, with the chip where the side has several.
        chip: kind of chip, with its power limit where limits tell two apart.
        rows: that may be compared.
        group: number of the group of each row.
        samples: raw samples beside the files.
        allowance: for what too few runs or chips cannot tell.
    """

    side: str
    label: str
    chip: str
    _: KW_ONLY
    rows: Rows
    group: Codes
    samples: Samples
    allowance: Allowance
    _figures: dict[tuple[str, bool], list[Figure]] = field(default_factory=dict)
    _values: dict[str, Floats] = field(default_factory=dict)
    _shared: dict[str, list[Any]] = field(default_factory=dict)
    _uniform: dict[str, list[int]] = field(default_factory=dict)
    _hows: dict[int, str] = field(default_factory=dict)
    _flags: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def first(self) -> Codes:
        """The first row of each group."""
        return np.unique(self.group, return_index=True)[1].astype(np.int64)

    @cached_property
    def size(self) -> int:
        """Number of groups."""
        return len(self.first)

    @cached_property
    def members(self) -> list[Codes]:
        """Rows of each group."""
        order = np.argsort(self.group, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.group[order])) + 1) if len(order) else []

    @cached_property
    def chips(self) -> Codes:
        """A number for each chip that rows tell apart; by the host where they do not say which of its chips it was."""
        known = self.rows.filled("chip_id")
        return self.rows.combined(["chip_id", "host"]) if not known.all() else self.rows.codes("chip_id")[0]

    def chip_names(self, group: int) -> frozenset[str] | None:
        """The chips of a group, by what identifies them; None where a row does not say."""
        ids = self.texts("chip_id", group)
        if not ids or self._some_empty("chip_id", group):
            hosts = self.texts("host", group)
            return None if not hosts or self._some_empty("host", group) else frozenset(hosts) | frozenset(ids)
        return frozenset(ids)

    def text(self, name: str, group: int) -> str | None:
        """A text that all rows of a group share (:data:`SAME`)."""
        if name not in self._shared:
            codes, known = self.rows.codes(name)
            self._shared[name] = [known[code] if code >= 0 else None for code in codes[self.first].tolist()]
        found: str | None = self._shared[name][group]
        return found

    def number(self, name: str, group: int) -> float | None:
        """A number that all rows of a group share."""
        if name not in self._shared:
            values = self.rows.numbers(name)[self.first].tolist()
            self._shared[name] = [None if math.isnan(value) else value for value in values]
        found: float | None = self._shared[name][group]
        return found

    def texts(self, name: str, group: int, within: Floats | None = None) -> tuple[str, ...]:
        """The different texts of a group's rows, of those alone that have a value in ``within``; sorted."""
        codes, known = self.rows.codes(name)
        if (shared := self._same_code(name, group)) > DIFFERENT:
            return (known[shared],) if shared >= 0 else ()
        members = self.members[group]
        if within is not None:
            members = members[~np.isnan(within[members])]
        return tuple(sorted(known[code] for code in set(codes[members].tolist()) if code >= 0))

    def _same_code(self, name: str, group: int) -> int:
        """The code of a text that all rows of a group have in common, or :data:`DIFFERENT`."""
        if name not in self._uniform:
            codes, order = self.rows.codes(name)[0], np.argsort(self.group, kind="stable")
            starts = np.searchsorted(self.group[order], np.arange(self.size))
            least, most = (of.reduceat(codes[order], starts) for of in (np.minimum, np.maximum))
            self._uniform[name] = np.where(least == most, least, DIFFERENT).tolist()
        return self._uniform[name][group]

    def _some_empty(self, name: str, group: int) -> bool:
        """Whether a row of a group leaves a text empty."""
        shared = self._same_code(name, group)
        return shared == -1 or (shared == DIFFERENT and bool((self.rows.codes(name)[0][self.members[group]] < 0).any()))

    @cached_property
    def noise_floors(self) -> list[float]:
        """The largest noise floor of each group that ``--aa`` found over enough restarts; NaN without."""
        enough = self.rows.numbers("processes") >= levels.LEARNED
        found = np.full(self.size, np.nan)
        np.fmax.at(found, self.group, np.where(enough, self.rows.numbers("noise_floor"), np.nan))
        return list(found.tolist())

    def how(self, group: int) -> str:
        """The implementation and the layout of a group, for people."""
        if group not in self._hows:
            parts = [f"{name} {shown}" for name in HOW[1:] if (shown := self._shown(name, group))]
            self._hows[group] = " ".join([self.text("impl", group) or "", *parts])
        return self._hows[group]

    def _shown(self, name: str, group: int) -> str:
        if name in ("parallel", "recompute"):
            return self.text(name, group) or ""
        value = self.number(name, group)
        return "" if value is None else f"{value:g}"

    def flags(self, group: int) -> tuple[str, ...]:
        """Flags of a group's rows."""
        texts = self.texts("flags", group)
        if texts not in self._flags:
            self._flags[texts] = tuple(sorted({flag for text in texts for flag in text.split()}))
        return self._flags[texts]

    def is_raw(self, group: int) -> bool:
        """Whether raw samples of a row of the group are used."""
        return bool(self.spread.raw) and not self.spread.raw.isdisjoint(self.members[group].tolist())

    def processes(self, row: int) -> list[Process] | None:
        """Raw samples of a row, where they are at hand."""
        if not self.rows.has("samples_digest"):
            return None
        file, line = self.rows.place(row)
        text = self.rows.text
        return self.samples.of(file, line, text("run_id", row), text("samples_digest", row))

    @cached_property
    def spread(self) -> Spread:
        """Units of all rows."""
        plain = units.of_intervals(self.rows)
        if not (self.rows.has("samples_digest") and self.samples.beside(self.rows.files)):
            return plain
        raw = {row: found for row in range(len(self.rows)) if (found := self.processes(row))}
        return units.with_raw(plain, raw, self.rows.numbers("time_s")) if raw else plain

    def values(self, metric: Metric) -> Floats:
        """The metric of each row."""
        if metric.name not in self._values:
            self._values[metric.name] = metric.of(self.rows)
        return self._values[metric.name]

    def knows(self, metric: Metric) -> bool:
        """Whether some row has the figure."""
        return not np.isnan(self.values(metric)).all()

    @cached_property
    def drift(self) -> Floats:
        """By how much the time in the energy window differs from that of the samples."""
        return units.drift(self.rows)

    @cached_property
    def drifting(self) -> frozenset[int]:
        """Groups with a row whose time in the energy window differs."""
        return frozenset(self.group[self.drift != 0.0].tolist())

    def figure(self, metric: Metric, group: int, *, in_window: bool = False) -> Figure:
        """Centre and interval of a group; ``in_window``: by the time in the energy window, where that differs."""
        key = metric.name, in_window
        if key not in self._figures:
            self._figures[key] = self._by(metric, self.spread, in_window=in_window).figures()
        return self._figures[key][group]

    def figure_of(self, metric: Metric, group: int, spread: Spread, *, in_window: bool = False) -> Figure:
        """The same by other units than :attr:`spread`, for example half of the samples."""
        own = spread.of_rows(self.members[group])
        return self._by(metric, own, whole=False, in_window=in_window).figures()[group]

    def _by(self, metric: Metric, spread: Spread, *, whole: bool = True, in_window: bool = False) -> Centers:
        with np.errstate(invalid="ignore"):
            logs = np.log(self.values(metric))
        if in_window and metric.by_time:
            logs = logs - metric.better * self.drift
        every = self._timed(metric, logs, spread) if metric.spread == "time" else self._own(metric, logs)
        known = ~np.isnan(every.log)
        chosen = Units(**{name: getattr(every, name)[known] for name in Units.__slots__})
        allowance = Allowance(process=0.0, chip=0.0) if metric.spread == "exact" else self.allowance
        found = levels.centers(chosen, self.size, allowance)
        return found if metric.spread != "time" or not whole else units.about(found, self._points(logs))

    def _points(self, logs: Floats) -> Floats:
        """Mean of the rows of each group, chips at equal weight: what the CSV says, whatever the units say."""
        known = ~np.isnan(logs)
        nothing = np.zeros(int(known.sum()))
        rows = Units(
            group=self.group[known], chip=self.chips[known], log=logs[known], down=nothing, up=nothing, runs=nothing + 1
        )
        return levels.centers(rows, self.size, self.allowance).log

    @cached_property
    def ceilings(self) -> tuple[Floats, Floats]:
        """Half-widths of the ceilings of all rows."""
        return ceilings.half_widths(self.rows)

    def _timed(self, metric: Metric, logs: Floats, spread: Spread) -> Units:
        """Units of a figure that is inverse to the time, or the time itself."""
        row = spread.row
        down, up = (spread.up, spread.down) if metric.better > 0 else (spread.down, spread.up)
        if metric.name == OF_CEILING:
            down, up = (np.hypot(own, other[row]) for own, other in zip((down, up), self.ceilings, strict=True))
        return Units(
            group=self.group[row], chip=self.chips[row], log=logs[row] - metric.better * spread.offset, down=down,
            up=up, runs=spread.runs,
        )  # fmt: skip

    def _own(self, metric: Metric, logs: Floats) -> Units:
        """Units of a figure with an interval of its own, or none."""
        nothing = np.full(len(logs), 0.0 if metric.spread == "exact" else np.nan)
        down = up = nothing
        if metric.spread == "own":
            with np.errstate(invalid="ignore", divide="ignore"):
                down = logs - np.log(self.rows.numbers(f"{metric.name}_lo"))
                up = np.log(self.rows.numbers(f"{metric.name}_hi")) - logs
        return Units(group=self.group, chip=self.chips, log=logs, down=down, up=up, runs=np.ones(len(logs)))

"""The ratio of two groups by one metric, its interval with what was not measured allowed for, and its verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from perwatt.analysis import verdict
from perwatt.analysis.facts import Ground, marks
from perwatt.analysis.groups import Column
from perwatt.analysis.levels import FEW, Figure
from perwatt.analysis.metrics import Metric
from perwatt.analysis.result import Options, Pair, Point
from perwatt.analysis.settle import Widths, settle
from perwatt.analysis.tracks import Choice
from perwatt.analysis.verdict import Ratio, Verdict

GAIN = 0.05  # of a power sensor whose uncertainty no row states, as of an NVML card that is not calibrated
LARGEST = 700.0  # logarithm from which a number is too large to be one
LOPSIDED = 3.0  # times the other side of an interval, from which a side reaches into another mode
SHOWN = frozenset({"host_bound", "thermal_drift", "throttled", "power_capped", "shared", "gate_reduced", "slow_index",
                   "attention_unfused", "modeled"})  # fmt: skip
IN_WINDOW = "times of {} are those of the energy window, which differ by over 2 %"


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """One end of a pair: a group with what is known of it by the metric."""

    column: Column
    choice: Choice
    figure: Figure

    @property
    def ground(self) -> Ground:
        """On what the figure rests."""
        return Ground(column=self.column, group=self.choice.group)


def end(column: Column, choice: Choice, metric: Metric) -> End:
    """The end of a pair that a choice makes."""
    if choice.spread is None or metric.spread != "time":
        figure = column.figure(metric, choice.group, in_window=choice.in_window)
    else:
        figure = column.figure_of(metric, choice.group, choice.spread, in_window=choice.in_window)
    return End(column=column, choice=choice, figure=figure)


def pair(metric: Metric, track: str, placement: str, a: End, b: End, options: Options) -> Pair:
    """The pair of two ends that both have the figure and may be compared by it; ``a`` is the baseline."""
    widths = _widths(metric, a, b, options)
    found, common = _ratio(metric, a, b, widths), math.hypot(widths.chip, widths.gain)
    region = max([options.region, *(math.expm1(floor) for floor in _floors(metric, a, b))])
    points = _point(metric, a), _point(metric, b)
    unknown = metric.kind == "percent" and a.column.chip != b.column.chip
    word = Verdict.UNCLEAR if unknown else verdict.judge(found, region)
    reasons = [settle(found, region, widths)] if word == Verdict.UNCLEAR and not unknown else []
    if unknown:
        reasons += _break_even(metric, a, b, found.ratio)
    group = a.choice.group
    return Pair(
        match_key=a.column.text("task_key" if options.across_formats else "match_key", group) or "",
        protocol_key=a.column.text("protocol_key", group) or "",
        case=a.column.text("case", group) or "",
        workload=a.column.text("workload", group) or "",
        metric=metric.name,
        unit=metric.unit,
        track=track,
        placement=placement,
        baseline=points[0],
        candidate=points[1],
        ratio=found.ratio,
        lo=found.lo,
        hi=found.hi,
        verdict=word,
        reason="; ".join([*reasons, *widths.named(), *_notes(metric, a, b, points)]),
        region=region,
        evidence=points[0].evidence if points[0].evidence == points[1].evidence else _both(points),
        common=common,
        symbol=f"P_max({a.column.chip})/P_max({b.column.chip})" if unknown else None,
        break_even=found.ratio if unknown else None,
    )


def _break_even(metric: Metric, a: End, b: End, ratio: float) -> Iterator[str]:
    """Where two kinds of chip do the same work per joule, by what is known of their maxima."""
    chips = a.column.chip, b.column.chip
    yield f"the same work per joule where P_max({chips[1]})/P_max({chips[0]}) is {ratio:.3g}"
    known = a.ground.maximum_w(metric), b.ground.maximum_w(metric)
    for at, other, factor in ((0, 1, ratio), (1, 0, 1.0 / ratio)):
        watts = known[at]
        if watts is not None and known[other] is None:
            yield f"with P_max({chips[at]}) = {watts:g} W, its limit, that is {watts * factor:.3g} W of {chips[other]}"


def _both(points: tuple[Point, Point]) -> str:
    return f"{points[0].evidence} and {points[1].evidence}"


def _notes(metric: Metric, a: End, b: End, points: tuple[Point, Point]) -> list[str]:
    notes = [one.choice.note for one in (a, b) if one.choice.note]
    if metric.by_time:
        notes += [IN_WINDOW.format(one.column.label) for one in (a, b) if one.choice.in_window]
    if points[0].evidence != points[1].evidence:
        notes.append(f"evidence differs: {_both(points)}")
    for point in points:
        marked = [flag for flag in point.flags if flag in SHOWN]
        if marked:
            notes.append(f"{point.column} is {', '.join(marked)}")
    return list(dict.fromkeys([*notes, *marks(metric, a.ground, b.ground)]))


def _widths(metric: Metric, a: End, b: End, options: Options) -> Widths:
    """Half-widths of the parts of the interval."""
    same = _same_chips(a, b)
    up, down = (b, a) if metric.better > 0 else (a, b)  # the side whose value raises the ratio, and the other
    (up_below, up_above), (down_below, down_above) = _sides(up, same), _sides(down, same)
    shares = [1.0 / one.figure.chips for one in (a, b) if one.figure.chips < FEW]
    return Widths(
        below=_together((up_below, up_above), (down_above, down_below)),
        above=_together((up_above, up_below), (down_below, down_above)),
        process=math.hypot(a.figure.process, b.figure.process),
        chip=0.0 if same or metric.spread == "exact" else options.allowance.chip * math.sqrt(sum(shares)),
        gain=0.0 if same or metric.kind != "energy" else math.hypot(_gain(metric, a), _gain(metric, b)),
        bound_below=math.log(2.0) if metric.kind == "percent" and _one_die(metric, a) else 0.0,
        bound_above=math.log(2.0) if metric.kind == "percent" and _one_die(metric, b) else 0.0,
        allowance=options.allowance,
    )


def _sides(one: End, same_chips: bool) -> tuple[float, float]:
    """Half-widths below and above, without what differs between chips where those are the same."""
    figure = one.figure
    return (figure.inner_down, figure.inner_up) if same_chips else (figure.down, figure.up)


def _together(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Half-width of two independent estimates: in quadrature, but for what reaches into another mode.

    Where the median may lie in either of two modes, its interval reaches far to one side, and ends just there: a whole
    step that is taken or not, and not the tail of noise. Such steps add up. In quadrature the ratio of two samples with
    modes 30 % apart, 55/45, is covered 91.9 % where it is 93.1 % so.

    Args:
        a: half-widths of one estimate, to the side in question and to the other.
        b: the same of the other estimate.
    """
    if not (math.isfinite(a[0]) and math.isfinite(b[0])):
        return math.nan if math.isnan(a[0]) or math.isnan(b[0]) else math.inf
    steps = max(a[0] - LOPSIDED * a[1], 0.0), max(b[0] - LOPSIDED * b[1], 0.0)
    return math.hypot(a[0] - steps[0], b[0] - steps[1]) + steps[0] + steps[1]


def _same_chips(a: End, b: End) -> bool:
    """Whether both were measured on the very same chips, whose own differences then cancel."""
    if a.column.chip != b.column.chip:
        return False
    chips = a.column.chip_names(a.choice.group)
    return chips is not None and chips == b.column.chip_names(b.choice.group)


def _one_die(metric: Metric, one: End) -> bool:
    """Whether the percentage is the larger die's, so that the chip's is between half of it and all."""
    return one.ground.texts(metric, "power_die_rule") in ((), ("larger",))


def _gain(metric: Metric, one: End) -> float:
    """Systematic uncertainty of the power sensors of a side, independent from chip to chip."""
    members = one.column.members[one.choice.group]
    known = one.column.rows.numbers("energy_rel_sys")[members]
    measured = one.ground.evidence(metric) == "measured"
    gain = float(np.nanmax(known)) if not np.isnan(known).all() else GAIN if measured else 0.0
    return gain / math.sqrt(max(one.figure.chips, 1.0))


def _ratio(metric: Metric, a: End, b: End, widths: Widths) -> Ratio:
    log = metric.better * (b.figure.log - a.figure.log)
    lo, hi = log - widths.low, log + widths.high
    if math.isnan(lo) or math.isnan(hi):
        return Ratio(ratio=math.exp(log), lo=None, hi=None)
    return Ratio(ratio=math.exp(log), lo=math.exp(lo), hi=math.exp(hi) if hi < LARGEST else None)


def _floors(metric: Metric, a: End, b: End) -> list[float]:
    """What the case is known to differ from itself by: of restarts, or of ``--aa`` over enough of them."""
    found = [one.figure.floor for one in (a, b)]
    if metric.spread == "time":
        found += [one.column.noise_floors[one.choice.group] for one in (a, b)]
    return [floor for floor in found if not math.isnan(floor)]


def _point(metric: Metric, one: End) -> Point:
    group, column = one.choice.group, one.column
    raw = metric.spread == "time" and column.is_raw(group)
    return Point(
        column=column.label,
        chip=column.chip,
        placement=column.text("placement", group) or "",
        impl=column.how(group),
        precision=column.text("precision", group) or "",
        value=math.exp(one.figure.log),
        runs=int(one.figure.runs),
        chips=int(one.figure.chips),
        evidence=one.ground.evidence(metric),
        spread="samples" if raw else "interval",
        flags=column.flags(group),
    )

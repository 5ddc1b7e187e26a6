"""From percentages of an unknown maximum to watts, by an outside meter: background and maximum with their intervals.

``watts = background + pct / 100 x (maximum - background)`` is fitted through windows of several loads, of which both
the percentage and the watts are uncertain. Whatever the meter sees beside the chips and does not change with their load
(fans, hosts, idle chips) is part of the background; what changes with it (losses of supplies) is part of the maximum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import NormalDist, median

from perwatt.errors import InputError
from perwatt.power import line
from perwatt.power.calibration_file import Bounded, Calibration, Covariance, Point
from perwatt.power.errors import NORMAL
from perwatt.timing.student import student_t

LEVELS, APART, SPAN = 3, 2.0, 20.0  # levels of load at least, points of percent between two, and from first to last
MISFIT = 1e-3  # chance of residuals as large as these, if the stated uncertainties were right


class NoFit(ValueError):
    """Points that no calibration can be made of; why, in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is calibrated: a calibration holds for nothing else.

    Attributes:
        chip: name of its sheet.
        chips: number of chips that worked, whose mean percentage it is.
        die_rule: how percentages of dies make up a chip's.
        scope: what the meter sees.
        instance_type: of the machine; empty where there is none.
        driver: version; empty where it is unknown.
        meter_class_pct: accuracy class of the meter, percent of the reading.
    """

    chip: str
    chips: int
    die_rule: str
    scope: str
    instance_type: str
    driver: str
    meter_class_pct: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Watts:
    """What a percentage stands for: W of all chips together.

    Attributes:
        mean: W.
        lo: lower end of the 95 % interval that the percentage's leaves.
        hi: upper end.
        rel_sys: relative, 95 %: of the fit and the meter's class, the same for all that this calibration is used for.
    """

    mean: float
    lo: float
    hi: float
    rel_sys: float


def fit(subject: Subject, points: Sequence[Point]) -> Calibration:
    """Background and maximum.

    Raises:
        NoFit: too few levels of load, too close together, or watts that do not rise with the percentage.
    """
    _refuse_few(points)
    found = line.through(
        [point.pct / 100 for point in points], [point.watts for point in points],
        [(point.pct_hi - point.pct_lo) / 200 / NORMAL for point in points],
        [(point.watts_hi - point.watts_lo) / 2 / NORMAL for point in points],
    )  # fmt: skip
    if found.slope <= 0:
        raise NoFit(f"watts do not rise with the percentage: {found.slope:.4g} W from 0 to 100 %")
    degrees = len(points) - 2
    ratio = found.chi2 / degrees
    misfit = found.chi2 > chi2_quantile(1 - MISFIT, degrees)
    wider = max(1.0, ratio)  # points that scatter more than they say widen the interval; others do not narrow it
    across = wider * (found.variance_intercept + found.covariance)
    covariance = Covariance(
        background=wider * found.variance_intercept, both=across,
        maximum=wider * (found.variance_intercept + found.variance_slope + 2 * found.covariance),
    )  # fmt: skip
    t = student_t(0.95, degrees)
    return Calibration.made(
        chip=subject.chip, chips=subject.chips, die_rule=subject.die_rule, scope=subject.scope,
        instance_type=subject.instance_type, driver=subject.driver, meter_class_pct=subject.meter_class_pct,
        date=f"{datetime.now(UTC):%Y-%m-%d}", points=tuple(points),
        background_w=_bounded(found.intercept, t * math.sqrt(covariance.background)),
        maximum_w=_bounded(found.intercept + found.slope, t * math.sqrt(covariance.maximum)),
        covariance=covariance, reduced_chi2=ratio, misfit=misfit,
        scatter_w=math.sqrt(ratio - 1) * median(found.deviations) if misfit else 0.0,
    )  # fmt: skip


def _bounded(value: float, half: float) -> Bounded:
    return Bounded(value=value, lo=value - half, hi=value + half)


def _refuse_few(points: Sequence[Point]) -> None:
    count, last = 0, -math.inf
    percents = sorted(point.pct for point in points)
    for pct in percents:
        if pct >= last + APART:
            count, last = count + 1, pct
    if count < LEVELS:
        raise NoFit(f"found {count} levels of load, expected at least {LEVELS} that are {APART:g} points of % apart")
    if percents[-1] - percents[0] < SPAN:
        between = f"from {percents[0]:.1f} to {percents[-1]:.1f} %"
        raise NoFit(f"found loads {between}, expected them to span at least {SPAN:g} points")


def residuals(calibration: Calibration) -> list[tuple[Point, float]]:
    """Each point with its watts less what the calibration says."""
    return [(point, point.watts - _mean(calibration, point.pct)) for point in calibration.points]


def watts(calibration: Calibration, pct: float, lo: float, hi: float) -> Watts:
    """Watts of a percentage.

    Args:
        calibration: of these chips.
        pct: mean over the chips.
        lo: lower end of its 95 % interval.
        hi: upper end.

    Raises:
        ValueError: the calibration has no watts above 0 for it.
    """
    mean, share = _mean(calibration, pct), pct / 100
    if mean <= 0:
        raise ValueError(f"calibration {calibration.id} has {mean:.3g} W at {pct:g} %")
    known = calibration.covariance
    variance = (
        (1 - share) ** 2 * known.background + share**2 * known.maximum + 2 * share * (1 - share) * known.both
    )  # fmt: skip
    t = student_t(0.95, len(calibration.points) - 2)
    off = math.hypot(t * math.sqrt(max(variance, 0.0)), t * calibration.scatter_w) / mean
    return Watts(
        mean=mean, lo=_mean(calibration, lo), hi=_mean(calibration, hi),
        rel_sys=math.hypot(off, calibration.meter_class_pct / 100),
    )  # fmt: skip


def _mean(calibration: Calibration, pct: float) -> float:
    background, maximum = calibration.background_w.value, calibration.maximum_w.value
    return background + pct / 100 * (maximum - background)


def require(calibration: Calibration, *, chip: str, chips: int, die_rule: str, file: str) -> None:
    """Refuse a calibration of something else.

    Raises:
        InputError: with the field that differs.
    """
    for field, own, wanted in (
        ("chip", calibration.chip, chip), ("chips", calibration.chips, chips),
        ("die_rule", calibration.die_rule, die_rule),
    ):  # fmt: skip
        if own != wanted:
            raise InputError(f"found a calibration of {own!r}, expected {wanted!r}: it holds for nothing else",
                             file=file, field=field)  # fmt: skip


def chi2_quantile(probability: float, degrees: int) -> float:
    """Quantile of chi-squared, by the cube of Wilson and Hilferty (1931), good to 2 % from 3 degrees of freedom on.

    With 1 it is the square of the normal one, with 2 a logarithm.
    """
    if degrees == 1:
        return NormalDist().inv_cdf((1 + probability) / 2) ** 2
    if degrees == 2:
        return -2 * math.log(1 - probability)
    step = 2 / (9 * degrees)
    return float(degrees * (1 - step + NormalDist().inv_cdf(probability) * math.sqrt(step)) ** 3)

"""How far the mean of a series of samples may be off, because of noise and of rounding."""

from __future__ import annotations

import math

import numpy as np

from perwatt.power.errors import NORMAL
from perwatt.power.polled import Floats
from perwatt.timing.student import student_t

QUANTILE = 0.3  # of differences, by which noise is told from steps of the load
OF_NORMAL = 0.3853  # that quantile of the absolute value of a standard normal
STEP = 5.0  # standard deviations: a difference beyond is a step of the load
COARSE = 2.5  # steps of the sensor: a smaller difference is noise in any case
WAVES = 12  # slow waves, by which periodic values are told from noise
CLEARLY = 0.5  # of one half-width: the other is taken if it is below


def mean_variance(values: Floats, resolution: float, duty: float) -> tuple[float, float]:
    """Variance of the mean, widened for few samples, and standard deviation of the noise of one.

    From differences between neighbours, which a slow change of the load leaves alone. A step of the load is no noise:
    a sensor that averages over all of the time has it right, one that looks a share ``duty`` of the time knows it but
    for its moment. Where a load alternates as fast as the sensor samples, each difference is a step, and differences
    overrate what is uncertain. Then slow waves in the values decide: white noise has as much of them as of anything,
    a periodic load next to nothing.
    """
    n, steps = values.size, np.diff(values)
    if n < 3:
        return (float(np.ptp(values)) / 2.0) ** 2 if n else 0.0, 0.0
    sizes = np.abs(steps - steps.mean())
    cut = max(STEP * float(np.quantile(sizes, QUANTILE)) / OF_NORMAL, COARSE * resolution)
    small = sizes <= cut
    noise = float((sizes[small] ** 2).mean()) / 2.0
    jumps = float((sizes[~small] ** 2).sum()) * (1.0 - duty) ** 2 / 12.0
    few = (student_t(0.95, max(2.0, (n - 1) / 2.0)) / NORMAL) ** 2
    variance = few * (noise / n + jumps / n**2)
    slow = _slow(values)
    return (slow if slow < CLEARLY**2 * variance else variance), math.sqrt(noise)


def _slow(values: Floats) -> float:
    """Variance of the mean, widened, from the slowest waves in the values but for their trend; infinite if too few."""
    n = values.size
    if n < 4 * WAVES:
        return math.inf
    place = (np.arange(n) + 0.5) / n
    straight = values - np.polyval(np.polyfit(place, values, 1), place)
    waves = np.sqrt(2.0) * np.cos(np.pi * np.outer(np.arange(1, WAVES + 1), place))
    return float(np.mean((waves @ straight / n) ** 2)) * (student_t(0.95, WAVES) / NORMAL) ** 2


def rounding(values: Floats, resolution: float, deviation: float) -> float:
    """How far the mean may be off because values are rounded.

    Half a step for a value that stays the same. Noise spreads values over steps and takes the error away: the first
    wave of the saw-tooth that rounding is shrinks to exp(-2 (pi sigma / step)^2) of its height. Half of that exponent
    is counted, for noise that is not normal. Values that differ otherwise take away the root of the number of steps
    they are spread over.
    """
    if resolution <= 0.0 or not values.size:
        return 0.0
    shares = np.unique(np.rint(values / resolution), return_counts=True)[1] / values.size
    spread = 0.5 * math.sqrt(float((shares**2).sum()))
    sigma = math.sqrt(max(0.0, (deviation / resolution) ** 2 - 1.0 / 12.0))
    return resolution * min(spread, math.exp(-((math.pi * sigma) ** 2)) / math.pi if sigma > 0.1 else 0.5)

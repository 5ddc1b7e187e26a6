"""A straight line through points that are uncertain both ways.

York, D., Evensen, N. M., Martinez, M. L. and De Basabe Delgado, J. (2004), "Unified equations for the slope, intercept,
and standard errors of the best straight line", American Journal of Physics 72, 367-375, for errors of x and y that know
nothing of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TURNS = 100
CLOSE = 1e-12  # relative change of the slope at which it counts as found


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """``y = intercept + slope x``.

    Attributes:
        variance_intercept, variance_slope, covariance: by the points' own uncertainties.
        chi2: sum of squared residuals in units of their uncertainty.
        deviations: standard deviation of each residual.
        residuals: ``y`` less the line.
    """

    intercept: float
    slope: float
    variance_intercept: float
    variance_slope: float
    covariance: float
    chi2: float
    deviations: tuple[float, ...]
    residuals: tuple[float, ...]


def through(x: Sequence[float], y: Sequence[float], sigma_x: Sequence[float], sigma_y: Sequence[float]) -> Line:
    """The best line. Every point needs an uncertainty above zero in one of the two directions.

    Raises:
        ValueError: fewer than two different x.
    """
    xs, ys, variance_x, variance_y = np.array(x), np.array(y), np.square(sigma_x), np.square(sigma_y)
    if len(xs) < 2 or np.ptp(xs) == 0:
        raise ValueError("a line needs two different x")
    slope = float(np.polyfit(xs, ys, 1)[0])
    for _ in range(TURNS):
        weights = 1.0 / (variance_y + slope**2 * variance_x)
        mean_x, mean_y = (float(np.average(each, weights=weights)) for each in (xs, ys))
        u, v = xs - mean_x, ys - mean_y
        beta = weights * (variance_y * u + slope * variance_x * v)
        before, slope = slope, float((weights * beta * v).sum() / (weights * beta * u).sum())
        if abs(slope - before) <= CLOSE * abs(slope):
            break
    intercept = mean_y - slope * mean_x
    adjusted = mean_x + beta
    middle = float(np.average(adjusted, weights=weights))
    variance_slope = 1.0 / float((weights * (adjusted - middle) ** 2).sum())
    variance_intercept = 1.0 / float(weights.sum()) + middle**2 * variance_slope
    residuals = ys - intercept - slope * xs
    return Line(
        intercept=intercept, slope=slope, variance_intercept=variance_intercept, variance_slope=variance_slope,
        covariance=-middle * variance_slope, chi2=float((weights * residuals**2).sum()),
        deviations=tuple((1.0 / np.sqrt(weights)).tolist()), residuals=tuple(residuals.tolist()),
    )  # fmt: skip

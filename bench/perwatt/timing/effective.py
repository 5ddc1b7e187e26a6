"""How many independent samples a series of autocorrelated ones is worth, for its median."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Samples: TypeAlias = Sequence[float] | Floats

STEEPEST = 0.98  # lag-1 autocorrelation above which a series is taken for a trend: a sample in 99 is new


def checked(samples: Samples) -> Floats:
    """The samples as an array of float64.

    Raises:
        ValueError: If there is none, if one is NaN or infinite, or if they are not a flat series.
    """
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"found samples of shape {values.shape}, expected a flat series of at least one")
    if not np.isfinite(values).all():
        where = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"sample {where} is {values[where]}, expected a finite number")
    return values


def effective_size(samples: Samples) -> float:
    """Effective number of samples behind their median, autocorrelation taken out.

    n / tau, with the integrated autocorrelation time tau of the ranks. The median's own time is that of "above or below
    the median"; for Gaussian noise the ranks' is the same or longer, and a short series underrates it less often. Of
    two estimates of tau the larger counts: Geyer's sees slow components under noise, the first-order one sees what few
    samples show. Anticorrelation is not credited.

    It lies where a series is too short to show its memory. Half white noise, half noise with a memory of ten samples:
    120 samples are worth 17, and one series in ten is taken for 43 or more.

    Args:
        samples: In the order they were taken, any unit.

    Returns:
        Between 1 and n; n where all samples are equal.

    Raises:
        ValueError: If there is no sample, or one is not finite.
    """
    values = checked(samples)
    order = values.argsort()
    return effective_size_of(values[order], order)


def effective_size_of(ordered: Floats, order: NDArray[np.intp]) -> float:
    """The same from sorted samples and the places where they stood."""
    n = ordered.size
    if ordered[0] == ordered[-1]:
        return float(n)
    rho = _autocorrelation(_centred_ranks(ordered, order))
    time = max(_initial_sequence_time(rho), _first_order_time(float(rho[1]), n), 1.0)
    return max(n / time, 1.0)


def _centred_ranks(ordered: Floats, order: NDArray[np.intp]) -> Floats:
    """Twice the mid-ranks less their mean. Equal values share a rank: a coarse clock must not look like a trend."""
    ranks = np.empty(ordered.size)
    ranks[order] = ordered.searchsorted(ordered, "left") + ordered.searchsorted(ordered, "right")
    ranks -= ordered.size  # numbers of values below and not above average to n
    return ranks


def _autocorrelation(deviations: Floats) -> Floats:
    """Autocorrelation at lags 0 to n - 1, divisor n, by a zero-padded Fourier transform."""
    n = deviations.size
    length = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(deviations, length)
    covariance: Floats = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, length)[:n]
    covariance /= covariance[0]
    return covariance


def _initial_sequence_time(rho: Floats) -> float:
    """Integrated time by the initial monotone sequence, with the bias of a known mean taken back.

    Geyer, C. J. (1992), "Practical Markov chain Monte Carlo", Statistical Science 7(4), 473-483. Deviations from the
    series' own mean lower the autocorrelation at lag k by about tau (1 - k/n) / n; a first pass gives that tau.
    """
    n, even = rho.size, rho.size // 2 * 2
    pairs = rho[0:even:2] + rho[1:even:2]
    first = _leading_time(pairs)
    bias = first / n * (2.0 - (4.0 * np.arange(pairs.size) + 1.0) / n)
    bias[0] -= first / n  # lag 0 is 1 by definition
    return _leading_time(pairs + bias)


def _leading_time(pairs: Floats) -> float:
    """2 x the sum of the leading positive pairs, made non-increasing, less the lag 0 counted twice."""
    negative = pairs <= 0.0
    end = int(negative.argmax()) if negative.any() else pairs.size
    return max(2.0 * float(np.minimum.accumulate(pairs[:end]).sum()) - 1.0, 0.0)


def _first_order_time(rho: float, n: int) -> float:
    """Integrated time of a first-order autoregression, its lag-1 bias -(1 + 3 rho) / n taken back (Kendall 1954)."""
    corrected = min(rho + (1.0 + 3.0 * rho) / n, STEEPEST)
    return (1.0 + corrected) / (1.0 - corrected)

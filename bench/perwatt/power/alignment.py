"""By how much a meter's clock is ahead of ours: found where its watts rise and fall with a load whose times are known.

Every load has quiet before and after it. Of the trace only what falls into a load and its quiet is looked at, each load
with levels of its own, since nothing is known of the time between. A coarse search over :data:`SEARCHED_S` takes the
offset that explains most; around it, all offsets that explain the edges about as well are its interval (a profile of
the likelihood). It is never narrower than half a step of the trace: no meter says what its time stamps mean to less.
Whether the meter gives values of a moment or averages, and over how long, is not known either, so that both are tried,
and an offset counts that is likely by any of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perwatt.errors import InputError
from perwatt.timing.student import student_t

Floats = NDArray[np.float64]

SEARCHED_S = 120.0  # either way; clocks that are farther apart are to be set, or the offset stated
CORRELATION = 0.8  # of watts with what is expected of them, below which nothing is said
CHANCE = 1e-6  # of noise alone to show such a rise at one offset; hundreds are tried, and noise is not quite white
DISTINCT = 0.15  # share of the variance that the next best offset must explain less
FINEST_S = 0.05  # a faster trace is averaged to this step first; no energy depends on less
WIDTHS = (0.0, 0.5, 1.0, 2.0, 4.0)  # time that a value is averaged over, in steps of the trace
GRID = 20  # offsets tried within a step
MARGIN = 1.1  # of the interval: 93.5 % of 1,000 trials of each kind at least (tests/unit/power/test_alignment.py)
WIDENED = 4  # times that the fine search may double its span
FLOOR = 0.005  # noise of a value that is assumed at least, as a share of the rise


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """A window of steady load, in seconds of any one clock, with the quiet around it.

    Attributes:
        start: the load begins.
        end: it ends.
        before: seconds of quiet before it.
        after: and after.
    """

    start: float
    end: float
    before: float
    after: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Offset:
    """What was found.

    Attributes:
        seconds: by which the meter's clock is ahead.
        u95: half-width of the 95 % interval, seconds.
        correlation: of watts with expected activity.
        rival: the same at the best offset apart from this one.
    """

    seconds: float
    u95: float
    correlation: float
    rival: float


def find(times: Floats, watts: Floats, loads: Sequence[Load]) -> Offset:
    """The offset of a meter's clock.

    Args:
        times: of the meter, seconds, growing.
        watts: at these times.
        loads: in seconds of our clock.

    Raises:
        InputError: no offset within reach explains the trace clearly.
    """
    times, watts = _thinned(times, watts)
    step = float(np.median(np.diff(times)))
    best, correlation, rival = _coarse(times, watts, loads, step)
    lo, hi = _fine(times, watts, loads, step, best)
    u95 = max((hi - lo) / 2 * MARGIN, step / 2)
    return Offset(seconds=(lo + hi) / 2, u95=u95, correlation=correlation, rival=rival)


def _thinned(times: Floats, watts: Floats) -> tuple[Floats, Floats]:
    """A fast trace in means of :data:`FINEST_S`."""
    block = int(FINEST_S / np.median(np.diff(times)))
    if block < 2:
        return times, watts
    edges = np.arange(0, len(times), block)
    counts = np.diff(np.append(edges, len(times)))
    return np.add.reduceat(times - times[0], edges) / counts + times[0], np.add.reduceat(watts, edges) / counts


def _coarse(times: Floats, watts: Floats, loads: Sequence[Load], step: float) -> tuple[float, float, float]:
    """Best offset, its correlation, and that of the best one apart from it."""
    offsets = np.arange(-SEARCHED_S, SEARCHED_S + 1e-9, min(max(step / 4, FINEST_S / 2), 0.5))
    explained, signal, degrees = _explained(times, watts, loads, offsets)
    if not explained.any():
        raise _unclear("its lines are too far apart or do not reach over a load and the quiet around it")
    at = int(explained.argmax())
    best, share = float(offsets[at]), float(explained[at])
    lobe = max(max(load.before, load.after) for load in loads) + 2 * step
    rival = float(explained[np.abs(offsets - best) > lobe].max(initial=0.0))
    found = f"the best is {best:+.1f} s with a correlation of {math.sqrt(share):.2f}"
    needed = student_t(1 - CHANCE, max(float(degrees[at]), 2.0))
    if math.sqrt(share) < CORRELATION or signal[at] < needed:
        wanted = f"a correlation of {CORRELATION:g} and a rise of {needed:.1f} standard errors"
        raise _unclear(f"{found} and a rise of {signal[at]:.1f} standard errors, expected {wanted}")
    if rival > share - DISTINCT:
        other = float(offsets[np.where(np.abs(offsets - best) > lobe, explained, 0.0).argmax()])
        raise _unclear(f"{found}, and {other:+.1f} s has {math.sqrt(rival):.2f}")
    return best, math.sqrt(share), math.sqrt(rival)


def _unclear(why: str) -> InputError:
    message = f"no offset of the meter's clock within {SEARCHED_S:g} s explains the trace clearly: {why}"
    return InputError(message + "; state it (--meter-offset)")


def _explained(times: Floats, watts: Floats, loads: Sequence[Load], offsets: Floats) -> tuple[Floats, Floats, Floats]:
    """Share of the variance that two levels explain, the rise in standard errors, degrees of freedom, by offset.

    The share is the mean over loads: one that finds no rise counts against an offset, however flat the trace is there.
    By sums up to each line, so that an offset costs the same however many lines a load has.
    """
    watts = watts - watts.mean()
    ones, twos = (np.concatenate([[0.0], np.cumsum(power)]) for power in (watts, watts**2))
    shares, count, used = (np.zeros(len(offsets)) for _ in range(3))
    dust = 1e-9 * max(float(twos[-1]), 1e-300)  # what rounding leaves of a flat stretch
    for load in loads:
        borders = (load.start - load.before, load.start, load.end, load.end + load.after)
        a, b, c, d = (np.searchsorted(times, border + offsets) for border in borders)
        n, n_on = (d - a).astype(float), (c - b).astype(float)
        n_off = n - n_on
        valid = (n_on >= 3) & (n_off >= 1)
        valid &= (times[0] <= borders[0] + offsets) & (borders[3] + offsets <= times[-1])
        on, whole = ones[c] - ones[b], ones[d] - ones[a]
        with np.errstate(divide="ignore", invalid="ignore"):
            all_squares = twos[d] - twos[a] - whole**2 / n
            rise = on / n_on - (whole - on) / n_off
            share = np.where(rise > 0, rise**2 * n_on * n_off / n, 0.0) / all_squares
        shares += np.where(valid & (all_squares > dust), np.clip(share, 0.0, 1.0), 0.0)
        count += np.where(valid, n - 2, 0.0)
        used += valid
    shares /= max(float(used.max()), 1.0)
    return shares, np.sqrt(shares / np.maximum(1 - shares, 1e-12) * count), count


def _fine(times: Floats, watts: Floats, loads: Sequence[Load], step: float, best: float) -> tuple[float, float]:
    """Lowest and highest offset that is about as likely as the likeliest."""
    span = 2 * step
    for _ in range(WIDENED):
        offsets = best + np.arange(-span, span + 1e-9, step / GRID)
        likely = offsets[_likely(times, watts, loads, step, offsets)]
        if offsets[0] < likely[0] and likely[-1] < offsets[-1]:
            return float(likely[0]) - step / GRID / 2, float(likely[-1]) + step / GRID / 2
        span *= 2
    raise _unclear(f"all offsets within {span / 2:.1f} s of {best:+.1f} s explain it equally well")


def _likely(
    times: Floats, watts: Floats, loads: Sequence[Load], step: float, offsets: Floats
) -> NDArray[np.bool_]:  # fmt: skip
    """Which offsets are within the 95 % interval, whatever a value is averaged over."""
    quiet = min(min(load.before, load.after) for load in loads)
    widths = [width * step for width in WIDTHS if width * step <= 2 * quiet]  # of longer averages nothing is all quiet
    fits = np.array([[_fit(times, watts, loads, offset, width) for offset in offsets] for width in widths])
    squares, count, rise = fits[..., 0], fits[..., 1], fits[..., 2]
    degrees = np.maximum(count - 2 * len(loads) - 1, 1.0)
    at = np.unravel_index(np.argmin(squares / degrees), squares.shape)
    noise = float(max(squares[at] / degrees[at], (FLOOR * rise[at]) ** 2))
    cost = squares / noise - count  # an offset that brings more lines into sight is not to pay for them
    allowed = student_t(0.95, max(2.0, float(degrees[at]))) ** 2
    return np.asarray((cost <= cost[at] + allowed).any(axis=0))


def _fit(
    times: Floats, watts: Floats, loads: Sequence[Load], offset: float, width: float
) -> tuple[float, float, float]:  # fmt: skip
    """Squares that are left, number of lines, and the largest rise, at one offset and time of averaging."""
    left = count = rise = 0.0
    for load in loads:
        borders = (load.start - load.before + width / 2 + offset, load.end + load.after - width / 2 + offset)
        lines = slice(*np.searchsorted(times, borders))
        if lines.stop - lines.start < 3:
            continue
        active = _active(times[lines] - offset, load, width)
        power = watts[lines] - watts[lines].mean()
        active = active - active.mean()
        spread = float(active @ active)
        slope = max(float(active @ power) / spread, 0.0) if spread > 1e-9 else 0.0
        rest = power - slope * active
        left += float(rest @ rest)
        count += len(power)
        rise = max(rise, slope)
    return (left, count, rise) if count else (math.inf, 0.0, 0.0)


def _active(at: Floats, load: Load, width: float) -> Floats:
    """Share of the time around each moment that is load."""
    if not width:
        return ((load.start <= at) & (at < load.end)).astype(float)
    inside = np.minimum(at + width / 2, load.end) - np.maximum(at - width / 2, load.start)
    return np.clip(inside / width, 0.0, 1.0)

"""Where a load is steady, and how much of its work lies in a span."""

from __future__ import annotations

import numpy as np
import pytest

from perwatt.power.measured import Unusable
from perwatt.power.steady import iterations_between, steady


def marks(rate_of, end: float = 30.0, batch: int = 10, begin: float = 0.0) -> list[tuple[float, float]]:
    """Batches of iterations whose rate is a function of time."""
    found, now, done = [], begin, 0
    while now <= end:
        found.append((now, done))
        now, done = now + batch / rate_of(now), done + batch
    return found


def even(_: float) -> float:
    return 100.0


def test_the_ramp_is_left_out():
    span = steady(marks(even), 0.0, 30.0, 3.0)
    assert span.start == 3.0
    assert span.end == pytest.approx(30.0, abs=0.1001)
    assert span.drift == pytest.approx(0.0, abs=1e-9)


def test_a_slow_start_within_the_ramp_does_no_harm():
    span = steady(marks(lambda at: 20.0 if at < 2.0 else 100.0), 0.0, 30.0, 3.0)
    assert span.start == 3.0
    assert span.drift == pytest.approx(0.0, abs=1e-9)


def test_a_slow_drift_is_fine_and_told():
    span = steady(marks(lambda at: 100.0 * (1.0 - 0.03 * at / 30.0)), 0.0, 30.0, 3.0)
    assert span.drift == pytest.approx(-0.018, abs=0.003)


@pytest.mark.parametrize("place", [10.0, 18.0, 28.0])
def test_a_rate_that_changes_is_refused(place: float):
    with pytest.raises(Unusable, match="not steady"):
        steady(marks(lambda at: 70.0 if place - 5.0 < at < place + 5.0 else 100.0), 0.0, 30.0, 3.0)


def test_a_load_that_stops_is_refused():
    short = [one for one in marks(even) if one[0] < 15.0] + [(29.9, 1510.0)]
    with pytest.raises(Unusable, match="not steady"):
        steady(short, 0.0, 30.0, 3.0)


@pytest.mark.parametrize("few", [[], [(1.0, 5.0)], [(1.0 + k, 5.0 * k) for k in range(6)]])
def test_too_few_batches_are_refused(few: list[tuple[float, float]]):
    with pytest.raises(Unusable, match="expected at least"):
        steady(few, 0.0, 10.0, 0.0)


@pytest.mark.parametrize("odd", [[(1.0, 5.0), (1.0, 6.0)], [(1.0, 5.0), (2.0, 4.0)], [(1.0, 1.0), (float("nan"), 2.0)]])
def test_marks_that_do_not_ascend_are_refused(odd: list[tuple[float, float]]):
    with pytest.raises(Unusable, match="do not ascend"):
        iterations_between(odd, 1.0, 1.5)


def test_iterations_between_marks_are_exact():
    work = iterations_between([(0.0, 0), (1.0, 10), (2.0, 20), (3.0, 31)], 1.0, 3.0)
    assert (work.iterations, work.error) == (21.0, 0.0)


def test_a_span_beyond_the_marks_is_refused():
    with pytest.raises(Unusable, match="do not hold the span"):
        iterations_between([(0.0, 0), (1.0, 10)], 0.5, 1.5)


def test_the_error_is_never_more_than_half_a_batch_at_each_end():
    work = iterations_between([(0.0, 0), (1.0, 1), (5.0, 2), (6.0, 3), (6.1, 4)], 0.5, 5.5)
    assert work.error <= 1.0


def test_true_work_lies_within_the_stated_error():
    """Iterations that each do their work unevenly, one after another, told only by batches."""
    rng = np.random.default_rng(3)
    for _ in range(300):
        batch = int(rng.integers(1, 50))
        ends = np.cumsum(rng.uniform(0.95, 1.05, 60 * batch) * 0.01 * (1.0 + 0.02 * rng.random()))
        told = [(float(ends[k]), k + 1) for k in range(batch - 1, ends.size, batch)]
        start, end = np.sort(rng.uniform(told[0][0], told[-1][0], 2))
        found = iterations_between(told, float(start), float(end))
        done = [np.interp(at, ends, np.arange(1, ends.size + 1)) for at in (start, end)]
        assert abs(found.iterations - (done[1] - done[0])) <= found.error

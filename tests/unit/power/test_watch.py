"""Sensors that are read by threads: what they say is kept, and whatever they do costs no more than their trace."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import pytest

from fakes.hurried import Hurried, watched
from perwatt.power.base import Lost, Reading
from perwatt.power.trace import Trace
from perwatt.power.watch import Watch
from support.power import PaperProbe, facts

TWO = facts(channels=("a", "b"), poll_s=0.5)
GOOD = Reading(values=(1.0, 2.0), lows=(0.5, 1.5), highs=(2.0, 3.0), stamp=7.0, raw="1,2")


def read(found: Iterable[Any], end: float = 10.0) -> Trace:
    """The trace of readings in turn, the last one for ever."""
    waiting = list(found)
    probe = PaperProbe(TWO, lambda: waiting.pop(0) if len(waiting) > 1 else waiting[0])
    return watched(probe, Hurried(end))


def test_it_is_read_as_often_as_it_says() -> None:
    found = read([GOOD])
    assert found.times == pytest.approx([0.5 * step for step in range(len(found.times))])
    assert found.times[-1] == 10.0
    assert found.unix == pytest.approx([Hurried().epoch + at for at in found.times])
    assert set(found.readings) == {GOOD}
    assert found.lost == ""


def test_a_moment_without_a_value_is_a_gap() -> None:
    found = read([GOOD, None, None, GOOD])
    assert found.times[:3] == pytest.approx([0.0, 1.5, 2.0])
    assert found.lost == ""


@pytest.mark.parametrize(
    ("bad", "lost"),
    [
        (Lost("it fell\noff the bus"), "it fell off the bus"),
        (ZeroDivisionError("of its own\nmaking"), "fake: ZeroDivisionError: of its own making"),
        (Reading(values=(math.nan, 1.0)), "fake reads nan, expected a finite number"),
        (Reading(values=(1.0, math.inf)), "fake reads inf, expected a finite number"),
        (Reading(values=(1.0, 1.0), lows=(1.0, -math.inf), highs=(1.0, 1.0)), "fake reads -inf, expected"),
        (Reading(values=(1.0, 1.0), stamp=math.nan), "fake reads nan, expected"),
        (Reading(values=("1 W", "2 W")), "fake: TypeError: "),  # type: ignore[arg-type]
        (Reading(values=(1.0,)), "fake: a reading without a value for each of 2 channels"),
        (Reading(values=(1.0, 1.0), lows=(1.0,), highs=(1.0, 1.0)), "fake: a reading without a value for each"),
        (Reading(values=(1.0, 1.0), highs=(1.0, 1.0, 1.0)), "fake: a reading without a value for each"),
    ],
)
def test_what_makes_no_sense_ends_the_trace_with_its_reason(bad: Any, lost: str) -> None:
    found = read([GOOD, GOOD, bad, GOOD])
    assert found.lost.startswith(lost)
    assert found.readings == [GOOD, GOOD], "what was said before is kept, and nothing after"
    json.dumps(found.message(), allow_nan=False)


def test_a_trace_comes_back_from_its_message() -> None:
    plain = Reading(values=(3.0, 4.0))
    for found in (read([GOOD]), read([plain]), read([Lost("gone")])):
        assert Trace.from_message(json.loads(json.dumps(found.message()))) == found
    assert not {"lows", "highs", "stamp", "raw"} & read([plain]).message().keys()


def test_one_that_was_never_started_has_an_empty_trace() -> None:
    probe = PaperProbe(TWO, lambda: GOOD)
    (found,) = Watch([probe], Hurried()).stop()
    assert (found.times, found.lost, found.facts) == ([], "", TWO)

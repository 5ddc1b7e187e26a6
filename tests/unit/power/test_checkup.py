"""Verdicts on sensors whose traces at rest, at half and at full load have one fault each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from perwatt.power import checkup
from perwatt.power.base import Facts, Reading
from perwatt.power.checkup import Load, Verdict
from perwatt.power.trace import Trace
from support.power import facts, trace

LEVELS = {"idle": 70.0, "half": 300.0, "full": 500.0}
START, END = 5.0, 20.0
Fault = Callable[[float, float], float]


def loads(said: Facts, levels: dict[str, float] = LEVELS, lag_s: float = 0.0, ramp_s: float = 0.0) -> dict[str, Load]:
    """What a sensor says at each level, with the device at rest before and after; ``lag_s`` late."""

    def watts(level: float) -> Callable[[float], float]:
        return lambda at: (level if START <= at - lag_s < END else levels["idle"]) + 0.01 * math.sin(37.0 * at)

    return {
        name: Load(trace=trace(said, watts(level), 0.0, 25.0), start=START, end=END, ramp_s=ramp_s)
        for name, level in levels.items()
    }


def changed(found: dict[str, Load], change: Callable[[float, float], float], only: str = "") -> dict[str, Load]:
    """Every value as a function of its time and itself, at one level or at all."""
    return {name: replace(load, trace=_changed(load.trace, change)) if name == only or not only else load
            for name, load in found.items()}  # fmt: skip


def _changed(one: Trace, change: Callable[[float, float], float]) -> Trace:
    said = [
        Reading(values=tuple(change(at, value) for value in reading.values))
        for at, reading in zip(one.times, one.readings, strict=True)
    ]
    return replace(one, readings=said)


def judged(found: dict[str, Load]) -> Verdict:
    return checkup.judge(found)


@pytest.mark.parametrize("kind", ["counter", "samples"])
def test_a_sensor_that_follows_the_load(kind: str) -> None:
    verdict = judged(loads(facts(kind)))
    assert (verdict.sensor, verdict.unit, verdict.failed) == ("fake", "W", "")
    assert verdict.means == pytest.approx(LEVELS, abs=0.05)
    assert verdict.update_s == pytest.approx(0.05)
    assert (verdict.lag_s is None) == (kind == "counter")


def test_percentages_are_judged_alike() -> None:
    levels = {"idle": 2.0, "half": 40.0, "full": 75.0}
    verdict = judged(loads(facts(quantity="%"), levels))
    assert (verdict.unit, verdict.failed) == ("%", "")
    assert verdict.means == pytest.approx(levels, abs=0.05)


@pytest.mark.parametrize("lag_s", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("ramp_s", [0.0, 2.5])
def test_how_late_it_is_counts_from_the_beginning_of_the_load(lag_s: float, ramp_s: float) -> None:
    verdict = judged(loads(facts(), lag_s=lag_s, ramp_s=ramp_s))
    assert verdict.lag_s == pytest.approx(lag_s, abs=0.06)


def test_the_ramp_is_left_out_of_the_means() -> None:
    slow = changed(loads(facts(), ramp_s=3.0), lambda at, value: 70.0 if at < START + 2.9 else value)
    assert judged(slow).means == pytest.approx(LEVELS, abs=0.05)


def test_period_and_step_of_what_it_says() -> None:
    coarse = changed(loads(facts()), lambda at, value: round(value, -1) + 8.0 * (int(at / 0.5 + 1e-6) % 2))
    verdict = judged(coarse)
    assert verdict.update_s == pytest.approx(0.5)
    assert verdict.resolution == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ({"idle": 300.0, "half": 300.0, "full": 300.0}, "it does not follow the load: idle 300, half 300, full 300"),
        ({"idle": 300.0, "half": 305.0, "full": 312.0}, "it does not follow"),  # under 5 %
        ({"idle": 70.0, "half": 500.0, "full": 300.0}, "it does not follow the load: idle 70, half 500, full 300"),
        ({"idle": 300.0, "half": 70.0, "full": 500.0}, "it does not follow the load: idle 300, half 70, full 500"),
        ({"idle": 500.0, "half": 300.0, "full": 70.0}, "it does not follow the load: idle 500, half 300, full 70"),
    ],
)
@pytest.mark.parametrize("kind", ["counter", "samples"])
def test_one_that_does_not_move_with_the_load(kind: str, levels: dict[str, float], said: str) -> None:
    assert judged(loads(facts(kind), levels)).failed.startswith(said)


def test_halves_may_be_alike_where_the_whole_rise_is_large() -> None:
    assert judged(loads(facts(), {"idle": 70.0, "half": 505.0, "full": 500.0})).failed == ""
    assert judged(loads(facts(), {"idle": 70.0, "half": 69.0, "full": 500.0})).failed == ""


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("samples", lambda at, value: 0.0, "reads 0 W under load"),
        ("counter", lambda at, value: 0.0, "stands still at 0 J"),
        ("counter", lambda at, value: 1234.0, "stands still at 1234 J"),
        ("samples", lambda at, value: -value, "expected none below 0"),
        ("samples", lambda at, value: 1e6, "expected at most 10000 a chip"),
        ("counter", lambda at, value: value if at < 12.0 else value - 900.0, "went back from"),
    ],
)
@pytest.mark.parametrize("level", ["idle", "half", "full"])
def test_one_that_says_nonsense_at_one_level(kind: str, change: Fault, said: str, level: str) -> None:
    verdict = judged(changed(loads(facts(kind)), change, level))
    assert verdict.failed.startswith(f"{level}: fake: ")
    assert said in verdict.failed
    assert set(verdict.means) == set(LEVELS) - {level}


def test_one_that_was_lost() -> None:
    found = loads(facts())
    found["half"].trace.lost = "it fell off the bus"
    kept = replace(found["half"].trace, times=found["half"].trace.times[:200])
    for name in ("took", "unix", "readings"):
        setattr(kept, name, getattr(kept, name)[:200])
    found["half"] = replace(found["half"], trace=kept)
    assert judged(found).failed == "half: fake: lost inside the window: it fell off the bus"


def test_one_that_never_said_a_thing() -> None:
    found = {name: replace(load, trace=Trace(facts=facts())) for name, load in loads(facts()).items()}
    verdict = judged(found)
    assert verdict.failed == "; ".join(f"{name}: fake: no readings" for name in LEVELS)
    assert (verdict.means, verdict.update_s, verdict.resolution, verdict.lag_s) == ({}, None, None, None)


# Two sensors of the same chips


def disagreement(share: float, **said: Any) -> str:
    one = loads(facts("counter", sensor="counts"))["full"]
    levels = {name: share * level for name, level in LEVELS.items()}
    other = loads(facts(sensor="samples", **said), levels)["full"]
    return checkup.disagreement(one, other)


def test_two_that_agree() -> None:
    assert [disagreement(share) for share in (0.96, 1.0, 1.04)] == ["", "", ""]


@pytest.mark.parametrize("share", [0.5, 0.9, 1.1, 2.0])
def test_two_that_do_not(share: float) -> None:
    expected = f"counts says 500, samples {500 * share:.4g}: {100 * abs(1 / share - 1):.1f} % apart"
    assert disagreement(share) == expected


def test_an_interval_excuses_a_difference() -> None:
    assert disagreement(1.1, resolution=200.0) == ""


def test_one_that_says_nothing_contradicts_nobody() -> None:
    one = loads(facts())["full"]
    assert checkup.disagreement(one, replace(one, trace=Trace(facts=facts()))) == ""

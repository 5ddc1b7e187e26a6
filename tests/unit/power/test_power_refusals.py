"""What a trace may hold that nothing can be concluded from, each planted by itself, and what looks odd but is right."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fakes.power_traces import Device, Faults, Power, constant, poll, square
from perwatt.power.base import Facts, Reading
from perwatt.power.evaluate import measured
from perwatt.power.measured import Unusable
from perwatt.power.trace import Trace

COUNTER = Facts(
    sensor="fake", source="counter", scope="die", quantity="J", kind="counter", channels=("chip",),
    update_s=0.1, poll_s=0.02, window_s=5.0, resolution=0.01,
)  # fmt: skip
SAMPLES = replace(COUNTER, source="sampled", quantity="W", kind="samples", resolution=0.1, lag_s=0.05)
START, END, LENGTH = 2.0, 18.0, 20.0


def rng() -> np.random.Generator:
    return np.random.default_rng(8)


def trace(facts: Facts, power: Power | None = None, faults: Faults | None = None, noise: float = 2.0) -> Trace:
    device = Device(facts=facts, average_s=0.1, noise=noise)
    powers = [power or constant(300.0, LENGTH)] * len(facts.channels)
    return poll(device, powers, LENGTH, rng(), faults)


def changed(one: Trace, change: Callable[[float, float], float | None]) -> Trace:
    """Each value as a function of time and itself; None leaves the reading out."""
    kept = [
        (place, tuple(change(at, value) for value in reading.values))
        for place, (at, reading) in enumerate(zip(one.times, one.readings, strict=True))
    ]
    kept = [(place, values) for place, values in kept if None not in values]
    places = [place for place, _ in kept]
    return Trace(
        facts=one.facts, times=[one.times[p] for p in places], took=[one.took[p] for p in places],
        unix=[one.unix[p] for p in places], readings=[Reading(values=values) for _, values in kept], lost=one.lost,
    )  # fmt: skip


def at(moment: float, value: float) -> Callable[[float, float], float]:
    return lambda now, old: value if moment <= now < moment + 0.1 else old


@pytest.mark.parametrize("facts", [COUNTER, SAMPLES])
@pytest.mark.parametrize(("value", "message"), [
    (float("nan"), "reads nan"), (float("inf"), "reads inf"), (-1.0, "below 0"),
])  # fmt: skip
def test_garbage_is_refused(facts: Facts, value: float, message: str):
    with pytest.raises(Unusable, match=message):
        measured(changed(trace(facts), at(9.0, value)), START, END)


@pytest.mark.parametrize("facts", [COUNTER, SAMPLES])
def test_garbage_long_after_the_window_does_no_harm(facts: Facts):
    later = measured(changed(trace(facts), at(19.0, float("nan"))), START, END - 2.0)
    assert later == measured(trace(facts), START, END - 2.0)


def test_more_than_ten_kilowatts_are_refused():
    with pytest.raises(Unusable, match="at most 10000 a chip"):
        measured(changed(trace(SAMPLES), at(9.0, 10_001.0)), START, END)
    with pytest.raises(Unusable, match="10000 W a chip"):
        measured(changed(trace(COUNTER), lambda now, old: old + 5000.0 * (now > 9.0)), START, END)


def test_a_meter_of_several_chips_may_see_as_much_of_each():
    facts = replace(SAMPLES, scope="package", chips=16)
    assert measured(changed(trace(facts), at(9.0, 16 * 700.0)), START, END).high == 11_200.0
    with pytest.raises(Unusable, match="at most 160000 of 16 chips"):
        measured(changed(trace(facts), at(9.0, 160_001.0)), START, END)


@pytest.mark.parametrize(("scope", "most"), [("node", 100_000.0), ("rack", math.inf), ("facility", math.inf)])
def test_a_node_may_draw_more_than_a_chip(scope: str, most: float):
    facts = replace(SAMPLES, scope=scope)
    assert measured(changed(trace(facts), at(9.0, 14_000.0)), START, END).high == 14_000.0
    if most < math.inf:
        with pytest.raises(Unusable, match=f"at most {most:g} a {scope}".replace("+", r"\+")):
            measured(changed(trace(facts), at(9.0, most + 1.0)), START, END)
    else:
        assert measured(changed(trace(facts), at(9.0, 1e6)), START, END).high == 1e6


@pytest.mark.parametrize(("facts", "message"), [(COUNTER, "stands still"), (SAMPLES, "reads 0 W under load")])
def test_zero_under_load_is_refused(facts: Facts, message: str):
    with pytest.raises(Unusable, match=message):
        measured(changed(trace(facts), lambda now, old: 0.0), START, END)


def test_a_single_zero_watts_is_refused():
    with pytest.raises(Unusable, match="reads 0 W under load"):
        measured(changed(trace(SAMPLES), at(9.0, 0.0)), START, END)


def test_one_channel_of_zeros_among_others_is_refused():
    one = trace(replace(SAMPLES, channels=("a", "b")))
    one.readings = [Reading(values=(reading.values[0], 0.0)) for reading in one.readings]
    with pytest.raises(Unusable, match="b reads 0 W"):
        measured(one, START, END)


@pytest.mark.parametrize("facts", [COUNTER, SAMPLES])
def test_a_sensor_that_is_lost_inside_the_window_is_refused(facts: Facts):
    lost = changed(trace(facts), lambda now, old: old if now < 12.0 else None)
    lost.lost = "fake: no permission any more"
    with pytest.raises(Unusable, match="no permission any more"):
        measured(lost, START, END)
    measured(lost, START, 11.0)


@pytest.mark.parametrize("facts", [COUNTER, SAMPLES])
@pytest.mark.parametrize(("start", "end", "message"), [
    (30.0, 40.0, "do not overlap"), (5.0, 5.0, "no length"), (5.0, 5.01, "expected at least"), (5.0, 5.15, "updates"),
])  # fmt: skip
def test_a_window_without_readings_is_refused(facts: Facts, start: float, end: float, message: str):
    with pytest.raises(Unusable, match=message):
        measured(trace(facts), start, end)


def test_an_empty_trace_is_refused():
    with pytest.raises(Unusable, match="no readings: gone"):
        measured(Trace(facts=COUNTER, lost="gone"), START, END)


def test_a_counter_that_goes_back_is_refused():
    back = changed(trace(COUNTER), lambda now, old: old - 500.0 * (now > 9.0))
    with pytest.raises(Unusable, match="went back"):
        measured(back, START, END)
    back.facts = replace(COUNTER, wrap=(1e6,))  # a wrap would mean a million joules in 20 ms
    with pytest.raises(Unusable, match="went back"):
        measured(back, START, END)


def test_a_counter_that_begins_anew_is_counted_on():
    facts = replace(COUNTER, wrap=(3000.0,))
    found = measured(trace(facts), START, END)
    assert found.lo <= 300.0 * found.seconds <= found.hi


def test_a_counter_that_may_have_begun_anew_twice_is_refused():
    facts = replace(COUNTER, wrap=(3000.0,))
    gap = changed(trace(facts), lambda now, old: None if 8.0 < now < 9.0 else old)
    with pytest.raises(Unusable, match="more than once"):
        measured(gap, START, END)


@pytest.mark.parametrize("forgets", [True, False])
def test_a_counter_that_stands_still_is_refused_if_energy_is_lost(forgets: bool):
    stalled = trace(COUNTER, faults=Faults(stall=(7.0, 11.0), forgets=forgets))
    if forgets:
        with pytest.raises(Unusable, match="stood still for 4"):
            measured(stalled, START, END)
    else:
        found = measured(stalled, START, END)
        assert found.lo <= 300.0 * found.seconds <= found.hi


def test_a_counter_that_forgets_a_few_updates_is_refused():
    with pytest.raises(Unusable, match="stood still for"):
        measured(trace(COUNTER, faults=Faults(stall=(9.1, 9.6), forgets=True)), START, END)


def test_a_counter_that_hardly_ever_moves_is_held_to_what_it_states():
    def standing(now: float, old: float) -> float:
        return min(old, 1645.0) if now < 17.8 else old - 4600.0

    with pytest.raises(Unusable, match="stood still for 15"):
        measured(changed(trace(COUNTER), standing), START, END)


def test_samples_that_repeat_themselves_are_refused():
    with pytest.raises(Unusable, match="repeated itself for"):
        measured(trace(SAMPLES, faults=Faults(stall=(7.0, 11.0))), START, END)


def test_a_reading_that_is_missing_does_not_part_a_stall():
    stalled = trace(SAMPLES, faults=Faults(stall=(7.0, 11.0)))
    with pytest.raises(Unusable, match="repeated itself for"):
        measured(changed(stalled, lambda now, old: None if 8.2 < now < 8.5 else old), START, END)


def test_samples_that_never_move_are_refused():
    with pytest.raises(Unusable, match="never moves"):
        measured(trace(SAMPLES, noise=0.0), START, END)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3, 1.0])
def test_a_coarse_sensor_at_a_constant_load_is_right(noise: float):
    found = measured(trace(replace(SAMPLES, resolution=1.0), constant(300.3, LENGTH), noise=noise), START, END)
    assert found.lo <= 300.3 * found.seconds <= found.hi


@pytest.mark.parametrize("period", [0.1, 0.7, 4.0])
def test_a_load_of_steps_without_noise_is_not_taken_for_a_stall(period: float):
    power = square(200.0, 400.0, period, LENGTH, 0.3)
    found = measured(trace(replace(SAMPLES, resolution=1.0), power, noise=0.0), START, END)
    assert found.lo <= power.between(found.start, found.end) <= found.hi


def test_too_many_missing_samples_are_refused():
    few = changed(trace(SAMPLES), lambda now, old: None if 6.0 < now < 11.0 else old)
    with pytest.raises(Unusable, match=r"says nothing for 4\.96 s of 16 s"):
        measured(few, START, END)


def test_readings_that_lack_a_channel_are_refused():
    one = trace(replace(SAMPLES, channels=("a", "b")))
    one.readings[300] = Reading(values=(300.0,))
    with pytest.raises(Unusable, match="each of 2 channels"):
        measured(one, START, END)


@pytest.mark.parametrize("facts", [COUNTER, SAMPLES])
def test_channels_are_summed_over_one_span(facts: Facts):
    device = Device(facts=replace(facts, channels=("a", "b", "c")), average_s=0.1, noise=1.0)
    powers = [constant(100.0, LENGTH), constant(200.0, LENGTH), square(250.0, 350.0, 0.3, LENGTH, 0.1)]
    held = 0
    chance = rng()
    for _ in range(100):
        found = measured(poll(device, powers, LENGTH, chance), START, END)
        held += found.lo <= sum(power.between(found.start, found.end) for power in powers) <= found.hi
        assert START <= found.start < START + 0.3
        assert END - 0.3 < found.end <= END
    assert held >= 90


def test_the_average_power_and_its_extremes_are_told():
    found = measured(trace(SAMPLES, noise=5.0), START, END)
    assert found.mean == pytest.approx(300.0, abs=2.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 295.0 < 305.0 < found.high


def test_a_late_sensor_is_put_right():
    """A ramp that is read half a second late would be short of its energy."""
    facts = replace(SAMPLES, lag_s=0.5)
    edges = np.linspace(-5.0, LENGTH, 20_001)
    power = Power(edges, 200.0 + 10.0 * (edges[1:] + edges[:-1]) / 2.0)
    found = measured(poll(Device(facts=facts, average_s=1.0, noise=0.5), [power], LENGTH, rng()), START, END)
    assert found.lo <= power.between(found.start, found.end) <= found.hi
    assert found.hi - found.total < 0.5 * 0.5 * 10.0 * found.seconds  # half of what the lag would cost

"""Percent-seconds from whole minutes: intervals hold the truth, cut minutes are left out, what cannot be is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fakes.power_traces import MINUTE, Device, Faults, Floats, minutes
from perwatt.power.base import Facts
from perwatt.power.evaluate import measured
from perwatt.power.measured import Unusable
from perwatt.power.trace import Trace
from support.power_trials import ASKED, FEWER, TRIALS, WIDEST, Replay, Truth, judge

FACTS = Facts(
    sensor="minutes", source="relative", scope="die", quantity="%", kind="buckets", channels=("neuron0",),
    update_s=MINUTE, poll_s=1.0, window_s=180.0, resolution=0.01,
)  # fmt: skip
DEVICE = Device(facts=FACTS)
FEWEST = 60  # samples that the driver asks of a minute; an ideal interval can count on no more


class Load:
    """Percent at moments: a level, a square wave, a slope and noise that is redrawn at each look."""

    def __init__(self, rng: np.random.Generator, setting: dict[str, float]) -> None:
        self.rng, self.setting = rng, setting
        self.level = setting["level"] * rng.uniform(0.99, 1.01)
        self.phase = rng.random()

    def known(self, at: Floats) -> Floats:
        wave = np.where(np.mod(at / self.setting["period"] + self.phase, 1.0) < 0.5, -0.5, 0.5)
        return self.level * (1.0 + self.setting["depth"] * wave + self.setting["slope"] * (at / 300.0 - 0.5))

    def __call__(self, at: Floats) -> Floats:
        return self.known(at) + self.rng.normal(0.0, self.setting["noise"] * self.level, at.size)

    def between(self, start: float, end: float) -> float:
        at = np.linspace(start, end, 20_001)
        return float(self.known((at[1:] + at[:-1]) / 2.0).mean() * (end - start))


KINDS: dict[str, dict[str, tuple[float, float]]] = {
    "constant": {},
    "square wave": {"depth": (0.05, 0.7)},
    "ramp": {"slope": (0.02, 0.3)},
    "noise": {"noise": (0.02, 0.15)},
}


def setting(kind: str, samples: tuple[int, int]):
    """Windows of one to five whole minutes and what is cut off at both ends, at any phase of the wall clock."""

    def draw(rng: np.random.Generator) -> Replay:
        load = {"level": rng.uniform(15.0, 60.0), "period": np.exp(rng.uniform(np.log(0.05), np.log(20.0)))}
        load |= {"depth": 0.0, "slope": 0.0, "noise": rng.uniform(0.002, 0.02)}
        load |= {name: rng.uniform(*bounds) for name, bounds in KINDS[kind].items()}
        window, number = rng.uniform(125.0, 300.0), int(rng.integers(*samples))

        def replay(chance: np.random.Generator) -> tuple[Trace, float, float, Truth]:
            power, start = Load(chance, load), chance.uniform(1.0, 5.0)
            trace = minutes(
                DEVICE, power, start + window + 5.0, 1.7e9 + chance.uniform(0.0, 60.0), number,
                float(chance.choice([0.0, -60.0])), chance,
            )  # fmt: skip
            return trace, start, start + window, power.between

        return replay

    return draw


def judged(kind: str, trials: int, samples: tuple[int, int] = (FEWEST, FEWEST + 1)):
    found = judge(setting(kind, samples), trials, seed=21)
    assert found.refused == 0.0, found.reasons
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_hold_the_true_percent_seconds(kind: str):
    found = judged(kind, TRIALS)
    assert found.coverage >= ASKED
    assert found.ratio <= WIDEST


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_more_samples_than_guaranteed_do_no_harm(kind: str):
    assert judged(kind, TRIALS, (FEWEST, 1200)).coverage >= ASKED


@pytest.mark.parametrize("kind", ["square wave"])
def test_intervals_hold_the_true_percent_seconds_in_few_trials(kind: str):
    assert judged(kind, FEWER).coverage >= 0.9


def trace(begin: float = 20.0, faults: Faults | None = None, stamp: float = 0.0, length: float = 300.0) -> Trace:
    """From ``begin`` seconds into a minute, 30 % all along."""
    rng = np.random.default_rng(5)
    return minutes(
        DEVICE, lambda at: np.full(at.size, 30.0), length, 1.7e9 - 1.7e9 % 60 + begin, 100, stamp, rng, faults
    )


@pytest.mark.parametrize("stamp", [0.0, -60.0, 7.0])
def test_a_cut_minute_is_left_out(stamp: float):
    found = measured(trace(stamp=stamp), 10.0, 290.0)  # the first whole minute begins at 40, the last one ends at 280
    assert found.buckets == 4
    assert (found.start, found.end) == pytest.approx((40.0, 280.0), abs=0.01)
    assert found.lo <= 30.0 * 240.0 <= found.hi


def test_a_minute_that_the_window_cuts_by_a_second_is_left_out():
    assert measured(trace(), 41.0, 290.0).buckets == 3
    assert measured(trace(), 39.0, 290.0).buckets == 4


def test_a_window_without_a_whole_minute_is_refused():
    with pytest.raises(Unusable, match="no whole 60 s"):
        measured(trace(), 41.0, 150.0 - 51.0)


def test_extremes_and_the_sum_over_chips_are_those_of_the_minutes_used():
    one = trace()
    two = replace(FACTS, channels=("neuron0", "neuron1"))
    both = [replace(each, values=each.values * 2, lows=(20.0, 21.0), highs=(41.0, 42.0)) for each in one.readings]
    double = Trace(facts=two, times=one.times, took=one.took, unix=one.unix, readings=both)
    found = measured(double, 10.0, 290.0)
    assert (found.low, found.high) == (41.0, 83.0)
    assert found.total == pytest.approx(2 * 30.0 * 240.0)


@pytest.mark.parametrize("by", [-3.0, 0.8, 90.0])
def test_a_wall_clock_that_is_set_inside_the_window_is_refused(by: float):
    with pytest.raises(Unusable, match="wall clock was set by"):
        measured(trace(faults=Faults(step=(150.0, by))), 10.0, 290.0)


def test_a_wall_clock_that_is_set_after_the_window_does_no_harm():
    found = measured(trace(faults=Faults(step=(250.0, 5.0))), 10.0, 230.0)
    assert found.buckets == 3


def test_stamps_that_do_not_step_by_minutes_are_refused():
    odd = trace()
    last = odd.readings[-1].stamp
    odd.readings = [replace(one, stamp=last + 13.0) if one.stamp == last else one for one in odd.readings]
    with pytest.raises(Unusable, match="do not step by 60 s"):
        measured(odd, 10.0, 290.0)


def test_a_missing_minute_splits_the_stretch():
    odd = trace(length=420.0)
    gone = sorted({one.stamp for one in odd.readings})[3]
    keep = [place for place, one in enumerate(odd.readings) if one.stamp != gone]
    for name in ("times", "took", "unix", "readings"):
        setattr(odd, name, [getattr(odd, name)[place] for place in keep])
    found = measured(odd, 10.0, 410.0)
    assert found.buckets == 4  # 100 to 160 is missing
    assert (found.start, found.end) == pytest.approx((160.0, 400.0), abs=0.01)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"values": (float("nan"),)}, "reads nan"),
        ({"values": (101.0,), "highs": (101.0,)}, "at most 100"),
        ({"values": (0.0,), "lows": (0.0,)}, "reads 0 % under load"),
        ({"values": (30.0,), "lows": (31.0,), "highs": (40.0,)}, "not between"),
        ({"highs": ()}, "each of 1 channels"),
        ({"stamp": None}, "without a stamp"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, object], message: str):
    odd = trace()
    odd.readings = [replace(one, **changed) for one in odd.readings]
    with pytest.raises(Unusable, match=message):
        measured(odd, 10.0, 290.0)

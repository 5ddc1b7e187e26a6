"""The offset of a meter's clock: found, with an interval that holds it, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from fakes import meter
from perwatt.errors import InputError
from perwatt.power.alignment import Load, find

TRIALS = 400  # 1,000 hold, too, in three minutes
HELD = 0.935
MOST_REFUSED = 0.1


@pytest.mark.parametrize(
    ("loads", "step", "averaged", "noise", "other"),
    [
        (1, 1.0, 0.0, 20.0, {}),  # values of a moment
        (1, 1.0, 1.0, 5.0, {}),  # averages
        (1, 1.0, 1.0, 20.0, {"ar": 0.6}),
        (1, 0.1, 1.0, 5.0, {}),  # of longer than their step
        (2, 1.0, 1.0, 10.0, {"ramp": 5.0}),
        (2, 10.0, 10.0, 5.0, {"quiet": 12.0, "length": 120.0}),
    ],
)
@pytest.mark.slow
def test_the_interval_holds_the_offset(loads: int, step: float, averaged: float, noise: float, other: dict[str, float]):
    rng = np.random.default_rng(5)
    held = refused = 0
    for _ in range(TRIALS):
        shape = {name: other[name] for name in ("quiet", "length", "ramp") if name in other}
        scene = meter.scene(rng.uniform(250, 400, loads), rng, **shape)
        times, watts = scene.seen(step, averaged, noise, rng, ar=other.get("ar", 0.0))
        truth = rng.uniform(-100, 100)
        try:
            found = find(times + truth, watts, scene.loads)
        except InputError:
            refused += 1
            continue
        held += abs(found.seconds - truth) <= found.u95
    assert refused <= MOST_REFUSED * TRIALS
    assert held >= HELD * (TRIALS - refused)


def test_it_is_known_to_less_than_a_line():
    rng = np.random.default_rng(1)
    scene = meter.scene([300.0, 250.0, 380.0], rng)
    times, watts = scene.seen(1.0, 0.0, 2.0, rng)
    found = find(times - 17.3, watts, scene.loads)
    assert found.seconds == pytest.approx(-17.3, abs=found.u95)
    assert found.u95 <= 0.6
    assert found.correlation > 0.95
    assert found.rival < 0.9


@pytest.mark.parametrize("step", [1.0, 5.0, 10.0])
def test_noise_is_refused(step: float):
    rng = np.random.default_rng(2)
    loads = [Load(start=300.0, end=360.0, before=8.0, after=8.0)]
    refused = 0
    for _ in range(200):
        times = np.arange(0.0, 700.0, step)
        with pytest.raises(
            InputError, match=r"no offset .* explains the trace clearly: .*; state it \(--meter-offset\)"
        ):
            find(times, 300 + rng.normal(0, 10, len(times)), loads)
        refused += 1
    assert refused == 200


def test_a_flat_trace_is_refused():
    times = np.arange(0.0, 700.0)
    with pytest.raises(InputError, match="no offset"):
        find(times, np.full(len(times), 250.0), [Load(start=300.0, end=360.0, before=8.0, after=8.0)])


def test_two_places_that_fit_equally_well_are_refused():
    times = np.arange(0.0, 700.0)
    watts = np.where(((times >= 300) & (times < 340)) | ((times >= 380) & (times < 420)), 300.0, 100.0)
    watts += np.random.default_rng(1).normal(0, 1, len(times))
    with pytest.raises(InputError, match=r"the best is .* with a correlation of 1.00.*, and .* s has 1.00"):
        find(times, watts, [Load(start=300.0, end=340.0, before=8.0, after=8.0)])


def test_an_offset_that_is_out_of_reach_is_refused():
    rng = np.random.default_rng(3)
    scene = meter.scene([300.0], rng)
    times, watts = scene.seen(1.0, 1.0, 5.0, rng)
    with pytest.raises(InputError, match="no offset"):
        find(times + 400.0, watts, scene.loads)


def test_a_fast_trace_takes_no_longer():
    rng = np.random.default_rng(4)
    scene = meter.scene([300.0, 250.0], rng)
    at = np.arange(0.0, scene.edges[-1] - 1, 0.001)
    watts = scene.watts[np.searchsorted(scene.edges, at, side="right") - 1] + rng.normal(0, 20, len(at))
    found = find(at + 5.25, watts, scene.loads)
    assert found.seconds == pytest.approx(5.25, abs=found.u95)
    assert found.u95 < 0.1

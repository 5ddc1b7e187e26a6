"""Settings for trials of energy: sensors of many periods, steps and averages, on loads of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fakes.power_traces import Device, Faults, Power, constant, noisy, poll, ramp, square
from perwatt.power.base import Facts
from perwatt.power.trace import Trace
from support.power_trials import Replay, Setting, Truth

BEFORE = 3.0  # seconds of a trace before and after the window
RESONANT = (1.0, 0.5, 2.0, 1.01, 0.995, 1 / 3)  # periods of a load, in updates of the sensor

Draw = Callable[[np.random.Generator, np.random.Generator], Power]


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a load has to know of its trial."""

    device: Device
    length: float
    watts: float


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def counter(rng: np.random.Generator, watts: float, **changed: object) -> Device:
    """As RAPL's and NVML's: updates from 1 ms to 1 s, read faster than that or slower."""
    update = log_uniform(rng, 1e-3, 1.0)
    facts = Facts(
        sensor="fake", source="counter", scope="die", quantity="J", kind="counter", channels=("chip",),
        update_s=update, poll_s=max(5e-3, update * rng.uniform(0.1, 1.5)), window_s=5.0,
        resolution=log_uniform(rng, 1e-5, 0.5) * watts * update, **changed,
    )  # fmt: skip
    return Device(facts=facts, jitter=rng.uniform(0.0, 0.02), poll_jitter=rng.uniform(0.02, 0.5),
                  took_s=log_uniform(rng, 2e-5, 2e-3))  # fmt: skip


def sampled(rng: np.random.Generator, watts: float, share: float) -> Device:
    """Updates from 20 ms to 1 s, each averaged over ``share`` of the time between two; noise of 0.1 to 3 %."""
    update = log_uniform(rng, 0.02, 1.0 / max(1.0, share))
    average = update * share
    facts = Facts(
        sensor="fake", source="sampled", scope="gpu_board", quantity="W", kind="samples", channels=("chip",),
        update_s=update, poll_s=max(5e-3, update * rng.uniform(0.1, 0.6)), window_s=5.0,
        resolution=float(rng.choice([1e-3, 0.1, 1.0])), lag_s=average / 2.0,
    )  # fmt: skip
    return Device(facts=facts, average_s=average, noise=watts * log_uniform(rng, 1e-3, 0.03),
                  jitter=rng.uniform(0.0, 0.02), poll_jitter=rng.uniform(0.02, 0.5),
                  took_s=log_uniform(rng, 2e-5, 2e-3))  # fmt: skip


SENSORS: dict[str, Callable[[np.random.Generator, float], Device]] = {
    "counter": counter,
    "samples of all the time": lambda rng, watts: sampled(rng, watts, 1.0),
    "samples of a longer average": lambda rng, watts: sampled(rng, watts, 10.0),
    "samples of a quarter of the time": lambda rng, watts: sampled(rng, watts, 0.25),
}


def level(around: Around, rng: np.random.Generator) -> Draw:
    return lambda replay, _: constant(around.watts * replay.uniform(0.99, 1.01), around.length)


def wave(around: Around, rng: np.random.Generator) -> Draw:
    """Periods from 10 ms to a third of the window, two in five in resonance with the sensor.

    A sensor that looks a quarter of the time sees the same part of every period at resonance, and nobody could tell
    from its trace. For it periods wander, as those of a load do that leaves its batches' beginnings to chance.
    """
    facts = around.device.facts
    partly = 0.0 < 2.0 * facts.lag_s < 0.9 * facts.update_s
    period = log_uniform(rng, 0.01, (around.length - 2 * BEFORE) / 3.0)
    if rng.random() < 0.4 and not partly:
        period = max(2e-3, facts.update_s * float(rng.choice(RESONANT)))
    depth = rng.uniform(0.05, 0.7)
    wander = 0.3 if partly else 0.0

    def draw(replay: np.random.Generator, _: np.random.Generator) -> Power:
        high = around.watts * replay.uniform(0.99, 1.01)
        uneven = 1.0 + wander * replay.uniform(-1.0, 1.0, int(2 * around.length / period) + 4) if wander else None
        return square(high * (1.0 - depth), high, period, around.length, replay.random(), uneven)

    return draw


def slope(around: Around, rng: np.random.Generator) -> Draw:
    change = rng.uniform(-0.3, 0.4)

    def draw(replay: np.random.Generator, _: np.random.Generator) -> Power:
        first = around.watts * replay.uniform(0.99, 1.01)
        begin = BEFORE * replay.random()
        return ramp(first, first * (1.0 + change), begin, around.length - begin, around.length)

    return draw


def noise(around: Around, rng: np.random.Generator) -> Draw:
    """Noise of the power itself, whose mean over an update varies by no more than the sensor's own noise.

    Nobody could tell the one from the other by a trace, so an interval allows for both; an ideal one knows that a
    sensor's averages hold the power's own noise in full.
    """
    memory = log_uniform(rng, 2e-3, 0.1)
    seen = max(around.device.average_s, memory)
    most = around.device.noise * (seen / memory) ** 0.5 if around.device.noise else 0.1 * around.watts
    sigma = min(most, 0.1 * around.watts) * rng.uniform(0.1, 1.0)
    return lambda replay, _: noisy(around.watts * replay.uniform(0.99, 1.01), sigma, memory, around.length, replay)


LOADS: dict[str, Callable[[Around, np.random.Generator], Draw]] = {
    "constant": level, "square wave": wave, "ramp": slope, "noise": noise,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How settings are drawn.

    Attributes:
        sensor: of :data:`SENSORS`.
        load: of :data:`LOADS`; any of them where empty.
        faults: drawn for each replay, from a source of chance, the window's beginning and its length.
        facts: what the sensor says of itself beyond the usual.
    """

    sensor: Callable[[np.random.Generator, float], Device]
    load: str = ""
    faults: Callable[[np.random.Generator, float, float, Device], Faults] | None = None


def setting(kind: Kind) -> Setting:
    """Windows of 5 to 60 s, loads of 50 to 700 W."""

    def draw(rng: np.random.Generator) -> Replay:
        watts, window = log_uniform(rng, 50.0, 700.0), log_uniform(rng, 5.0, 60.0)
        device = kind.sensor(rng, watts)
        window = max(window, 20.0 * device.facts.update_s, 20.0 * device.average_s)
        length = window + 2.0 * BEFORE
        load = LOADS[kind.load or str(rng.choice(list(LOADS)))]
        power = load(Around(device=device, length=length, watts=watts), rng)

        def replay(chance: np.random.Generator) -> tuple[Trace, float, float, Truth]:
            used = power(chance, rng)
            start = BEFORE * chance.uniform(0.9, 1.0)
            faults = kind.faults(chance, start, window, device) if kind.faults else None
            trace = poll(device, [used], length, chance, faults, first=chance.uniform(1e3, 1e6))
            return trace, start, start + window, used.between

        return replay

    return draw

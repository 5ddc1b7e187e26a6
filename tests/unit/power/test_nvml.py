"""Energy and power of NVIDIA cards, through the real bindings, a fake library, and the watch that reads sensors."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from math import isclose
from typing import Any

import pynvml
import pytest

from fakes import nvml as fake
from fakes.hurried import Hurried, watched
from fakes.nvml import GIB, H100, Card, Instance, NvmlLibrary
from fakes.nvml_power import EPOCH, PowerMeter
from perwatt.power.base import Lost, Sensor, Target
from perwatt.power.sensors import nvml
from perwatt.power.trace import Trace

Install = Callable[..., NvmlLibrary]
SENSORS = {sensor.name: sensor for sensor in nvml.SENSOR}
COUNTER, INSTANT, AVERAGE = SENSORS["nvml"], SENSORS["nvml-instant"], SENSORS["nvml-average"]
A100, V100, P100 = (8, 0), (7, 0), (6, 0)
EVERY = pytest.mark.parametrize("sensor", nvml.SENSOR, ids=lambda sensor: sensor.name)


@pytest.fixture
def install() -> Iterator[Install]:
    with fake.installing() as put:
        yield put


@pytest.fixture
def clock() -> Hurried:
    return Hurried(end=12.0)


def card(
    clock: Hurried, uuid: str = "GPU-a", name: str = H100, capability: tuple[int, int] = (9, 0), **of: Any
) -> Card:
    return Card(uuid=uuid, name=name, capability=capability, meter=PowerMeter(clock=clock.monotonic, **of))


def target(*chips: str, **of: Any) -> Target:
    return Target(backend="cuda", chip=H100, chips=chips or ("GPU-a",), **of)


def trace_of(sensor: Sensor, clock: Hurried, *chips: str) -> Trace:
    probe = sensor.open(target(*chips))
    try:
        return watched(probe, clock)
    finally:
        probe.close()


def test_one_of_them_is_chosen_before_the_others() -> None:
    assert sorted(SENSORS, key=lambda name: -SENSORS[name].priority) == ["nvml", "nvml-instant", "nvml-average"]


@EVERY
def test_chips_of_cuda_and_of_nothing_else(sensor: Sensor) -> None:
    assert sensor.use(target()) == "chips"
    assert sensor.use(Target(backend="cpu", chip="any")) == "never"


@EVERY
def test_what_is_said_of_one_card(sensor: Sensor, install: Install, clock: Hurried) -> None:
    install(card(clock))
    assert sensor.detect(target()).state == "readable"
    assert "GPU 0" in sensor.detect(target()).detail
    facts = sensor.open(target()).facts
    assert (facts.sensor, facts.scope, facts.dies, facts.wrap) == (sensor.name, "gpu_board", 1, (None,))
    assert (facts.rel_sys, facts.resolution) == (0.05, 0.001)
    assert facts.window_s == pytest.approx(100 * facts.update_s)
    assert facts.poll_s <= facts.update_s / 10
    assert "quarter of the time" in facts.note
    assert "GPU-" not in repr(facts)  # a hash names the card


def test_kinds_quantities_and_delays(install: Install, clock: Hurried) -> None:
    install(card(clock))
    facts = [sensor.open(target()).facts for sensor in (COUNTER, INSTANT, AVERAGE)]
    assert [(one.source, one.kind, one.quantity) for one in facts] == [
        ("counter", "counter", "J"), ("sampled", "samples", "W"), ("sampled", "samples", "W"),
    ]  # fmt: skip
    assert [one.lag_s for one in facts] == [0.0, 0.0, 0.5]


@pytest.mark.parametrize("seed", range(5))
def test_the_counter_moves_at_its_edges_by_the_true_energy(install: Install, clock: Hurried, seed: int) -> None:
    chance = random.Random(seed)
    low, high, half_s = chance.uniform(60, 150), chance.uniform(300, 700), chance.uniform(0.05, 2)
    given = card(
        clock, watts=lambda at: high if (at // half_s) % 2 else low, period_s=chance.uniform(0.02, 0.12),
        phase_s=chance.uniform(0, 0.02), first_mj=chance.randrange(10**12),
    )  # fmt: skip
    install(given)
    trace = trace_of(COUNTER, clock)
    joules = [reading.values[0] for reading in trace.readings]
    edges = [at for at in range(1, len(joules)) if joules[at] != joules[at - 1]]
    assert trace.lost == ""
    assert len(trace.times) > 1000
    assert given.meter is not None
    period_s = (trace.times[edges[-1]] - trace.times[edges[0]]) / (len(edges) - 1)
    assert isclose(period_s, given.meter.period_s, rel_tol=0.02)
    first, last = trace.times[edges[0]], trace.times[edges[-1]]
    truth = given.meter.joules(last) - given.meter.joules(first)
    assert isclose(joules[edges[-1]] - joules[edges[0]], truth, abs_tol=2 * 700 * trace.facts.poll_s)


@pytest.mark.parametrize("kind", ["DOUBLE", "UNSIGNED_INT", "UNSIGNED_LONG_LONG"])
def test_power_of_the_moment_with_its_stamp(install: Install, clock: Hurried, kind: str) -> None:
    number = getattr(pynvml, f"NVML_VALUE_TYPE_{kind}")
    install(card(clock, watts=lambda at: 100.0 + 50 * at, value_type=number))
    trace = trace_of(INSTANT, clock)
    for at, reading in zip(trace.times, trace.readings, strict=True):
        assert reading.stamp is not None
        shown = reading.stamp - EPOCH
        assert at - 0.1001 <= shown <= at + 1e-6
        assert reading.values[0] == pytest.approx(100 + 50 * shown, abs=0.001)


def test_averaged_power_is_late_by_what_it_says(install: Install, clock: Hurried) -> None:
    install(card(clock, watts=lambda at: 100.0 + 50 * at))
    trace = trace_of(AVERAGE, clock)
    late = [
        (at - trace.facts.lag_s, one.values[0]) for at, one in zip(trace.times, trace.readings, strict=True) if at > 2
    ]
    assert late
    assert all(watts == pytest.approx(100 + 50 * at, abs=50 * 0.1 + 0.1) for at, watts in late)


@pytest.mark.parametrize(
    ("capability", "fields", "lag_s", "words"),
    [
        ((9, 0), True, 0.5, ""), ((9, 0), False, 0.5, ""), ((8, 6), False, 0.5, ""),
        (A100, True, 0.0, "not an average"), (A100, False, 0.0, "not an average"), (V100, True, 0.0, "not an average"),
    ],
)  # fmt: skip
def test_what_average_means_on_a_generation(
    install: Install, clock: Hurried, capability: tuple[int, int], fields: bool, lag_s: float, words: str
) -> None:
    install(card(clock, watts=lambda at: 100.0 + 50 * at, capability=capability, fields=fields))
    trace = trace_of(AVERAGE, clock)
    assert trace.facts.lag_s == lag_s
    assert words in trace.facts.note
    assert ("not an average" in trace.facts.note) == bool(words)
    assert trace.readings[-1].values[0] == pytest.approx(100 + 50 * (12 - lag_s), abs=6)


def test_cards_are_read_together_in_the_order_that_was_asked(install: Install, clock: Hurried) -> None:
    install(*(card(clock, f"GPU-{n}", watts=lambda at, n=n: 100.0 * (n + 1)) for n in range(4)))
    trace = trace_of(INSTANT, clock, "GPU-2", "GPU-0")
    assert {reading.values for reading in trace.readings} == {(300.0, 100.0)}
    assert len(set(trace.facts.channels)) == 2
    assert len(trace.facts.wrap) == 2
    assert COUNTER.detect(target("GPU-2", "GPU-0")).detail == "energy counter of GPU 2, GPU 0"


@pytest.mark.parametrize("name", ["NVIDIA GH200 480GB", "NVIDIA GH200 144G HBM3e", "NVIDIA GB200", "NVIDIA GB300"])
def test_a_module_is_counted_with_its_grace_and_its_power_is_not(install: Install, clock: Hurried, name: str) -> None:
    install(card(clock, name=name, module_extra_w=150.0))
    counter, instant = COUNTER.open(target()), INSTANT.open(target())
    assert (counter.facts.scope, instant.facts.scope) == ("module", "gpu_board")
    assert ("not documented" in counter.facts.note) == ("NVIDIA GB" in name)
    before = counter.read()
    clock.sleep(10)
    after, watts = counter.read(), instant.read()
    assert before is not None
    assert after is not None
    assert watts is not None
    assert after.values[0] - before.values[0] == pytest.approx(4500)
    assert watts.values == (300.0,)


def test_what_two_gpus_may_share_is_not_added_up(install: Install, clock: Hurried) -> None:
    install(*(card(clock, f"GPU-{n}", name="NVIDIA GB200", module_extra_w=150.0) for n in range(2)))
    both = target("GPU-0", "GPU-1")
    assert COUNTER.detect(both).state == "absent"
    assert "nvml-instant leaves it out" in COUNTER.detect(both).detail
    with pytest.raises(Lost, match="several NVIDIA GB200"):
        COUNTER.open(both)
    assert INSTANT.detect(both).state == "readable"


@EVERY
def test_cards_without_power_have_no_sensor(sensor: Sensor, install: Install) -> None:
    install(Card(uuid="GPU-a"))
    found = sensor.detect(target())
    assert (found.state, "Not Supported" in found.detail) == ("absent", True)
    with pytest.raises(Lost, match="does not tell"):
        sensor.open(target())


def test_cards_before_volta_have_no_counter(install: Install, clock: Hurried) -> None:
    install(card(clock, name="Tesla P100-SXM2-16GB", capability=P100))
    assert COUNTER.detect(target()).state == "absent"
    assert INSTANT.detect(target()).state == "readable"
    assert AVERAGE.open(target()).facts.lag_s == 0.0


def test_old_drivers_have_no_power_of_the_moment(install: Install, clock: Hurried) -> None:
    install(card(clock, fields=False))
    assert INSTANT.detect(target()).state == "absent"


@EVERY
def test_parts_of_a_card_have_no_power_of_their_own(sensor: Sensor, install: Install, clock: Hurried) -> None:
    given = card(clock)
    given.mig = [Instance("MIG-0", "3g.40gb", 40 * GIB)]
    install(given)
    why = "GPU 0 is shared: MIG-0 is a part of it"
    assert sensor.detect(target(partial=why)).detail == why
    with pytest.raises(Lost, match="is shared"):
        sensor.open(target(partial=why))
    assert sensor.detect(target("MIG-0")).state == "absent"


@EVERY
def test_cards_that_are_not_there(sensor: Sensor, install: Install, clock: Hurried) -> None:
    gone = card(clock, "GPU-b")
    gone.lost = True
    install(card(clock), gone)
    assert sensor.detect(target("GPU-a", "GPU-b", "GPU-c")).detail.startswith("2 of 3 cards are not there")
    assert sensor.detect(Target(backend="cpu", chip="any")).detail == "no GPU is measured"
    install(failing=pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    found = sensor.detect(target())
    assert (found.state, "not loaded" in found.detail) == ("absent", True)


@EVERY
def test_a_user_without_permission(sensor: Sensor, install: Install, clock: Hurried) -> None:
    install(card(clock, denied_at=0.0))
    found = sensor.detect(target())
    assert (found.state, "/dev/nvidia" in found.detail) == ("denied", True)


@EVERY
@pytest.mark.parametrize(("fault", "words"), [("lost_at", "fell off the bus"), ("denied_at", "may not be opened")])
def test_what_goes_midway_ends_the_trace(
    sensor: Sensor, install: Install, clock: Hurried, fault: str, words: str
) -> None:
    install(card(clock), card(clock, "GPU-b", **{fault: 5.0}))
    trace = trace_of(sensor, clock, "GPU-a", "GPU-b")
    assert trace.lost.startswith(f"{sensor.name}: GPU 1: ")
    assert words in trace.lost
    assert 4.9 < trace.times[-1] < 5.0


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_UNKNOWN, pynvml.NVML_ERROR_NO_DATA, pynvml.NVML_ERROR_NOT_READY])
@pytest.mark.parametrize("sensor", [INSTANT, AVERAGE], ids=lambda sensor: sensor.name)
def test_a_field_that_fails_is_no_value(sensor: Sensor, install: Install, clock: Hurried, code: int) -> None:
    given = card(clock)
    install(given)
    probe = sensor.open(target())
    assert given.meter is not None
    given.meter.field_fault = code
    with pytest.raises(Lost, match=f"{sensor.name}: GPU 0: NVML does not answer"):
        probe.read()


def test_a_field_of_an_unknown_type_is_no_value(install: Install, clock: Hurried) -> None:
    given = card(clock)
    install(given)
    probe = INSTANT.open(target())
    assert given.meter is not None
    given.meter.value_type = 42
    with pytest.raises(Lost, match="field 186 the unknown type 42"):
        probe.read()


def test_what_the_evaluation_has_to_judge_is_passed_on(install: Install, clock: Hurried) -> None:
    """A driver that is loaded anew, a counter that stands, a reading of zero: all answers of a working library."""
    install(card(clock, reloaded_at=6.0, first_mj=10**9))
    joules = [reading.values[0] for reading in trace_of(COUNTER, clock).readings]
    assert joules[0] == 10**6
    assert joules[-1] == pytest.approx(300 * 6, abs=1)

    for fault, expected in (("stuck_at", 300 * 5.0), ("zero_at", 0.0)):
        other = Hurried(end=12.0)
        install(card(other, **{fault: 5.0}))
        trace = trace_of(COUNTER, other)
        late = [one.values[0] for at, one in zip(trace.times, trace.readings, strict=True) if at > 5.01]
        assert trace.lost == ""
        assert late == pytest.approx([expected] * len(late))


def test_a_trace_keeps_what_the_sensor_said(install: Install, clock: Hurried) -> None:
    install(card(clock))
    trace = trace_of(INSTANT, clock)
    again = Trace.from_message(trace.message())
    assert again.facts == trace.facts
    assert again.readings == trace.readings

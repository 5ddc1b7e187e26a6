"""Power percentages of Neuron chips, read as in a run: by a watch, from a driver that works in simulated time."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.neuron_driver import TRN1, TRN2, TRN3, DriverClock, Model, NeuronDriver
from perwatt import plugins
from perwatt.power.base import Lost, Probe, Reading, Sensor, Target
from perwatt.power.sensors.neuron import MOST_EMPTY, MOST_TORN
from perwatt.power.trace import Trace
from perwatt.power.watch import Watch

SENSORS: dict[str, Sensor] = plugins.find("perwatt.power.sensors", "SENSOR", "perwatt.sensors")
MINUTES, LIVE = SENSORS["neuron-minutes"], SENSORS["neuron-live"]
START = 1_760_000_010.0  # 30 s into a wall-clock minute

Load = Callable[[int, int, float], float]


def steady(chip: int, die: int, now: float) -> float:
    return 40.0 + 10 * chip + 5 * die


def target(root: Path, *chips: str, backend: str = "neuron") -> Target:
    return Target(backend=backend, chip="trainium2", chips=chips or ("0",), root=root)


class Heard(Probe):
    """A probe that says when it has given up."""

    def __init__(self, probe: Probe, ended: threading.Event) -> None:
        self.facts, self._probe, self._ended = probe.facts, probe, ended

    def read(self) -> Reading | None:
        try:
            return self._probe.read()
        except BaseException:
            self._ended.set()
            raise


def watched(sensor: Sensor, driver: NeuronDriver, seconds: float, *chips: str,
            plans: list[tuple[float, Callable[[], None]]] | None = None) -> Trace:  # fmt: skip
    ended = threading.Event()
    clock = DriverClock(driver, seconds, ended.set)
    for when, action in plans or []:
        clock.at(when, action)
    watch = Watch([Heard(sensor.open(target(driver.root, *chips)), ended)], clock)
    watch.start()
    assert ended.wait(120)
    [trace] = watch.stop()
    return trace


@pytest.mark.parametrize("version", ["2.24.7.0", "2.30.2.0", "2.31.7.0"])
@pytest.mark.parametrize(("model", "largest"), [(TRN1, 40.0), (TRN2, 45.0), (TRN3, 45.0)], ids=["trn1", "trn2", "trn3"])
def test_minutes_are_the_larger_die_over_whole_minutes(tmp_path: Path, version: str, model: Model, largest: float):
    driver = NeuronDriver(tmp_path, steady, model=model, version=version, start=START, seed=int(version[2:4]))
    trace = watched(MINUTES, driver, 200)
    assert trace.lost == ""
    facts = trace.facts
    assert (facts.kind, facts.quantity, facts.source, facts.scope) == ("buckets", "%", "none", "package")
    assert (facts.channels, facts.dies, facts.update_s, facts.window_s) == (("neuron0",), model.dies, 60, 120)
    assert {one.values for one in trace.readings} == {(largest,)}
    assert {(one.lows, one.highs) for one in trace.readings} == {((largest,), (largest,))}
    stamps = sorted({one.stamp for one in trace.readings if one.stamp is not None})
    assert [stamp % 60 for stamp in stamps] == [0.0] * 3
    assert [int(stamp // 60 - START // 60) for stamp in stamps] == [1, 2, 3]
    assert Trace.from_message(trace.message()).readings == trace.readings


def test_a_minute_tells_minimum_maximum_and_average_of_a_wave(tmp_path: Path):
    driver = NeuronDriver(tmp_path, lambda chip, die, now: 60.0 if now % 20 < 5 else 20.0, start=START)
    [first, *_, last] = watched(MINUTES, driver, 200).readings
    assert (last.lows, last.highs) == ((20.0,), (60.0,))
    assert last.values[0] == pytest.approx(30.0, abs=0.5)
    assert first.stamp is not None
    assert last.stamp is not None
    assert last.stamp > first.stamp


def test_dies_that_differ_in_turn_add_up_to_more_than_either(tmp_path: Path):
    def seesaw(chip: int, die: int, now: float) -> float:
        return 80.0 if int(now // 10) % 2 == die else 0.0

    driver = NeuronDriver(tmp_path, seesaw, start=START)
    minute = watched(MINUTES, driver, 150).readings[-1].values[0]
    live = [sum(one.values) for one in watched(LIVE, driver, 60).readings]
    assert minute == pytest.approx(80.0, abs=1)  # twice what the chip has: the interval [pct/2, pct] is needed
    assert sum(live) / len(live) == pytest.approx(40.0, abs=1)


def test_sixteen_chips_in_the_order_of_the_target(tmp_path: Path):
    driver = NeuronDriver(tmp_path, lambda chip, die, now: chip + die / 2, chips=16, start=START)
    trace = watched(MINUTES, driver, 45, "3", "0", "15")
    assert trace.facts.channels == ("neuron3", "neuron0", "neuron15")
    assert trace.readings[-1].values == (3.5, 0.5, 15.5)


def test_live_gives_what_every_die_adds_to_its_chip(tmp_path: Path):
    for seed in range(4):
        driver = NeuronDriver(tmp_path / str(seed), steady, chips=2, start=START, seed=seed)
        trace = watched(LIVE, driver, 12, "0", "1")
        facts = trace.facts
        assert (facts.kind, facts.quantity, facts.source, facts.scope) == ("samples", "%", "none", "package")
        assert facts.channels == ("neuron0/die0", "neuron0/die1", "neuron1/die0", "neuron1/die1")
        assert facts.dies == 1
        assert {one.values for one in trace.readings} == {(20.0, 22.5, 25.0, 27.5)}
        assert len(trace.readings) > 90
        assert driver.live(0).read_text().splitlines()[0] in trace.readings[-1].raw


def test_live_of_one_die_is_the_chips(tmp_path: Path):
    driver = NeuronDriver(tmp_path, steady, model=TRN1, start=START)
    trace = watched(LIVE, driver, 5)
    assert (trace.facts.channels, trace.readings[-1].values) == (("neuron0/die0",), (40.0,))
    assert trace.facts.resolution == 0.01


def test_live_goes_before_minutes_and_both_only_for_neuron(tmp_path: Path):
    assert LIVE.priority > MINUTES.priority
    for sensor in (LIVE, MINUTES):
        assert sensor.use(target(tmp_path)) == "chips"
        assert sensor.use(target(tmp_path, backend="neuron_xla")) == "chips"
        assert sensor.use(target(tmp_path, backend="cuda")) == "never"


def test_a_minute_without_data_is_a_gap_and_not_the_end(tmp_path: Path):
    driver = NeuronDriver(tmp_path, steady, start=START, refresh_s=0.5)
    trace = watched(MINUTES, driver, 80)
    assert trace.lost == ""
    assert trace.times[0] > 29  # the minute in which the driver was loaded has half of its samples: just 60
    slow = NeuronDriver(tmp_path / "slow", steady, start=START, refresh_s=0.6)
    trace = watched(MINUTES, slow, 100)
    assert trace.lost == ""
    assert trace.times[0] > 89  # this one's first minute has too few


@pytest.mark.parametrize("fault", [{"api": 2}, {"refresh_s": 1.2}], ids=["old firmware", "slow firmware"])
def test_data_that_never_come_are_given_up(tmp_path: Path, fault: dict[str, float]):
    driver = NeuronDriver(tmp_path, steady, start=START, **fault)  # type: ignore[arg-type]
    found = MINUTES.detect(target(tmp_path))
    assert found.state == "readable"
    assert "no data now" in found.detail
    trace = watched(MINUTES, driver, MOST_EMPTY + 60)
    assert trace.readings == []
    assert "neuron-minutes: no data of neuron0 over two minutes" in trace.lost


def test_a_chip_that_is_between_two_minutes_is_a_gap(tmp_path: Path):
    driver = NeuronDriver(tmp_path, steady, chips=2, start=START)
    driver.advance(95)
    probe = MINUTES.open(target(tmp_path, "0", "1"))
    assert probe.read() is not None
    stamp = int(driver.minutes(1).read_text().split(",")[1])
    driver.breaks(driver.minutes(1), f"POWER_STATUS_VALID,{stamp + 1},55.00,55.00,55.00")
    near = probe.read()
    assert near is not None
    assert near.stamp == stamp + 1  # whole seconds: the same minute
    driver.breaks(driver.minutes(1), f"POWER_STATUS_VALID,{stamp + 60},55.00,55.00,55.00")
    for _ in range(MOST_TORN - 1):
        assert probe.read() is None
    with pytest.raises(Lost, match="end 60 s apart"):
        probe.read()


def test_a_gap_that_ends_is_forgotten(tmp_path: Path):
    driver = NeuronDriver(tmp_path, steady, chips=2, start=START)
    driver.advance(95)
    probe = MINUTES.open(target(tmp_path, "0", "1"))
    good = driver.minutes(1).read_text().strip()
    for _ in range(3):
        driver.breaks(driver.minutes(1), good.replace(good.split(",")[1], "1760000000"))
        assert [probe.read() for _ in range(MOST_TORN - 1)] == [None] * (MOST_TORN - 1)
        driver.breaks(driver.minutes(1), good)
        assert probe.read() is not None


def test_a_clock_that_is_set_shows_in_the_stamps(tmp_path: Path):
    driver = NeuronDriver(tmp_path, steady, start=START)
    trace = watched(MINUTES, driver, 260, plans=[(100.0, lambda: driver.step_clock(-3600))])
    stamps = [one.stamp for one in trace.readings if one.stamp is not None]
    assert trace.lost == ""
    assert min(later - earlier for earlier, later in itertools.pairwise(stamps)) < -3500


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("POWER_STATUS_INVALID,1760000040,0.00,0.00,0.00", "POWER_STATUS_INVALID"),
        ("POWER_STATUS_FINE,1760000040,1.00,2.00,1.50", "unknown status POWER_STATUS_FINE"),
        ("POWER_STATUS_VALID,17600", "expected status,epoch,min,max,avg"),
        ("\x7fELF", "expected status,epoch,min,max,avg"),
        (None, "No such file"),
    ],
)
def test_minutes_that_break_in_the_middle_end_the_trace(tmp_path: Path, text: str | None, why: str):
    driver = NeuronDriver(tmp_path, steady, start=START)
    trace = watched(MINUTES, driver, 200, plans=[(70.0, lambda: driver.breaks(driver.minutes(0), text))])
    assert why in trace.lost
    assert trace.lost.startswith("neuron-minutes: neuron0: ")
    assert trace.readings
    assert max(trace.times) <= 70.1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0,bogus(12345)\n1,12.00", "bogus"),
        ("0,ok,12.00\n1,ok,13.00", "expected a line for each"),
        (None, "No such file"),
    ],
)
def test_live_values_that_break_in_the_middle_end_the_trace(tmp_path: Path, text: str | None, why: str):
    driver = NeuronDriver(tmp_path, steady, start=START)
    trace = watched(LIVE, driver, 20, plans=[(7.0, lambda: driver.breaks(driver.live(0), text))])
    assert why in trace.lost
    assert trace.lost.startswith("neuron-live: neuron0: ")
    assert trace.readings


def test_firmware_that_is_out_of_range_is_not_believed(tmp_path: Path):
    driver = NeuronDriver(tmp_path, lambda chip, die, now: 130.0 if now > START + 5 else 40.0, start=START)
    assert "bogus" in watched(LIVE, driver, 20).lost


def test_a_die_that_becomes_unavailable_is_a_gap(tmp_path: Path):
    driver = NeuronDriver(tmp_path, steady, start=START)
    driver.breaks(driver.live(0), "0,unavailable\n1,unavailable")
    trace = watched(LIVE, driver, 5)
    assert (trace.lost, trace.readings) == ("", [])
    assert "unavailable now" in LIVE.detect(target(tmp_path)).detail


@pytest.mark.parametrize("sensor", [MINUTES, LIVE], ids=lambda sensor: sensor.name)
def test_permission_that_is_lost_ends_the_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sensor: Sensor):
    driver = NeuronDriver(tmp_path, steady, start=START)
    real = Path.read_text
    denied: list[bool] = []

    def read_text(path: Path, *arguments: object, **options: object) -> str:
        if denied and path.name.startswith("utilization"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", read_text)
    assert sensor.detect(target(tmp_path)).state == "readable"
    trace = watched(sensor, driver, 120, plans=[(60.0, lambda: denied.append(True))])
    assert trace.readings
    assert "Permission denied" in trace.lost
    found = sensor.detect(target(tmp_path))
    assert found.state == "denied"
    assert found.remedy.startswith("sudo chmod a+r ")
    assert "utilization" in found.remedy
    with pytest.raises(Lost):
        sensor.open(target(tmp_path)).read()


def test_a_chip_that_falls_off_the_bus(tmp_path: Path):
    driver = NeuronDriver(tmp_path, steady, chips=2, start=START)
    trace = watched(MINUTES, driver, 200, "0", "1", plans=[(70.0, lambda: driver.remove(1))])
    assert trace.readings
    assert trace.lost.startswith("neuron-minutes: neuron1: ")
    with pytest.raises(Lost, match="no Neuron chip 1; here are 0"):
        MINUTES.open(target(tmp_path, "0", "1"))


def test_what_is_found_is_said(tmp_path: Path):
    assert MINUTES.detect(target(tmp_path)).detail == "no Neuron driver"
    driver = NeuronDriver(tmp_path, steady, chips=2, version="2.24.7.0", start=START)
    driver.advance(40)
    found = MINUTES.detect(target(tmp_path, "0", "1"))
    assert found.state == "readable"
    assert found.detail.startswith("driver 2.24.7.0, 2 chips, percent of an unpublished maximum")
    assert LIVE.detect(target(tmp_path)).state == "absent"
    assert LIVE.detect(target(tmp_path)).detail == "driver 2.24.7.0: neuron0 has no power file utilization_raw"
    assert MINUTES.detect(target(tmp_path, "5")).detail == "driver 2.24.7.0: no Neuron chip 5; here are 0, 1"
    assert MINUTES.detect(Target(backend="neuron", chip="trainium2", root=tmp_path)).state == "readable"
    with pytest.raises(Lost, match="not known which chips work"):
        MINUTES.open(Target(backend="neuron", chip="trainium2", root=tmp_path))
    driver.breaks(driver.minutes(1), "POWER_STATUS_INVALID,1760000040,0.00,0.00,0.00")
    assert MINUTES.detect(target(tmp_path, "0")).state == "readable"
    assert MINUTES.detect(target(tmp_path, "0", "1")).state == "absent"


def test_a_live_file_of_an_unknown_shape_is_left_to_the_minutes(tmp_path: Path):
    driver = NeuronDriver(tmp_path, steady, start=START)
    driver.breaks(driver.live(0), "0,4000\n1,4500")
    found = LIVE.detect(target(tmp_path))
    assert found.state == "absent"
    assert "'0,4000 | 1,4500'" in found.detail
    assert MINUTES.detect(target(tmp_path)).state == "readable"


def test_dies_of_a_chip_that_nobody_knows_are_not_guessed(tmp_path: Path):
    driver = NeuronDriver(tmp_path, steady, start=START)
    (driver.folder(0) / "info" / "architecture" / "device_name").write_text("Trainium9\n")
    for sensor in (MINUTES, LIVE):
        assert "neuron0 is Trainium9, whose number of dies is not known" in sensor.detect(target(tmp_path)).detail
        with pytest.raises(Lost, match="Trainium9"):
            sensor.open(target(tmp_path))


def test_two_files_that_could_be_power_are_not_chosen_from(tmp_path: Path):
    driver = NeuronDriver(tmp_path, steady, start=START)
    other = driver.folder(0) / "elsewhere" / "utilization"
    other.parent.mkdir()
    other.write_text(driver.minutes(0).read_text())
    assert "2 files utilization that could be its power" in MINUTES.detect(target(tmp_path)).detail
    with pytest.raises(Lost, match="elsewhere/utilization"):
        MINUTES.open(target(tmp_path))

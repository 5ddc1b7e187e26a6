"""``perwatt doctor --power``: sensors under three levels of load, each with a planted fault."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.stepped import Stepped
from perwatt import backends
from perwatt.backends.base import Device
from perwatt.backends.cpu import Cpu
from perwatt.cli import _app
from perwatt.errors import MissingHardware
from perwatt.power import choice, selftest
from perwatt.power.base import Lost, Reading, Target
from perwatt.power.checkup import Verdict
from perwatt.results.schema import Status
from perwatt.runner import powercheck
from perwatt.runner.supervisor import WorkerLost
from support.power import PaperProbe, PaperSensor, facts

LEVELS = {None: 70.0, 0.5: 300.0, 1.0: 500.0}
Said = Callable[[float, float], Any]


class Paper(Cpu):
    """A device that exists only on paper; ``duty`` is None where nothing runs."""

    name = "paper"

    def __init__(self) -> None:
        self.clock = Stepped()  # type: ignore[misc]
        self.duty: float | None = None

    def describe(self) -> Device:
        return Device(chip="x", devices_per_chip=1, memory_bytes=1e9, cache_bytes=None, driver="d1")

    def target(self, devices: int = 1) -> Target:
        return Target(backend=self.name, chip="x")

    def probe(self, change: Said = lambda at, watts: watts, **said: Any) -> PaperProbe:
        """A probe of what the device draws, seen as ``change(seconds, watts)``."""

        def read() -> Any:
            at = self.clock.now
            found = change(at, LEVELS[self.duty] + 0.1 * math.sin(37.0 * at))
            return found if isinstance(found, Exception) else Reading(values=(found,))

        return PaperProbe(facts(**said), read)


class PaperWorker:
    """Loads the device as long as it is asked to."""

    device: Paper
    ended = ""
    lost: tuple[Status, str] | None = None
    stopped = 0

    def __init__(self, address: str, log: Path, run_id: str, world: int | None) -> None:
        assert address == "paper"

    def wait_ready(self) -> None:
        self.device.clock.sleep(2.0)

    def stop(self) -> None:
        type(self).stopped += 1

    def ask(self, request: Any, timeout_s: float) -> Iterator[dict[str, Any]]:
        clock = self.device.clock
        if self.lost:
            raise WorkerLost(*self.lost)
        yield {"event": "window", "impl": request["impl"]}
        self.device.duty, start = request["duty"], clock.now
        marks = [(start, 0)]
        while clock.now < start + request["window_s"]:
            clock.sleep(0.5)
            marks.append((clock.now, len(marks)))
        self.device.duty = None
        yield {"event": "load", "marks": marks, "ended": self.ended, "others": None}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Paper:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = Paper()
    worker = type("OnDuty", (PaperWorker,), {"device": made})
    monkeypatch.setattr(powercheck, "Worker", worker)
    made.worker = worker  # type: ignore[attr-defined]
    return made


@pytest.fixture
def check(device: Paper, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Verdict]]:
    """The verdicts on these sensors, by name; what was told is in ``told``."""

    def run(*sensors: PaperSensor) -> dict[str, Verdict]:
        monkeypatch.setattr(choice, "sensors", lambda: {sensor.name: sensor for sensor in sensors})
        run.told = []  # type: ignore[attr-defined]
        verdicts = powercheck.check(device, run.told.append)  # type: ignore[attr-defined]
        return {verdict.sensor: verdict for verdict in verdicts}

    return run


def sensor(
    device: Paper, name: str = "fake", priority: int = 0, change: Said = lambda at, watts: watts, **said: Any
) -> PaperSensor:
    use = said.pop("use", "chips")
    return PaperSensor(name, priority, use=use, opens=[device.probe(change, sensor=name, **said)])


Check = Callable[..., dict[str, Verdict]]


def test_a_sensor_that_can_be_believed(device: Paper, check: Check) -> None:
    good = sensor(device)
    verdict = check(good)["fake"]
    assert verdict.failed == ""
    assert list(verdict.means.values()) == pytest.approx([70.0, 300.0, 500.0], rel=0.01)
    assert verdict.update_s == pytest.approx(0.05)
    assert verdict.lag_s == pytest.approx(0.0, abs=0.06)
    assert check.told == ["at rest, 5 s", "half load, 11 s", "full load, 11 s"]  # type: ignore[attr-defined]
    assert device.worker.stopped == 1  # type: ignore[attr-defined]
    assert good.opens[0].closed == 1  # type: ignore[union-attr]
    assert selftest.failed(good, "d1") == ""


def delayed(by_s: float) -> Said:
    """What was true so long ago."""
    seen: list[tuple[float, float]] = []

    def change(at: float, watts: float) -> float:
        seen.append((at, watts))
        return next((value for moment, value in reversed(seen) if moment <= at - by_s), watts)

    return change


def test_how_late_a_sensor_is(device: Paper, check: Check) -> None:
    verdict = check(sensor(device, change=delayed(0.8), lag_s=0.8))["fake"]
    assert verdict.failed == ""
    assert verdict.lag_s == pytest.approx(0.8, abs=0.11)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda at, watts: 70.0 + 0.1 * math.sin(37.0 * at), "it does not follow the load: idle 70, half 70"),
        (lambda at, watts: 123.0, "never moves"),
        (lambda at, watts: 0.0, "reads 0 W"),
        (lambda at, watts: 600.0 - watts, "it does not follow the load: idle 530, half 300, full 100"),
        (lambda at, watts: 2 * watts if 250 < watts < 350 else watts, "it does not follow the load: idle 70, half 600"),
        (lambda at, watts: math.nan, "reads nan"),
        (
            lambda at, watts: Lost("it fell off") if watts > 400 else watts,
            "full: fake: lost inside the window: it fell",
        ),
    ],
)
def test_a_fault_is_found_and_remembered(device: Paper, check: Check, change: Said, said: str) -> None:
    bad = sensor(device, change=change)
    failed = check(bad)["fake"].failed
    assert said in failed
    assert selftest.failed(bad, "d1") == failed
    reason = choice.choose(device.target(), "", lambda one: selftest.failed(one, "d1")).reason
    assert reason == f"fake: {failed}; {choice.STAND_IN}"


def test_of_two_that_disagree_the_better_is_believed(device: Paper, check: Check) -> None:
    found = check(
        sensor(device, "low", 1, lambda at, watts: 1.2 * watts), sensor(device, "high", 2),
        sensor(device, "near", 1, lambda at, watts: 1.02 * watts),
        sensor(device, "board", 9, lambda at, watts: 2 * watts + 100, use="host"),
        sensor(device, "percents", 9, lambda at, watts: watts / 10, quantity="%"),
    )  # fmt: skip
    assert {name for name, verdict in found.items() if verdict.failed} == {"low"}
    assert found["low"].failed == "high says 500, low 600: 16.7 % apart"
    assert found["percents"].unit == "%"


def test_one_that_failed_by_itself_is_no_measure_of_others(device: Paper, check: Check) -> None:
    found = check(sensor(device, "low", 1), sensor(device, "high", 2, lambda at, watts: 200.0 + math.sin(37.0 * at)))
    assert {name for name, verdict in found.items() if verdict.failed} == {"high"}


def test_sensors_that_are_not_here_or_have_to_be_asked_for_are_left_out(device: Paper, check: Check) -> None:
    found = check(
        sensor(device), PaperSensor("denied", state="denied"), PaperSensor("elsewhere", use="never"),
        PaperSensor("meter", use="asked"),
    )  # fmt: skip
    assert set(found) == {"fake"}


def test_a_sensor_that_cannot_be_opened_is_shown_and_not_used(device: Paper, check: Check) -> None:
    shut = PaperSensor("shut", opens=[Lost("locked")])
    found = check(sensor(device), shut)
    assert (found["shut"].failed, found["shut"].means, found["fake"].failed) == ("cannot be opened: locked", {}, "")
    assert selftest.failed(shut, "d1") == "cannot be opened: locked"


def test_where_none_can_be_opened_the_reason_is_told(check: Check) -> None:
    with pytest.raises(MissingHardware, match="can be read: shut: locked; "):
        check(PaperSensor("shut", opens=[Lost("locked")]))


@pytest.mark.parametrize(
    ("sensors", "reason"),
    [
        ((), "no sensor of power can be read: none knows this device"),
        ((PaperSensor("a", state="denied", detail="not for you"),), "no sensor of power can be read: a: not for you"),
    ],
)
def test_no_sensor_at_all(check: Check, sensors: Any, reason: str) -> None:
    with pytest.raises(MissingHardware, match=reason):
        check(*sensors)


def test_a_load_that_is_not_steady_proves_nothing(device: Paper, check: Check) -> None:
    good = sensor(device)
    device.worker.ended = "the load is not steady"  # type: ignore[attr-defined]
    with pytest.raises(MissingHardware, match=r"^the self-test needs a steady load: the load is not steady$"):
        check(good)
    assert device.worker.stopped == 1  # type: ignore[attr-defined]
    assert good.opens[0].closed == 1  # type: ignore[union-attr]


def test_verdicts_that_cannot_be_kept_are_shown_all_the_same(device: Paper, check: Check, tmp_path: Path) -> None:
    (tmp_path / "perwatt").write_text("a file")
    assert check(sensor(device))["fake"].failed == ""
    assert check.told[-1].startswith(f"not remembered: {tmp_path}/perwatt/sensors.json: cannot be written")  # type: ignore[attr-defined]


# The command


@pytest.fixture
def doctor(device: Paper, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """``perwatt doctor --power`` on sensors: exit code, output and errors."""

    def run(sensors: list[PaperSensor], *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(choice, "sensors", lambda: {sensor.name: sensor for sensor in sensors})
        monkeypatch.setattr(backends, "choose", lambda name: device)
        monkeypatch.setenv("COLUMNS", "160")
        with pytest.raises(SystemExit) as ended:
            _app.main(["doctor", "--power", *options])
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


def test_the_command_tells_each_sensor(device: Paper, doctor: Callable[..., Any]) -> None:
    code, out, err = doctor([sensor(device, "good"), sensor(device, "bad", -1, lambda at, watts: 0.0)])
    assert code == 1
    assert err.splitlines()[0] == "power: at rest, 5 s"
    lines = {line.split()[0]: " ".join(line.split()) for line in out.splitlines() if line.strip()}
    assert lines["good"].startswith("good W 70.") or lines["good"].startswith("good W 70 ")
    assert lines["good"].endswith("ok")
    assert "reads 0 W" in lines["bad"]


def test_the_command_for_machines(device: Paper, doctor: Callable[..., Any]) -> None:
    code, out, _ = doctor([sensor(device, "good")], "--json")
    assert code == 0
    (found,) = json.loads(out)["sensors"]
    assert (found["sensor"], found["failed"], set(found["means"])) == ("good", "", {"idle", "half", "full"})


def test_the_command_without_a_sensor(doctor: Callable[..., Any]) -> None:
    code, out, err = doctor([PaperSensor("a", state="absent", detail="no driver")])
    assert (code, out) == (3, "")
    assert err.startswith("error: no sensor of power can be read: a: no driver; without one, ")
    assert "--power-trace" in err
    assert "--power-w" in err


def test_the_command_when_the_load_crashes(device: Paper, doctor: Callable[..., Any]) -> None:
    device.worker.lost = (Status.CRASHED, "worker killed by SIGSEGV")  # type: ignore[attr-defined]
    code, out, err = doctor([sensor(device)])
    assert (code, out) == (3, "")
    assert err.splitlines()[-1] == "error: the self-test needs a steady load: worker killed by SIGSEGV"

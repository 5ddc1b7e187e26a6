"""Which sensors a run reads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perwatt import plugins
from perwatt.errors import InputError, MissingHardware
from perwatt.power import choice
from perwatt.power.base import Lost, Target
from support.power import PaperSensor

TARGET = Target(backend="cuda", chip="h100-sxm", chips=("GPU-1",))
FAKES = Path(__file__).parents[2] / "fakes"
Here = Callable[..., None]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """Makes these the only sensors that exist."""

    def put(*sensors: PaperSensor) -> None:
        monkeypatch.setattr(choice, "sensors", lambda: {sensor.name: sensor for sensor in sensors})

    return put


def chosen(target: Target = TARGET, wanted: str = "", failed: str = "") -> tuple[str | None, str | None, str]:
    found = choice.choose(target, wanted, lambda sensor: "it is stuck" if sensor.name in failed.split() else "")
    return found.chips and found.chips.name, found.host and found.host.name, found.reason


CHIPS = (PaperSensor("low", 1), PaperSensor("high", 9), PaperSensor("middle", 5))
OTHERS = (
    PaperSensor("meter", 99, use="asked"), PaperSensor("elsewhere", 99, use="never"),
    PaperSensor("board", 2, use="host"), PaperSensor("rail", 3, use="host"),
)  # fmt: skip


def test_the_best_of_the_chips_and_the_best_of_their_host(here: Here) -> None:
    here(*CHIPS, *OTHERS)
    assert chosen() == ("high", "rail", "")


@pytest.mark.parametrize("state", ["denied", "absent"])
def test_what_cannot_be_read_is_passed_over(here: Here, state: str) -> None:
    here(*CHIPS, PaperSensor("higher", 10, state=state), PaperSensor("rail", 9, use="host", state=state), *OTHERS[:3])
    assert chosen() == ("high", "board", "")


def test_what_failed_its_self_test_is_passed_over(here: Here) -> None:
    here(*CHIPS, *OTHERS)
    assert chosen(failed="high rail") == ("middle", "board", "")
    assert chosen(failed="high middle low board rail") == (
        None, None, f"high: it is stuck; middle: it is stuck; low: it is stuck; {choice.STAND_IN}",
    )  # fmt: skip


def test_why_there_is_none_with_the_remedy(here: Here) -> None:
    here(
        PaperSensor("b", 1, state="absent", detail="no driver", remedy="install it"),
        PaperSensor("a", 2, state="denied", detail="not for this user"), OTHERS[2],
    )  # fmt: skip
    assert chosen() == (None, "board", f"a: not for this user; b: no driver; install it; {choice.STAND_IN}")
    here()
    assert chosen() == (None, None, f"no sensor knows cuda chips; {choice.STAND_IN}")


def test_the_one_that_is_asked_for(here: Here) -> None:
    here(*CHIPS, *OTHERS)
    assert chosen(wanted="low") == ("low", "rail", "")
    assert chosen(wanted="meter") == ("meter", "rail", "")
    assert chosen(wanted="high", failed="high") == ("high", "rail", ""), "forced"


def test_a_name_that_nobody_has(here: Here) -> None:
    here(*CHIPS)
    with pytest.raises(InputError, match=r"^--sensor: found 'midle', .*one of high, low, middle, tdp .*mean 'middle'"):
        chosen(wanted="midle")


@pytest.mark.parametrize("name", ["elsewhere", "rail"])
def test_one_that_sees_something_else(here: Here, name: str) -> None:
    here(*CHIPS, *OTHERS)
    with pytest.raises(InputError, match=f"^--sensor: {name} does not see a cuda chip: .* of high, low, meter, middle"):
        chosen(wanted=name)
    here(*OTHERS[1:])
    with pytest.raises(InputError, match=f"^--sensor: {name} does not see a cuda chip, and no other sensor does$"):
        chosen(wanted=name)


def test_one_that_is_asked_for_and_is_not_here(here: Here) -> None:
    here(*CHIPS, PaperSensor("gone", state="denied", detail="not for you", remedy="ask root"))
    with pytest.raises(MissingHardware, match=r"^--sensor gone: not for you; ask root$"):
        chosen(wanted="gone")


def test_a_chip_whose_other_devices_idle_has_no_sensor_by_whatever_name(here: Here) -> None:
    here(*CHIPS, *OTHERS)
    part = replace(TARGET, partial="7 of its 8 devices idled")
    assert chosen(part) == (None, None, "7 of its 8 devices idled")
    with pytest.raises(MissingHardware, match=r"^--sensor low: 7 of its 8 devices idled$"):
        chosen(part, wanted="low")
    assert chosen(part, wanted="meter") == ("meter", "rail", ""), "what a node draws is never the work's alone"


# Of another package


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(FAKES / "wattmeter")
    plugins.find.cache_clear()
    yield
    plugins.find.cache_clear()
    sys.modules.pop("wattmeter", None)


@pytest.mark.usefixtures("installed")
def test_a_sensor_of_another_package(tmp_path: Path) -> None:
    target = Target(backend="any", chip="any", root=tmp_path)
    assert {"wattmeter", "nvml", "rapl"} <= choice.sensors().keys()
    with pytest.raises(MissingHardware, match=r"^--sensor wattmeter: no socket; plug it in$"):
        choice.choose(target, "wattmeter")
    (tmp_path / "watts").write_text("431.5\n")
    assert choice.choose(target).chips is None, "has to be asked for"
    sensor = choice.choose(target, "wattmeter").chips
    assert sensor is not None
    probe = sensor.open(target)
    reading = probe.read()
    assert reading is not None
    assert (probe.facts.sensor, reading.values) == ("wattmeter", (431.5,))
    (tmp_path / "watts").unlink()
    with pytest.raises(Lost, match="wattmeter: No such file"):
        probe.read()


def test_it_is_gone_with_its_package() -> None:
    plugins.find.cache_clear()
    assert "wattmeter" not in choice.sensors()

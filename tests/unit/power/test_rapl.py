"""RAPL by a powercap tree that is made as the kernel documents it.

Names and units: ``power/powercap/powercap.rst`` (zones ``intel-rapl:N`` with ``name``, ``energy_uj`` in microjoules and
``max_energy_range_uj``; parts of a zone below it as ``intel-rapl:N:M``, and as links beside it).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perwatt.power.base import Lost, Target
from perwatt.power.evaluate import measured
from perwatt.power.sensors import rapl
from perwatt.power.sensors.rapl import SENSOR
from perwatt.power.trace import Trace

RANGE_UJ = 262_143_328_850
PARTS = {"0": "core", "1": "uncore", "2": "dram"}


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """A server of two sockets, and the platform's zone, which holds both."""
    for number in range(2):
        zone(tmp_path, f"intel-rapl:{number}", f"package-{number}")
        for part, name in PARTS.items():
            zone(tmp_path, f"intel-rapl:{number}/intel-rapl:{number}:{part}", name)
            (tmp_path / rapl.POWERCAP / f"intel-rapl:{number}:{part}").symlink_to(
                tmp_path / rapl.POWERCAP / f"intel-rapl:{number}" / f"intel-rapl:{number}:{part}"
            )
    zone(tmp_path, "intel-rapl:2", "psys")
    return Target(backend="cpu", chip="any", root=tmp_path)


def zone(root: Path, path: str, name: str) -> Path:
    folder = root / rapl.POWERCAP / path
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (folder / "energy_uj").write_text("1000000\n")
    return folder


def counter(target: Target, path: str) -> Path:
    return target.root / rapl.POWERCAP / path / "energy_uj"


def test_packages_and_their_memory_and_nothing_twice(target: Target) -> None:
    probe = SENSOR.open(target)
    assert probe.facts.channels == ("package-0", "package-0/dram", "package-1", "package-1/dram")
    assert (probe.facts.source, probe.facts.scope, probe.facts.kind) == ("counter", "package", "counter")
    assert probe.facts.wrap == (RANGE_UJ / 1e6,) * 4
    counter(target, "intel-rapl:1/intel-rapl:1:2").write_text("2500000\n")
    assert getattr(probe.read(), "values", None) == (1.0, 1.0, 1.0, 2.5)


def test_the_chips_of_a_cpu_and_the_host_of_everything_else(target: Target) -> None:
    assert SENSOR.use(target) == "chips"
    assert SENSOR.use(Target(backend="cuda", chip="h100-sxm")) == "host"


def test_none_on_a_virtual_machine(tmp_path: Path) -> None:
    empty = Target(backend="cpu", chip="any", root=tmp_path)
    assert SENSOR.detect(empty).state == "absent"
    with pytest.raises(Lost, match="rapl: no powercap counters"):
        SENSOR.open(empty)


def test_counters_of_root_only_are_denied_with_the_remedy(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.read_text

    def guarded(path: Path, *args: Any, **more: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **more)

    probe = SENSOR.open(target)
    assert SENSOR.detect(target).state == "readable"
    monkeypatch.setattr(Path, "read_text", guarded)
    found = SENSOR.detect(target)
    assert found.state == "denied"
    assert found.remedy.startswith("sudo chmod a+r ")
    assert found.remedy.count("energy_uj") == 4
    with pytest.raises(Lost, match=r"rapl: .*Permission denied"):
        probe.read()


@pytest.mark.parametrize("text", ["", "-1\n", "many\n", "1.5\n"])
def test_garbage_is_no_counter(target: Target, text: str) -> None:
    probe = SENSOR.open(target)
    counter(target, "intel-rapl:0").write_text(text)
    assert SENSOR.detect(target).state == "absent"
    with pytest.raises(Lost, match="rapl: "):
        probe.read()


def test_a_zone_that_disappears_is_lost(target: Target) -> None:
    probe = SENSOR.open(target)
    counter(target, "intel-rapl:1").unlink()
    with pytest.raises(Lost, match="No such file"):
        probe.read()


def test_joules_over_a_new_beginning_of_one_counter(target: Target) -> None:
    probe = SENSOR.open(target)
    trace = Trace(facts=probe.facts)
    begin = RANGE_UJ - 500_000_000  # package 0 begins anew after 5 s of 100 W
    for step in range(201):
        at = 0.05 * step
        for path, watts, start in (
            ("intel-rapl:0", 100, begin), ("intel-rapl:0/intel-rapl:0:2", 10, 0), ("intel-rapl:1", 50, 0),
            ("intel-rapl:1/intel-rapl:1:2", 5, 0),
        ):  # fmt: skip
            counter(target, path).write_text(f"{round(start + watts * at * 1e6) % RANGE_UJ}\n")
        reading = probe.read()
        assert reading is not None
        trace.add(at, at, at, reading)
    found = measured(trace, 1.0, 9.0)
    assert found.mean == pytest.approx(165.0, rel=0.002)
    assert found.lo <= 165.0 * found.seconds <= found.hi

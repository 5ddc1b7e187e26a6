"""ACPI power meters in a tree of files, by the kernel's driver ``acpi_power_meter``."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.hurried import Hurried, watched
from perwatt.power.base import Lost, Target
from perwatt.power.sensors import acpi

SYSTEM = "LNXSYBUS:00"


def meter(root: Path, number: int = 0, *measures: str, old: bool = False, **files: object) -> Path:
    """A meter as the driver shows it; ``old`` as kernels did whose hwmon devices had no files of their own."""
    entry = root / acpi.HWMON / f"hwmon{number}"
    folder = entry / "device" if old else entry
    (entry / "device" / "measures").mkdir(parents=True)
    for name in measures:
        (entry / "device" / "measures" / name).touch()
    shown = {"power1_average": 214_000_000, "power1_average_interval": 1000, "power1_is_battery": 0, **files}
    for name, value in {"name": "power_meter", **shown}.items():
        (folder / name).write_text(f"{value}\n")
    return folder


def target(root: Path) -> Target:
    return Target(backend="cuda", chip="any", root=root)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("milliwatts", "interval_ms"), [(0, 100), (214_003, 1000), (9_999_999, 30_000)])
def test_the_meter_of_the_node(tmp_path: Path, old: bool, milliwatts: int, interval_ms: int) -> None:
    meter(tmp_path, 0, SYSTEM, old=old, power1_average=milliwatts * 1000, power1_average_interval=interval_ms)
    assert acpi.SENSOR.use(target(tmp_path)) == "asked"
    assert acpi.SENSOR.detect(target(tmp_path)).state == "readable"
    probe = acpi.SENSOR.open(target(tmp_path))
    reading = probe.read()
    assert reading is not None
    assert reading.values == pytest.approx((milliwatts / 1000,))
    facts = probe.facts
    assert (facts.source, facts.scope, facts.quantity, facts.kind) == ("sampled", "node", "W", "samples")
    assert (facts.update_s, facts.lag_s) == pytest.approx((interval_ms / 1000, interval_ms / 2000))
    assert facts.poll_s <= max(0.05, facts.update_s / 2)
    assert facts.window_s >= 20 * facts.update_s
    assert facts.rel_sys == 0.05


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.500%", 0.015), ("1.50%", 0.0105), ("98.500%", 0.015), ("5.0%", 0.05), ("0.0%", 0.05), ("100.0%", 0.05),
        ("50.0%", 0.05), ("unknown", 0.05), ("-1.0%", 0.05),
    ],
)  # fmt: skip
def test_the_accuracy_that_is_stated(tmp_path: Path, text: str, expected: float) -> None:
    meter(tmp_path, 0, SYSTEM, power1_accuracy=text)
    assert acpi.SENSOR.open(target(tmp_path)).facts.rel_sys == pytest.approx(expected)


def test_other_meters_are_not_added(tmp_path: Path) -> None:
    """As on a machine with Grace, whose meters of modules, sockets and cores overlap."""
    for number in range(3):
        meter(tmp_path, number, "LNXCPU:00", power1_average=10**8)
    meter(tmp_path, 3, SYSTEM, power1_is_battery=1)
    meter(tmp_path, 4, name="coretemp")
    assert acpi.SENSOR.detect(target(tmp_path)).detail.startswith("3 ACPI power meters, of which 0 measure")
    meter(tmp_path, 5, SYSTEM)
    assert "hwmon5" in acpi.SENSOR.detect(target(tmp_path)).detail
    meter(tmp_path, 6, SYSTEM)
    with pytest.raises(Lost, match="acpi: 5 ACPI power meters, of which 2"):
        acpi.SENSOR.open(target(tmp_path))


def test_a_meter_that_does_not_say_what_it_measures(tmp_path: Path) -> None:
    meter(tmp_path, 0)
    meter(tmp_path, 1, SYSTEM, "LNXCPU:00")
    assert acpi.SENSOR.detect(target(tmp_path)).state == "absent"


def test_machines_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert acpi.SENSOR.detect(target(tmp_path)).detail == "no ACPI power meter"
    folder = meter(tmp_path, 0, SYSTEM)
    whole = Path.read_text

    def refuse(path: Path, **options: str) -> str:
        if path.name == "power1_average":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    found = acpi.SENSOR.detect(target(tmp_path))
    assert (found.state, found.remedy) == ("denied", f"sudo chmod a+r {folder}/power1_average")


@pytest.mark.parametrize("text", ["", "-5000000", "nan", "12.5", "garbage " * 20, "0x10"])
def test_garbage_ends_the_trace(tmp_path: Path, text: str) -> None:
    folder = meter(tmp_path, 0, SYSTEM)
    probe = acpi.SENSOR.open(target(tmp_path))
    (folder / "power1_average").write_text(text)
    trace = watched(probe, Hurried(end=5.0))
    assert trace.readings == []
    assert trace.lost.startswith("acpi: power1_average is ")
    assert len(trace.lost) < 100


@pytest.mark.parametrize("value", [0xFFFFFFFF * 1000, (2**64 - 1) * 1000 % 2**64])
def test_a_value_that_the_firmware_does_not_have_is_a_gap(tmp_path: Path, value: int) -> None:
    folder = meter(tmp_path, 0, SYSTEM)
    probe = acpi.SENSOR.open(target(tmp_path))
    (folder / "power1_average").write_text(f"{value}\n")
    trace = watched(probe, Hurried(end=5.0))
    assert (trace.readings, trace.lost) == ([], "")


def test_a_meter_that_disappears_ends_the_trace(tmp_path: Path) -> None:
    folder = meter(tmp_path, 0, SYSTEM)
    probe = acpi.SENSOR.open(target(tmp_path))
    (folder / "power1_average").unlink()
    assert "No such file" in watched(probe, Hurried(end=5.0)).lost
    (folder / "power1_average_interval").unlink()
    assert acpi.SENSOR.detect(target(tmp_path)).state == "absent"
    with pytest.raises(Lost):
        acpi.SENSOR.open(target(tmp_path))

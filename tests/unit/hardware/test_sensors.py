"""Sensors that are there, that are not for this user, and that are absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from perwatt.hardware import sensors
from perwatt.hardware.sensors import NEURON, POWERCAP


def lay(root: Path, name: str, text: str) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text + "\n")
    return root


def test_nothing_is_absent_with_a_reason(tmp_path: Path):
    for sensor in (sensors.rapl(tmp_path), sensors.nvml("libnone.so.1"), sensors.neuron(tmp_path)):
        assert sensor.state == "absent"
        assert sensor.detail
    assert [sensor.name for sensor in sensors.sensors(tmp_path)] == ["rapl", "nvml", "neuron"]


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    for zone in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "intel-rapl-mmio:0"):
        lay(tmp_path, f"{POWERCAP}/{zone}/energy_uj", "123")
    return tmp_path


def test_rapl_counts_packages_and_not_their_parts(powercap: Path):
    found = sensors.rapl(powercap)
    assert (found.state, found.detail) == ("readable", "2 package counters")


def test_rapl_that_only_root_may_read(powercap: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path, **_: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    found = sensors.rapl(powercap)
    assert found.state == "denied"
    assert found.remedy.startswith("sudo chmod a+r ")
    assert found.remedy.count("energy_uj") == 2


def test_rapl_that_cannot_be_read_at_all(tmp_path: Path):
    (tmp_path / POWERCAP / "intel-rapl:0" / "energy_uj").mkdir(parents=True)
    assert sensors.rapl(tmp_path).detail == "counters cannot be read: Is a directory"


@pytest.mark.parametrize("place", ["stats/power/utilization", "elsewhere/since/driver_2_31/utilization"])
def test_neuron_power_is_searched(tmp_path: Path, place: str):
    lay(tmp_path, "sys/module/neuron/version", "2.31.0.0")
    for chip in range(2):
        lay(tmp_path, f"{NEURON}/neuron{chip}/{place}", "POWER_STATUS_VALID,1760000000,10.00,20.00,15.00")
        lay(tmp_path, f"{NEURON}/neuron{chip}/other/utilization", "50")
    found = sensors.neuron(tmp_path)
    assert (found.state, found.detail) == ("readable", "driver 2.31.0.0, percentages of 2 chips, no watts")


def test_neuron_without_power(tmp_path: Path):
    lay(tmp_path, f"{NEURON}/neuron0/core_count", "8")
    found = sensors.neuron(tmp_path)
    assert (found.state, found.detail) == ("absent", "driver unknown version, 1 chips, no power file")


def test_a_library_that_loads():
    assert sensors.nvml("libc.so.6").state == "readable"

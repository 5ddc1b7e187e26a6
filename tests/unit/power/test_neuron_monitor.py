"""neuron-monitor is no meter of power, and says so to who asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from perwatt import plugins
from perwatt.power.base import Lost, Sensor, Target

MONITOR: Sensor = plugins.find("perwatt.power.sensors", "SENSOR", "perwatt.sensors")["neuron-monitor"]
TARGET = Target(backend="neuron", chip="trainium2", chips=("0",))


def test_it_is_never_chosen_by_itself():
    assert MONITOR.use(TARGET) == "asked"
    assert MONITOR.use(Target(backend="cpu", chip="")) == "never"


def test_it_is_absent_with_the_reason_whether_installed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    before = MONITOR.detect(TARGET)
    tool = tmp_path / "neuron-monitor"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    after = MONITOR.detect(TARGET)
    assert (before.state, after.state) == ("absent", "absent")
    assert before.detail.startswith("not installed")
    assert after.detail.startswith("installed")
    assert "no field of power" in before.detail
    assert "no field of power" in after.detail
    assert "neuron-minutes" in after.remedy


def test_asked_for_by_name_it_fails_with_the_reason():
    with pytest.raises(Lost, match="neuron-monitor: its reports have no field of power"):
        MONITOR.open(TARGET)

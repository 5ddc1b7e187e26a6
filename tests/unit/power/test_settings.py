"""What a user can say about energy, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from perwatt.errors import InputError
from perwatt.power.settings import SCOPES, Settings

METER = {"trace": "meter.csv", "meter_class": 0.5}


@pytest.mark.parametrize(
    "said",
    [
        {}, {"mode": "all", "sensor": "nvml"}, {"power_w": 0.001}, {"power_w": 10_000.0, "power_scope": "node"},
        METER, {**METER, "meter_offset_s": -3.5, "power_scope": "node"}, {**METER, "sensor": "nvml"},
        {**METER, "meter_class": 100.0}, {"idle": "after_60s"}, {"assumption": "none"},
        {"calibration": "c.yaml"}, {**METER, "sensor": "neuron-live", "calibration": "c.yaml"},
    ],
)  # fmt: skip
def test_what_makes_sense(said: dict[str, Any]) -> None:
    settings = Settings(**said)
    settings.check()
    assert settings.scope == ("node" if said.get("power_scope") == "node" else "package")


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        ({"power_w": -1.0}, "--power-w: found -1, expected watts of a chip above 0, at most 10000"),
        ({"power_w": 0.0}, "--power-w: found 0, expected"),
        ({"power_w": math.nan}, "--power-w: found nan, expected"),
        ({"power_w": math.inf}, "--power-w: found inf, expected"),
        ({"power_w": 10_000.5}, "--power-w: found 10000.5, expected"),
        ({"power_w": 700.0, "sensor": "nvml"}, "--power-w: declares what would be measured"),
        ({"power_w": 700.0, **METER}, "--power-w: declares what would be measured"),
        ({"power_w": 700.0, "calibration": "c.yaml"}, "--power-calibration: is of percentages, and none are read"),
        ({**METER, "calibration": "c.yaml"}, "--power-calibration: is of percentages, and none are read"),
        ({"power_w": 700.0, "mode": "off"}, "--power-w: says where energy comes from, and --energy is off"),
        ({**METER, "mode": "off"}, "--power-trace: says where energy comes from, and --energy is off"),
        ({"power_scope": "node"}, "--power-scope: says of what --power-w or --power-trace are, and neither is given"),
        ({"power_w": 1.0, "power_scope": "nod"}, "--power-scope: found 'nod', expected one of chip, "),
        ({"idle": "no-context"}, "--idle: found 'no-context', expected one of after_60s, context_30s, no_context (did"),
        ({"trace": "meter.csv"}, "--meter-class: is needed beside --power-trace"),
        ({"meter_class": 1.0}, "--meter-class: says something of a meter, and --power-trace is not given"),
        ({"meter_offset_s": 1.0}, "--meter-offset: says something of a meter, and --power-trace is not given"),
        ({**METER, "meter_class": 0.0}, "--meter-class: found 0, expected percent above 0, at most 100"),
        ({**METER, "meter_class": -0.5}, "--meter-class: found -0.5, expected percent"),
        ({**METER, "meter_class": math.nan}, "--meter-class: found nan, expected percent"),
        ({**METER, "meter_class": 101.0}, "--meter-class: found 101, expected percent"),
        ({**METER, "meter_offset_s": math.nan}, "--meter-offset: found nan, expected seconds"),
        ({**METER, "meter_offset_s": math.inf}, "--meter-offset: found inf, expected seconds"),
    ],
)
def test_what_makes_none_is_refused_in_one_line(said: dict[str, Any], refusal: str) -> None:
    with pytest.raises(InputError) as refused:
        Settings(**said).check()
    assert str(refused.value).startswith(refusal)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_chip_is_its_package(scope: str) -> None:
    said = Settings(power_w=1.0, power_scope=scope)
    said.check()
    assert said.scope == ("package" if scope == "chip" else scope)
    assert Settings(power_w=1.0).scope == "package"

"""Lines of power files: what is documented is read, everything else is refused and quoted."""

from __future__ import annotations

import random

import pytest

from perwatt.hardware import neuron_power
from perwatt.hardware.neuron_power import Garbage


def test_a_minute():
    read = neuron_power.minute("POWER_STATUS_VALID,1760000040,0.86,25.00,18.86\n", "neuron0")
    assert (read.valid, read.stamp, read.low, read.high, read.average) == (True, 1760000040, 0.86, 25.0, 18.86)


def test_a_minute_without_data():
    assert not neuron_power.minute("POWER_STATUS_NO_DATA,1760000040,0.00,0.00,0.00\n", "neuron0").valid


@pytest.mark.parametrize(
    "line",
    [
        "POWER_STATUS_INVALID,1760000040,0.00,0.00,0.00",
        "POWER_STATUS_MAX,1760000040,0.00,0.00,0.00",
        "POWER_STATUS_VALID,1760000040,10.00,20.00,30.00",  # average above the maximum
        "POWER_STATUS_VALID,1760000040,10.00,20.00,5.00",
        "POWER_STATUS_VALID,1760000040,0.00,100.01,50.00",
        "POWER_STATUS_VALID,1760000040,-1.00,20.00,15.00",
        "POWER_STATUS_VALID,1760000040,1.00,20.00,nan",
        "POWER_STATUS_VALID,1760000040,10.00,20.00",
        "POWER_STATUS_VALID,1760000040,10.00,20.00,15.00,3",
        "POWER_STATUS_VALID,1760000040,10,20,15",
        "POWER_STATUS_VALID,1760000040,10.0,20.0,15.0",
        "POWER_STATUS_VALID,1760000040.5,10.00,20.00,15.00",
        "POWER_STATUS_VALID,0,10.00,20.00,15.00",
        "POWER_STATUS_VALID,١٧٦٠٠٠٠٠٤٠,10.00,20.00,15.00",
        "POWER_STATUS_VALID,1760000040,10.00,20.00,15.00\nPOWER_STATUS_VALID,1760000040,10.00,20.00,15.00",
        "power_status_valid,1760000040,10.00,20.00,15.00",
        "",
        "\x00\x00",
        "15.00",
    ],
)
def test_a_minute_that_is_garbage(line: str):
    with pytest.raises(Garbage, match=r"^neuron7: ") as raised:
        neuron_power.minute(line + "\n", "neuron7")
    assert "\n" not in str(raised.value)
    assert repr(line.replace("\n", " | ").strip()) in str(raised.value)


@pytest.mark.parametrize("shape", ["{die},{percent}", "{die},{percent},{counter}", "{die},{counter},{percent}"])
def test_dies_of_every_shape_that_is_assumed(shape: str):
    dice = random.Random(shape)
    for _ in range(200):
        points = [dice.randrange(10_001) for _ in range(2)]
        text = "".join(
            shape.format(die=die, percent=f"{one // 100}.{one % 100:02d}", counter=dice.randrange(2**16)) + "\n"
            for die, one in enumerate(points)
        )
        assert neuron_power.dies(text, "neuron0", 2) == tuple(one / 100 for one in points)


def test_a_die_without_a_sample_is_a_gap():
    assert neuron_power.dies("0,12.00\n1,unavailable\n", "neuron0", 2) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0,12.00\n", "a line for each of 2 dies"),
        ("0,12.00\n1,13.00\n2,14.00\n", "a line for each of 2 dies"),
        ("1,12.00\n0,13.00\n", "a line for each of 2 dies"),
        ("0,12.00\n0,13.00\n", "a line for each of 2 dies"),
        ("0,1200\n1,1300\n", "a line for each of 2 dies"),  # basis points, or a counter: not known
        ("0,12.5\n1,13.5\n", "a line for each of 2 dies"),
        ("die,percent\n0,12.00\n1,13.00\n", "a line for each of 2 dies"),
        ("0,12.00,13.00\n1,12.00,13.00\n", "a line for each of 2 dies"),
        ("0,12.00,1,2\n1,12.00,1,2\n", "a line for each of 2 dies"),
        ("0,-1.00\n1,13.00\n", "a line for each of 2 dies"),
        ("", "a line for each of 2 dies"),
        ("0,12.00\n1,bogus(12000)\n", "bogus"),
        ("0,unavailable\n1,bogus(12000)\n", "bogus"),
        ("0,12.00\n1,100.01\n", "expected 0 to 100"),
    ],
)
def test_dies_that_are_garbage(text: str, why: str):
    with pytest.raises(Garbage, match=f"neuron3: .*{why}"):
        neuron_power.dies(text, "neuron3", 2)


def test_a_long_text_is_cut_where_it_is_shown():
    assert len(neuron_power.shown("x" * 5000)) < 200

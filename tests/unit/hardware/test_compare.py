"""Chips side by side: ratios by format and by nominal watt, and what stays empty."""

from __future__ import annotations

import pytest

from perwatt.hardware import chips
from perwatt.hardware.compare import EIGHT_BIT, Line, lines, notes

NAMES = ("h100-sxm", "trainium1", "trainium2", "trainium3")


def compared(*names: str, basis: str = "vendor") -> dict[str, Line]:
    return {line.quantity: line for line in lines([chips.load(name) for name in names], basis)}  # type: ignore[arg-type]


def values(line: Line) -> list[float | None]:
    return [cell and cell.value for cell in line.cells]


def test_peaks_with_ratios_to_the_first():
    bf16 = compared(*NAMES)["bf16"]
    assert values(bf16) == [989.4, 190, 667, 671]
    assert bf16.ratios() == (1, 190 / 989.4, 667 / 989.4, 671 / 989.4)


def test_a_format_that_a_chip_has_not_stays_empty():
    found = compared(*NAMES)
    assert values(found["fp8"]) == [1979, 190, 1299, None]
    assert values(found["mxfp8"]) == [None, None, None, 2517]
    assert found["mxfp8"].ratios() == (None, None, None, None)
    assert "fp64" not in found


def test_formats_of_one_width_meet_in_a_line_that_names_them():
    line = compared(*NAMES)[EIGHT_BIT]
    assert [cell and cell.what for cell in line.cells] == ["e4m3fn", "e4m3", "e4m3", "mxfp8"]
    assert line.ratios()[3] == 2517 / 1979


def test_nominal_watts_are_named_and_trainium1_has_none():
    found = compared(*NAMES)
    assert [cell and cell.what for cell in found["nominal power"].cells] == [
        "h100-sxm-tdp", None, "trainium2-500w", "trainium3-700w",
    ]  # fmt: skip
    per_watt = found["bf16 per nominal watt"]
    assert values(per_watt) == [pytest.approx(989.4 / 700), None, pytest.approx(667 / 500), pytest.approx(671 / 700)]
    assert per_watt.ratios()[1] is None
    told = list(notes([chips.load(name) for name in NAMES]))
    assert told[1] == "trainium1: no watts: AWS publishes no watt figure, and no reputable estimate was found"
    assert told[3] == "trainium3: 700 W, 600 to 1000, an assumption (trainium3-700w)"


def test_bands_go_on_into_quotients():
    cell = compared("trainium3", "h100-sxm")["mxfp8 per nominal watt"].cells[0]
    assert cell is not None
    assert (cell.lo, cell.value, cell.hi) == pytest.approx((2.517, 2517 / 700, 4.195))


def test_peaks_by_the_clock():
    found = compared("trainium2", "trainium3", "h100-sxm", basis="clock")
    assert values(found["bf16"]) == [629.1, 629.1, None]


def test_the_ridge():
    assert values(compared("h100-sxm", "trainium3")["bf16 at the ridge"]) == pytest.approx([295.3, 136.9], abs=0.1)

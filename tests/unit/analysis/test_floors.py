"""Least times by a chip's sheet: operations at the peak of a format, compulsory bytes at the bandwidth of memory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from perwatt.analysis.floors import Floor, floors, largest
from perwatt.hardware import chips
from perwatt.report.format import seconds
from perwatt.spec import case as cases
from perwatt.spec import suite

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "kernels.md").read_text()
PRODUCT = {"m": 2048, "n": 3072, "k": 4096}


def floor(chip: str, precision: str = "bf16", params: dict[str, int] | None = None, workload: str = "gemm") -> Floor:
    case = cases.build({"workload": workload, "params": params or PRODUCT, "precision": precision, "pass": "fwd"})
    (found,) = floors([case], chips.load(chip))
    return found


def test_a_product_by_hand():
    sheet, found = chips.load("h100-sxm"), floor("h100-sxm")
    peak = sheet.peak("bf16")
    assert peak is not None
    assert found.flops_s == pytest.approx(2 * 2048 * 3072 * 4096 / (peak.tflops * 1e12))
    assert found.bytes_s == pytest.approx(2 * (2048 * 4096 + 4096 * 3072 + 2048 * 3072) / sheet.bandwidth_bytes)
    assert (found.floor_s, found.bound) == (found.flops_s, "operations")


def test_few_rows_are_bound_by_memory():
    found = floor("h100-sxm", params={"m": 1, "n": 4096, "k": 4096})
    assert (found.floor_s, found.bound) == (found.bytes_s, "memory")


def test_a_device_that_is_a_part_of_a_chip_has_its_part_of_the_peak_and_all_of_its_memory():
    sheet, found = chips.load("trainium2"), floor("trainium2")
    peak, devices = sheet.peak("bf16"), sheet.devices_per_chip()
    assert peak is not None
    assert devices > 1
    assert found.flops_s == pytest.approx(devices * 2 * 2048 * 3072 * 4096 / (peak.tflops * 1e12))
    assert found.bytes_s == pytest.approx(2 * (2048 * 4096 + 4096 * 3072 + 2048 * 3072) / sheet.bandwidth_bytes)


def test_a_format_that_the_chip_has_no_peak_of_leaves_the_bytes():
    found = floor("a100-80gb", "fp8_row_outside")
    assert found.flops_s is None
    assert (found.floor_s, found.bound) == (found.bytes_s, "memory")


def test_without_either_there_is_no_floor():
    none = Floor(case="", flops=None, bytes=None, flops_s=None, bytes_s=None)
    assert (none.floor_s, none.bound) == (None, "")
    assert largest(None, 2.0, 1.0) == 2.0


def test_the_page_has_what_the_command_prints():
    rows = re.findall(
        r"^\| (.+) \| (.*) \| (.*) \| (.*) \|$", PAGE[PAGE.index("## Floors") : PAGE.index("## On the")], re.M
    )
    shown = {case: times for case, *times in rows[1:]}
    every = suite.load("kernels-cuda").cases
    by = [{one.case: one for one in floors(every, chips.load(name))} for name in ("h100-sxm", "h200")]
    assert len(shown) > 15
    for case, times in shown.items():
        found = [one[case] for one in by]
        assert times == [seconds(found[0].flops_s), *(seconds(one.bytes_s) for one in found)]

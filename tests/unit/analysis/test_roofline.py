"""Rows under their roofs, against calculations by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from perwatt.analysis.roofline import Place, Roofline, roofline
from perwatt.analysis.sides import load
from perwatt.results.published import shipped
from perwatt.results.schema import Row
from support.results import write
from support.roofs import BYTES, line
from support.valid_rows import WORK, make

H100 = Place(chip="h100-sxm", part="chip", format="bf16")
PEAK, BANDWIDTH = 989.4, 3350.0  # of the sheet


def found(folder: Path, *rows: Row) -> Roofline:
    return roofline([load(write(folder, "r.csv", rows))])


def test_by_the_sheet(tmp_path: Path):
    low, high = found(tmp_path, line(100, 4e-3), line(1000, 0.0125)).points
    assert (low.bound, high.bound) == ("memory", "products")  # the ridge is at 295
    assert low.of_sheet == pytest.approx(250 / (100 * BANDWIDTH / 1e3))
    assert high.of_sheet == pytest.approx(800 / PEAK)
    assert (high.lo, high.hi) == (pytest.approx(800 / 1.02), pytest.approx(800 / 0.99))


def test_by_the_ceiling(tmp_path: Path):
    copy = line(None, 4e-3, "memcpy")
    result = found(tmp_path, line(1000, 0.0125), line(1000, 0.02), line(100, 8e-3, "attention"), copy)
    sheet, ceiling = result.roofs[H100]
    assert (sheet.tflops, sheet.gbps, sheet.ridge) == (PEAK, BANDWIDTH, pytest.approx(295.34, rel=1e-4))
    assert (ceiling.tflops, ceiling.gbps) == (pytest.approx(800), pytest.approx(2500))
    assert [point.of_ceiling for point in result.points] == pytest.approx([1.0, 500 / 800, 125 / 250, 1.0])


def test_traffic_alone_has_no_operations(tmp_path: Path):
    (point,) = found(tmp_path, line(None, 4e-3, "rmsnorm")).points
    assert (point.intensity, point.tflops, point.bound) == (None, None, "memory")
    assert point.of_sheet == pytest.approx(2500 / BANDWIDTH)


def test_a_hot_cache_sets_no_memory_roof(tmp_path: Path):
    result = found(tmp_path, line(None, 1e-3, "memcpy", cache="hot"), line(1000, 0.0125))
    assert result.roofs[H100][1].gbps == pytest.approx(BYTES / 0.0125 / 1e9), "the cold product's traffic, not 10 TB/s"


def test_only_a_product_sets_the_roof_of_products(tmp_path: Path):
    result = found(tmp_path, line(1000, 0.0125, "attention"))
    assert result.roofs[H100][1].tflops is None
    assert result.points[0].of_ceiling is None


def test_one_device_of_a_trainium_is_no_chip(tmp_path: Path):
    part = {"chip": "trainium2", "devices_per_chip": 4, "chips": None, "tflops_per_chip": None, "lnc": 2}
    result = found(tmp_path, line(1000, 0.1, **part))
    ((place, (sheet, _)),) = result.roofs.items()
    assert (place.part, sheet.tflops, sheet.gbps) == ("1/4", pytest.approx(667 / 4), 2900)
    assert result.points[0].tflops == pytest.approx(100)


def test_several_chips_are_told_by_one(tmp_path: Path):
    node = {"chips": 8.0, "devices_used": 8, "world_size": 8, "replicas": 8, "placement": "node"}
    rates = {"tflops": 6400.0, "tflops_per_chip": 800.0, "gbps": 8 * BYTES / 0.0125 / 1e9}
    (point,) = found(tmp_path, line(1000, 0.0125, **node | rates)).points
    assert point.of_sheet == pytest.approx(800 / PEAK)


def test_a_chip_without_a_sheet_has_its_ceiling(tmp_path: Path):
    result = found(tmp_path, line(1000, 0.0125, chip="my processor"), line(None, 4e-3, "memcpy", chip="my processor"))
    ((_, (only,)),) = result.roofs.items()
    assert (only.basis, only.tflops) == ("ceiling", pytest.approx(800))
    assert result.points[0].of_sheet is None
    assert result.points[0].bound == "products"


def test_what_has_no_place_is_counted(tmp_path: Path):
    step = line(1000, 0.0125, bytes=None, gbps=None)
    result = found(tmp_path, step, make(WORK, status="crashed", error="it broke"), line(1000, 0.0125))
    assert len(result.points) == 1
    assert result.left == {"composite: traffic is not counted": 1, "status crashed": 1}


def test_published_products_are_the_ceiling_until_one_is_measured(tmp_path: Path):
    published = load(shipped.root(), name="published")
    assert roofline([published]).roofs[H100][1].tflops == 794.5
    both = roofline([published, load(write(tmp_path, "r.csv", [line(1000, 0.0125), line(1000, 0.02)]))])
    assert both.roofs[H100][1].tflops == pytest.approx(800)
    slower = roofline([published, load(write(tmp_path, "s.csv", [line(1000, 0.02)]))])
    assert slower.roofs[H100][1].tflops == pytest.approx(500), "a measured ceiling is never mixed with a printed one"

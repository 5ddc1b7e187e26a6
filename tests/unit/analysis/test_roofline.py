"""Rows under their roofs, against calculations by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from perwatt.analysis.roofline import Place, Roofline, roofline
from perwatt.analysis.sides import load
from perwatt.report.figures import roofline as drawing
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


def test_published_products_are_placed_by_their_shape():
    """12288 x 8192 x 8192 in bf16 at 149.42 TFLOP/s on a quarter of a Trainium2: traffic is of operands and result."""
    result = roofline([load(shipped.root(), name="published")], ["trainium2"])
    point = next(point for point in result.points if "12288x8192x8192 bf16" in point.case)
    moved = 2 * (12288 * 8192 + 8192 * 8192 + 12288 * 8192)
    assert point.intensity == pytest.approx(2 * 12288 * 8192 * 8192 / moved)
    assert point.of_sheet == pytest.approx(149.42 / (667 / 4))
    assert (point.lo, point.hi) == (None, None), "its source prints no interval"
    assert not any("e5m2" in point.case for point in result.points), "the format of its result is not printed"
    assert {place.chip for place in result.roofs} == {"trainium2"}


def test_roofs_of_a_sheet_without_rows():
    result = roofline([], ["trainium3"])
    roofs = {place.format: roof for place, (roof,) in result.roofs.items()}
    assert {name: roof.tflops for name, roof in roofs.items()} == {
        "bf16": 671, "fp16": 671, "tf32": 671, "fp32": 183, "mxfp8": 2517, "fp4": 2517,
    }  # fmt: skip
    assert roofs["mxfp8"].gbps == 4900
    assert list(result.shown()) == ["trainium3 bf16/fp16/tf32", "trainium3 fp32", "trainium3 fp4/mxfp8"]
    assert not any(place.format == "int8" for place in roofline([], ["h100-sxm"]).roofs), "its operations are no FLOP"


def test_rows_in_a_figure_are_named(tmp_path: Path):
    canvas = Figure()
    drawing.draw(canvas, found(tmp_path, line(1000, 0.0125, case="gemm 4x4x4 bf16, fast")))
    (axes,) = canvas.axes
    assert [text.get_text() for text in axes.texts] == ["gemm 4x4x4"]


def test_published_products_are_the_ceiling_until_one_is_measured(tmp_path: Path):
    published = load(shipped.root(), name="published")
    assert roofline([published]).roofs[H100][1].tflops == 794.5
    both = roofline([published, load(write(tmp_path, "r.csv", [line(1000, 0.0125), line(1000, 0.02)]))])
    assert both.roofs[H100][1].tflops == pytest.approx(800)
    slower = roofline([published, load(write(tmp_path, "s.csv", [line(1000, 0.02)]))])
    assert slower.roofs[H100][1].tflops == pytest.approx(500), "a measured ceiling is never mixed with a printed one"

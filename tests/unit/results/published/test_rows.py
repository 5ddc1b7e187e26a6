"""Rows made from tables: what is printed stays as printed, and the rest follows by our count and our sheets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perwatt import configs
from perwatt.hardware import chips
from perwatt.results import csvfile
from perwatt.results.published import peaks, shipped, tables
from perwatt.results.published.rows import row, rows
from perwatt.results.schema import Row, cells
from perwatt.results.validate import check
from perwatt.spec.model import resolve
from perwatt.spec.precision import policy
from perwatt.workloads.train_params import TrainStepParams
from perwatt.workloads.train_step import WORKLOAD

SHIPPED = {(name, item.case): item for name in shipped.names() for item in csvfile.read(shipped.find(name))}


def by(table: str, text: str) -> Row:
    (found,) = [item for (name, case), item in SHIPPED.items() if name == table and text in case]
    return found


@pytest.mark.parametrize("path", shipped.sources(), ids=lambda path: path.stem)
def test_the_csv_in_the_repository_is_the_generated_one(path: Path, tmp_path: Path):
    csvfile.write(rows(tables.read(path)), tmp_path / "new.csv")
    kept = shipped.find(path.stem)
    assert kept.read_bytes() == (tmp_path / "new.csv").read_bytes(), "python -m perwatt.results.published"


def test_every_csv_has_its_table_and_is_valid():
    assert shipped.names() == [path.stem for path in shipped.sources()]
    assert [problem for name in shipped.names() for problem in check(shipped.find(name))] == []


@pytest.mark.parametrize("item", SHIPPED.values(), ids=map(str, SHIPPED))
def test_every_row_says_where_it_is_from_and_claims_no_more(item: Row):
    assert item.time_evidence == "published"
    assert item.source
    assert item.source_date
    assert item.grade
    assert item.printed
    assert (item.work, item.match_key, item.task_key, item.protocol_key) == (None,) * 4, "no source says the whole work"
    assert item.mfu is None or item.mfu == pytest.approx((item.tflops_per_chip or item.tflops) / item.peak_tflops)


@pytest.mark.parametrize("item", SHIPPED.values(), ids=map(str, SHIPPED))
def test_no_number_has_the_dust_of_binary_fractions(item: Row):
    for column, cell in cells(item):
        if isinstance(cell, float) and not cell.is_integer():
            digits = f"{cell!r}".partition("e")[0].replace(".", "").strip("0")
            assert len(digits) <= 9, (column, cell)


def test_rates_of_a_chip_follow_from_sequences_of_all():
    item = by("trainium", "llama-3.1-8b seq 8192")
    assert item.printed == "47.95 sequence/s"
    assert item.tokens_per_s_per_chip == 47.95 * 8192 / 512
    assert item.tokens_per_s == pytest.approx(47.95 * 8192)
    assert item.printed_mfu is None
    params = TrainStepParams(model="llama-3-8b", batch=1, seq=8192)
    counted = WORKLOAD.counts(params, "step", policy("bf16_master")).flops
    assert item.flops == counted
    assert item.tflops_per_chip == pytest.approx(counted * 47.95 / 512 / 1e12)
    assert item.peak_tflops == chips.load("trainium1").peak("bf16").tflops


def test_printed_figures_stay_as_printed():
    item = by("nvidia-bf16", "mpt-7b seq 2048 bf16, 8 x a100-80gb")
    assert (item.printed_mfu, item.printed_tflops_per_chip, item.flops_convention) == (0.6423, 200.3836, "llm-foundry")
    assert item.mfu == pytest.approx(0.617, abs=0.001), "ours counts half of attention's square"


def test_a_peak_that_a_source_names_is_printed_and_not_ours():
    item = by("matmul", "mi355x")
    assert item.printed == "1565 TFLOP/s per chip; 68 % MFU of 2300 TFLOP/s"
    assert item.peak_tflops == chips.load("mi355x").peak("bf16").tflops != 2300
    assert item.mfu == 1565 / item.peak_tflops


def test_what_cannot_be_counted_stays_empty():
    item = by("nvidia-fp8", "256 x b200")
    assert (item.printed_tflops_per_chip, item.tokens_per_s_per_chip) == (864, 3328)
    assert (item.flops, item.tflops_per_chip, item.mfu) == (None, None, None)


def test_a_row_of_one_device_has_the_peak_of_a_device():
    item = by("trn2-operations", "gemm 1024x4096x4096 bf16, one device of trainium2, native")
    assert (item.time_s, item.flops) == (276.8e-6, 2 * 1024 * 4096 * 4096)
    assert item.tflops == pytest.approx(item.flops / item.time_s / 1e12)
    assert (item.placement, item.devices_used, item.devices_per_chip, item.chips) == ("device", 1, 4, None)
    assert item.peak_tflops == chips.load("trainium2").peak("bf16").tflops / 4


def test_time_to_train_and_its_energy():
    item = by("mlperf", "64 x h100-sxm")
    assert (item.workload, item.time_s, item.energy_j) == ("time_to_train", 5.4 * 60, 20.64e6)
    assert (item.energy_evidence, item.power_source, item.power_scope) == ("published", "published", "node")
    assert item.printed == "5.4 min; 20.64 MJ; 5.847 kW DC mean of a node and 2.013 kW network"
    others = [item for item in SHIPPED.values() if item.energy_j is None]
    assert {(item.energy_evidence, item.power_source) for item in others} == {("none", "none")}


def test_cells_of_runs_only_are_left_open_where_nothing_says_them(write: Callable[..., Path]):
    table = tables.read(write())
    item = row(table, table.rows[0])
    left_open = {column.name for column, value in cells(item) if column.run_only and value is None}
    assert {"started_at", "work", "match_key", "task_key", "protocol_key", "seed", "method", "backend"} <= left_open
    assert item.flops == pytest.approx(1024 * _ours(), rel=1e-12)


def _ours() -> float:
    shape = resolve("llama-3-8b", layers=2)
    return 6.0 * shape.linear_parameters + 12.0 * shape.pairs(1024) * shape.heads * shape.head_dim / 1024


def test_a_users_own_sheet_changes_no_published_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = peaks.peak("h100-sxm", "bf16").tflops
    sheet = (configs.root() / "chips" / "h100-sxm.yaml").read_text()
    (tmp_path / "h100-sxm.yaml").write_text(sheet.replace("989.4", "100"))
    monkeypatch.setenv("PERWATT_CHIPS", str(tmp_path))
    peaks._shelf.cache_clear()
    assert chips.Shelf().load("h100-sxm").peak("bf16").tflops == 100
    assert peaks.peak("h100-sxm", "bf16").tflops == before
    peaks._shelf.cache_clear()

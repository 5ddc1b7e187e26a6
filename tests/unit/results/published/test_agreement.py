"""The shipped rows: each printed MFU and rate worked out anew in the convention of its source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perwatt.results.published import agreement, document, shipped, tables
from perwatt.results.published.agreement import Check
from perwatt.results.published.conventions import CONVENTIONS, UNKNOWN
from perwatt.results.published.entry import Entry
from perwatt.results.published.rows import label
from perwatt.results.published.tables import Table

TABLES = [tables.read(path) for path in shipped.sources()]
ROWS = {f"{table.name}: {label(entry)}": (table, entry) for table in TABLES for entry in table.rows}
CHECKS = {
    f"{name}: {check.unit}": check for name, pair in ROWS.items() for check in agreement.checks(*pair)
}  # fmt: skip
DIFFERS = {name: check for name, check in CHECKS.items() if ROWS[name.rpartition(":")[0]][1].differs}
STATED = {name: check for name, check in CHECKS.items() if check.convention != UNKNOWN and name not in DIFFERS}
WORKED_OUT = {
    f"{name}: {check.convention}": check for name, pair in ROWS.items() for check in agreement.worked_out(*pair)
}  # fmt: skip


def test_there_is_something_to_check():
    assert len(ROWS) == sum(len(table.rows) for table in TABLES) >= 124, "two rows of a table have one label"
    assert len([check for check in STATED.values() if check.unit == "% MFU"]) >= 38
    assert {check.convention for check in (*STATED.values(), *WORKED_OUT.values())} == CONVENTIONS.keys() - {UNKNOWN}


@pytest.mark.parametrize("name", STATED)
def test_a_stated_convention_gives_what_is_printed_within_one_percent(name: str):
    check = STATED[name]
    assert check.agrees
    in_the_digits = agreement.half_digit(check.printed) > 0.01 * check.printed  # of 33 %, which is 32.5 to 33.5
    assert abs(check.residual) <= 0.01 or in_the_digits


@pytest.mark.parametrize("name", WORKED_OUT)
def test_what_others_worked_out_is_what_we_work_out(name: str):
    assert WORKED_OUT[name].agrees


def test_digits_excuse_few():
    assert len([check for check in STATED.values() if abs(check.residual) > 0.01]) <= 0.05 * len(STATED)


def test_rows_that_their_stated_convention_does_not_give_are_these_and_by_so_much():
    """A row is not called ``unknown`` because it does not fit: it keeps the convention of its source."""
    assert {name: round(100 * check.residual, 1) for name, check in DIFFERS.items()} == {
        "nvidia-bf16: gpt-oss-120b seq 4096 bf16, 64 x h100-sxm: TFLOP/s": 26.8,
        "nvidia-bf16: gpt-oss-120b seq 4096 bf16, 64 x b200: TFLOP/s": 26.5,
        "nvidia-bf16: gpt-oss-120b seq 4096 bf16, 64 x gb200: TFLOP/s": 26.7,
        "nvidia-bf16: gpt-oss-120b seq 4096 bf16, 64 x b300: TFLOP/s": 26.6,
        "nvidia-bf16: gpt-oss-120b seq 4096 bf16, 64 x gb300: TFLOP/s": 26.3,
        "nvidia-fp8: llama-3-70b seq 8192 fp8, 64 x h100-sxm: TFLOP/s": 2.3,
        "nvidia-fp8: qwen3-30b-a3b seq 4096 fp8, 8 x b200: TFLOP/s": 1.2,
        "tpu: llama-3.1-405b seq 8192 bf16, 256 x tpu-v6e: % MFU": -8.7,
        "tpu: llama-2-70b seq 4096 bf16, 512 x tpu-v5p: % MFU": 2.5,
    }
    assert not any(check.agrees for check in DIFFERS.values()), "differs of a row that its convention gives"


def test_the_page_counts_and_lists_the_rows_that_differ():
    page = document.render(TABLES)
    kept = [check for check in _first(STATED) if abs(check.residual) <= 0.01]
    count = len(_first(STATED)) + len(DIFFERS)
    assert (
        f"Of {len(ROWS)} rows, {count} can be worked out anew in a convention that is stated:\n{len(kept)} agree"
        in page
    )
    assert f"\nand {len(DIFFERS)} do not;" in page
    for name, check in DIFFERS.items():
        _, entry = ROWS[name.rpartition(":")[0]]
        line = (
            f"- {document.escape(label(entry))}, {100 * check.residual:+.1f} %: {document.escape(entry.differs or '')}"
        )
        assert page.count(line) == 1


def _first(found: dict[str, Check]) -> list[Check]:
    """Of a row with two checks the first, which the page shows."""
    return list({name.rpartition(":")[0]: check for name, check in reversed(found.items())}.values())


@pytest.mark.parametrize("name", [name for name, check in CHECKS.items() if check.convention == UNKNOWN])
def test_a_row_of_unknown_convention_is_listed_with_its_residual(name: str):
    table, entry = ROWS[name.rpartition(":")[0]]
    section = document.render([table]).partition("| row | convention |")[0]
    (line,) = [line for line in section.splitlines() if line.startswith(f"| {document.escape(label(entry))} |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[3] == "`unknown`"
    assert cells[5:7] == ["", f"{100 * CHECKS[name].residual:+.1f} %"]


@pytest.mark.parametrize("name", [name for name, check in CHECKS.items() if check.convention == UNKNOWN])
def test_no_row_is_called_unknown_that_its_tables_convention_explains(name: str):
    table, entry = ROWS[name.rpartition(":")[0]]
    others = {other.convention for other in table.rows} - {None, UNKNOWN}
    for convention in others:
        rate = agreement.tflops(table, entry, convention)
        if rate is not None:
            assert not Check(unit="TFLOP/s", convention=convention, printed=_printed(entry), computed=rate).agrees


def _printed(entry: Entry) -> float:
    """Rate of a chip as printed, or as the printed MFU has it."""
    if entry.printed.rate is not None:
        return entry.printed.rate
    assert entry.whole is not None
    return (entry.printed.mfu or 0.0) / 100 * entry.whole.tflops


@pytest.mark.parametrize(
    ("model", "wrong"),
    [("mpt-7b", "megatron"), ("llama-3-8b", "maxtext"), ("llama-3.1-8b", "6n-causal"), ("mixtral-8x7b", "megatron")],
)
def test_another_convention_would_not_agree(model: str, wrong: str):
    rows = [pair for pair in ROWS.values() if pair[1].model == model and pair[1].convention not in (None, UNKNOWN)]
    assert rows
    for table, entry in rows:
        changed = entry.model_copy(update={"convention": wrong})
        assert not next(agreement.checks(table, changed)).agrees


def test_another_peak_would_not_agree():
    table, entry = next(pair for pair in ROWS.values() if pair[1].model == "mpt-7b")
    assert next(agreement.checks(table, entry)).agrees
    assert not next(agreement.checks(table, entry.model_copy(update={"chip": "h100-pcie"}))).agrees


@pytest.mark.parametrize(
    ("printed", "half"), [(19.0, 0.5), (46.4, 0.05), (46.44, 0.005), (1622.0, 0.5), (1.2, 0.05), (1e6, 0.5)]
)
def test_half_of_the_last_digit(printed: float, half: float):
    assert agreement.half_digit(printed) == pytest.approx(half)


@pytest.mark.parametrize(("computed", "agrees"), [(45.9, True), (45.8, False), (46.91, True), (47.0, False)])
def test_one_percent_and_the_digits_that_were_rounded_away(computed: float, agrees: bool):
    assert Check(unit="% MFU", convention="6n", printed=46.4, computed=computed).agrees is agrees


def test_a_rate_is_checked_against_tokens(write: Callable[..., Path]):
    table: Table = tables.read(write())
    (check,) = agreement.checks(table, table.rows[0])
    shape = table.shape(table.rows[0])
    assert shape is not None
    assert check.computed == 6 * shape.parameters * 20000 / 1e12
    assert list(agreement.checks(table, table.rows[1])) == []

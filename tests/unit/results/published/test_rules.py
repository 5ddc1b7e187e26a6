"""What `validate` asks of published rows, and of what only they may have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perwatt.results import csvfile
from perwatt.results.published import shipped
from perwatt.results.schema import Row, columns
from perwatt.results.validate import check

MakeRow = Callable[..., Row]
TIMES = dict.fromkeys(("time_s", "time_s_lo", "time_s_hi", "time_s_p10", "time_s_p90", "samples", "tflops"))
CITED = {
    "time_evidence": "published", "source": "A paper", "source_date": "2025-06", "grade": "B", "printed": "40 % MFU",
    **TIMES,
}  # fmt: skip
NO_KEYS = dict.fromkeys(("work", "match_key", "task_key", "protocol_key"))
OPEN = [name for name, column in columns().items() if column.run_only]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


def problems(path: Path, *rows: Row) -> list[tuple[str | None, str]]:
    csvfile.write(rows, path)
    return [(problem.column, problem.what) for problem in check(path)]


def test_a_published_row_may_have_its_keys_or_none(path: Path, make_row: MakeRow):
    assert problems(path, make_row(**CITED), make_row(**CITED | NO_KEYS, case="other")) == []


def test_everything_that_only_a_run_knows_may_be_open(path: Path, make_row: MakeRow):
    row = make_row(**CITED | {name.replace("pass", "pass_"): None for name in OPEN}, flags=None)
    assert problems(path, row) == []
    assert csvfile.read(path) == [row]


@pytest.mark.parametrize("name", OPEN)
def test_nothing_of_it_may_be_open_in_a_measured_row(path: Path, make_row: MakeRow, name: str):
    changes: dict[str, Any] = {name.replace("pass", "pass_"): None}
    assert (name, "found nothing, expected a value") in problems(path, make_row(**changes))
    with pytest.raises(ValueError, match=f"{name}: found nothing, expected a value"):
        csvfile.read(path)


@pytest.mark.parametrize("name", ["source", "source_date", "grade", "printed"])
def test_a_published_row_says_where_it_was_printed(path: Path, make_row: MakeRow, name: str):
    found = problems(path, make_row(**CITED | {name: None}))
    assert found == [(name, "found nothing, expected a value in a published row")]


@pytest.mark.parametrize(
    ("cell", "value"),
    [("source_date", "2025-06"), ("grade", "A"), ("printed", "4"), ("printed_mfu", 0.4),
     ("printed_tflops_per_chip", 4.0), ("flops_convention", "6n")],
)  # fmt: skip
def test_a_measured_row_has_none_of_that(path: Path, make_row: MakeRow, cell: str, value: object):
    (found,) = problems(path, make_row(**{cell: value}))
    assert found == (cell, f"found {value!r}, expected an empty cell in a row that is not published")


def test_an_imported_row_names_its_tool_and_what_that_printed(path: Path, make_row: MakeRow):
    (found,) = problems(path, make_row(source="a tool"))
    assert found == ("printed", "found nothing, expected a value in a row with `source`")
    imported = make_row(source="a tool", printed="2 us", **NO_KEYS, started_at=None, seed=None, impl=None)
    assert problems(path, imported) == []
    assert csvfile.read(path) == [imported]


@pytest.mark.parametrize("cell", ["grade", "flops_convention"])
def test_an_imported_row_is_not_published(path: Path, make_row: MakeRow, cell: str):
    (found,) = problems(path, make_row(source="a tool", printed="2 us", **{cell: "A"}))
    assert found == (cell, "found 'A', expected an empty cell in a row that is not published")


def test_imported_rows_are_told_apart_by_their_case(path: Path, make_row: MakeRow):
    rows = [make_row(source="a tool", printed="2 us", case=case, **NO_KEYS) for case in ("a", "b", "a")]
    assert problems(path, *rows) == [(None, "same run_id, case as in line 2")]


@pytest.mark.parametrize("key", ["match_key", "task_key"])
def test_no_key_without_work_and_no_work_without_key(path: Path, make_row: MakeRow, key: str):
    keyed = make_row(**CITED)
    (found,) = problems(path, make_row(**CITED | NO_KEYS | {key: getattr(keyed, key)}))
    assert found == (key, f"found {getattr(keyed, key)!r}, expected an empty cell in a row without `work`")
    (found,) = problems(path, make_row(**CITED | {key: None}))
    assert found == (key, "found nothing, expected the key of `work`")


def test_keys_of_published_rows_are_recomputed_as_well(path: Path, make_row: MakeRow):
    (found,) = problems(path, make_row(**CITED | {"match_key": "0123456789abcdef"}))
    assert found[0] == "match_key"
    assert "the row was changed" in found[1]


@pytest.mark.parametrize("date", ["2025", "June 2025", "2025-13", "2025-06-32", "06/2025"])
def test_dates_have_one_form(path: Path, make_row: MakeRow, date: str):
    (found,) = problems(path, make_row(**CITED | {"source_date": date}))
    assert found == ("source_date", f"found {date!r}, expected YYYY-MM or YYYY-MM-DD")


def test_published_energy_is_called_so(path: Path, make_row: MakeRow):
    right = {"energy_j": 2.0, "energy_evidence": "published", "power_source": "published", "power_scope": "node"}
    assert problems(path, make_row(**CITED | right)) == []
    wrong = {"energy_evidence": "measured", "power_source": "counter"}
    found = problems(path, make_row(**CITED | right | wrong))
    assert [name for name, _ in found] == ["energy_evidence", "power_source"]
    assert [name for name, _ in problems(path, make_row(**CITED | right | {"energy_j": None}))] == [
        "energy_evidence", "power_source",
    ]  # fmt: skip


def test_two_rows_of_one_label_are_one_too_many(path: Path, make_row: MakeRow):
    rows = [make_row(**CITED | NO_KEYS, case=case) for case in ("a", "b", "a")]
    assert problems(path, *rows) == [(None, "same run_id, case as in line 2")]


def test_a_changed_cell_of_a_shipped_row_is_found(tmp_path: Path):
    text = shipped.find("tpu").read_text()
    assert text.count(",2026-11,A,") == 6
    copy = tmp_path / "tpu.csv"
    copy.write_text(text.replace(",2026-11,A,", ",,A,", 1))
    (problem,) = check(copy)
    assert (problem.line, problem.column) == (2, "source_date")

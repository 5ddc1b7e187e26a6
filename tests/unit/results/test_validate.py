"""What `validate` finds in results CSVs."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perwatt.results import csvfile, samples
from perwatt.results.schema import Row, Status, columns
from perwatt.results.validate import UNIQUE, Problem, check
from perwatt.runner.part import Part
from perwatt.spec import work

MakeRow = Callable[..., Row]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def edit(path: Path, line: int = 2, **cells: str) -> None:
    """Change cells of a CSV as somebody with a text editor would."""
    table = list(csv.reader(io.StringIO(path.read_text(), newline="")))
    for name, text in cells.items():
        table[line - 1][table[0].index(name)] = text
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table)


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


def test_a_good_file_has_no_problem(path: Path, make_row: MakeRow):
    others = [
        make_row(status=status.value, error="why", impl=status.value) for status in Status if status is not Status.OK
    ]
    csvfile.write([make_row(), *others, make_row(cache=None, impl="b")], path)
    assert check(path) == []


def test_every_problem_says_where(path: Path, make_row: MakeRow):
    csvfile.write([make_row(), make_row(impl="b", flags="odd")], path)
    problem = only(check(path))
    assert (problem.file, problem.line, problem.column) == (str(path), 3, "flags")
    assert str(problem).startswith(f"{path}:3: flags: found 'odd', expected one of attention_unfused, auto_skipped")


@pytest.mark.parametrize(
    ("cells", "column", "what"),
    [
        ({"samples": "3.0"}, "samples", "found '3.0', expected a whole number"),
        ({"enqueue_s": "nan"}, "enqueue_s", "found 'nan', expected a finite number"),
        ({"enqueue_s": "inf"}, "enqueue_s", "found 'inf', expected a finite number"),
        ({"enqueue_s": "-1"}, "enqueue_s", "found -1.0, expected no number below zero"),
        ({"world_size": "-1"}, "world_size", "found -1, expected no number below zero"),
        ({"chip": ""}, "chip", "found nothing, expected a value"),
        (
            {"status": "okay"},
            "status",
            "found 'okay', expected one of crashed, inaccurate, ok, oom, rank_failed, skipped, "
            "timeout, unstable, unsupported (did you mean 'ok'?)",
        ),
        ({"mode": "shards"}, "mode", "found 'shards', expected one of replicate, shard (did you mean 'shard'?)"),
        ({"limiter": "heat"}, "limiter", "found 'heat', expected one of "),
        ({"flags": "host_bound throtled"}, "flags", "found 'throtled', expected one of "),
        ({"time_s": ""}, "time_s", "found nothing, expected a time in a row that is ok"),
        ({"time_s_lo": "2.5e-06"}, "time_s_lo", "found 2.5e-06, which leaves time_s 2e-06 outside its interval"),
        ({"time_s_hi": "1.5e-06"}, "time_s_hi", "found 1.5e-06, which leaves time_s 2e-06 outside its interval"),
        ({"energy_j": "2", "energy_j_lo": "3"}, "energy_j_lo", "found 3.0, which leaves energy_j 2.0 outside"),
        ({"tokens_per_j": "2", "tokens_per_j_hi": "1"}, "tokens_per_j_hi", "found 1.0, which leaves tokens_per_j 2.0"),
        ({"time_s_p10": "4e-06"}, "time_s_p10", "found 4e-06, above time_s_p90 3e-06"),
        ({"tflops": "0.00003"}, "tflops", "found 3e-05, flops / time_s is 2.4e-05: the row was changed"),
        ({"bytes": "2000", "gbps": "2"}, "gbps", "found 2.0, bytes / time_s is 1.0: the row was changed"),
        ({"tokens": "4", "tokens_per_s": "2"}, "tokens_per_s", "found 2.0, tokens / time_s is 2000000.0: the row was"),
        ({"match_key": "0123456789abcdef"}, "match_key", "found '0123456789abcdef', `work` gives '"),
        ({"task_key": "0123456789abcdef"}, "task_key", "found '0123456789abcdef', `work` gives '"),
        ({"protocol_key": "0123456789abcdef"}, "protocol_key", "found '0123456789abcdef', `cache` and `method` give '"),
        ({"cache": "cold"}, "protocol_key", "found '"),
        ({"workload": "attention"}, "workload", "found 'attention', `work` gives 'gemm': the row was changed"),
        ({"pass": "bwd"}, "pass", "found 'bwd', `work` gives 'fwd': the row was changed"),
        ({"precision": "bf16"}, "precision", "found 'bf16', `work` gives 'fp32': the row was changed"),
        ({"work": "{}"}, "work", "found '{}', expected the canonical JSON of a work object"),
        ({"work": "[1]"}, "work", "found '[1]', expected the canonical JSON of a work object"),
        ({"work": "gemm"}, "work", "found 'gemm', expected the canonical JSON of a work object"),
        ({"started_at": "yesterday"}, "started_at", "found 'yesterday', expected a time in UTC, ISO 8601"),
        ({"started_at": "2026-01-02T03:04:05"}, "started_at", "found '2026-01-02T03:04:05', expected a time in UTC"),
        ({"started_at": "2026-01-02T03:04:05+01:00"}, "started_at", "found '2026-01-02T03:04:05+01:00', expected"),
        (
            {"status": "inaccurate", "error": ""},
            "error",
            "found nothing, expected the reason why the row is inaccurate",
        ),
    ],
)
def test_one_wrong_cell(path: Path, make_row: MakeRow, cells: dict[str, str], column: str, what: str):
    csvfile.write([make_row(impl="a"), make_row()], path)
    edit(path, 3, **cells)
    assert [
        problem for problem in check(path) if (problem.line, problem.column) == (3, column) and what in problem.what
    ]
    assert all(problem.line == 3 for problem in check(path))


def test_a_work_that_was_changed_is_found_by_its_keys(path: Path, make_row: MakeRow):
    csvfile.write([make_row()], path)
    edit(path, work=make_row().work.replace('"m":2', '"m":3'))
    assert [problem.column for problem in check(path)] == ["match_key", "task_key"]


def test_work_has_to_be_canonical(path: Path, make_row: MakeRow):
    csvfile.write([make_row()], path)
    spaced = json.dumps(json.loads(make_row().work))
    edit(path, work=spaced, match_key=work.key_of(spaced))
    assert only(check(path)).what == "not canonical JSON (RFC 8785)"


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_cells_that_a_status_forbids(path: Path, make_row: MakeRow, status: Status):
    csvfile.write([make_row(status=status.value, error="why")], path)
    assert check(path) == []
    filled = {"time_s": "1", "rel_err": "1", "compile_cold_s": "1", "flops": "1", "replicas": "2"}
    edit(path, **filled)
    forbidden = {name for name in filled if status not in columns()[name].statuses}
    assert {problem.column for problem in check(path) if "expected an empty cell" in problem.what} == forbidden


def test_a_difference_of_times_may_be_below_zero(path: Path, make_row: MakeRow):
    below = {"time_s": -1e-6, "time_s_lo": -2e-6, "time_s_hi": 1e-6, "time_s_p10": -3e-6, "tflops": None}
    csvfile.write([make_row(method="difference", status="unstable", error="why", **below)], path)
    assert check(path) == []
    csvfile.write([make_row(method="difference", **below)], path)
    assert only(check(path)).what == "found -1e-06, expected a time in a row that is ok"


def test_a_published_row_needs_no_time(path: Path, make_row: MakeRow):
    empty = dict.fromkeys(("time_s", "time_s_lo", "time_s_hi", "time_s_p10", "time_s_p90"))
    cited = {"source": "A paper", "source_date": "2025-06", "grade": "B", "printed": "40 % MFU"}
    csvfile.write([make_row(time_evidence="published", **cited, **empty)], path)
    assert check(path) == []


def test_rows_that_are_there_twice(path: Path, make_row: MakeRow):
    csvfile.write([make_row(), make_row(error="two\nlines", impl="b"), make_row(run_id="r2"), make_row()], path)
    problem = only(check(path))
    assert (problem.line, problem.what) == (6, f"same {', '.join(UNIQUE)} as in line 2")


def test_missing_extra_and_double_columns(path: Path, make_row: MakeRow):
    csvfile.write([make_row()], path)
    header, row = path.read_text().splitlines()
    path.write_text(header.replace(",seed,", ",sead,").replace(",suite,", ",,") + ",impl\n" + row + ",x\n")
    found = {(problem.line, problem.column, problem.what) for problem in check(path)}
    assert found == {
        (1, "sead", "unknown column (did you mean 'seed'?)"), (1, "suite", "missing column"),
        (1, "", "unknown column"), (1, "impl", "column is there twice"),
    }  # fmt: skip


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "case,time_s,status\nx,1,ok\n"])
def test_a_file_of_another_kind_is_one_line(path: Path, text: str):
    path.write_text(text)
    problem = only(check(path))
    assert (problem.line, problem.column) == (1, None)
    assert problem.what.endswith(f" of the {len(columns())} columns of a results CSV: the file is not one")


@pytest.mark.parametrize("text", ["nan", "fast"])
def test_what_follows_from_an_unreadable_cell_is_not_judged(path: Path, make_row: MakeRow, text: str):
    csvfile.write([make_row(), make_row(impl="b")], path)
    edit(path, 2, time_s=text)
    problem = only(check(path))
    assert (problem.line, str(problem.column)) == (2, "time_s")
    assert problem.what == f"found {text!r}, expected a finite number"


def test_another_schema_version_is_one_line(path: Path, make_row: MakeRow):
    csvfile.write([make_row(), make_row(impl="b")], path)
    edit(path, 3, schema_version="2.0")
    path.write_text(re.sub("\n", ",new\n", path.read_text()))
    problem = only(check(path))
    assert (problem.line, problem.column, problem.what) == (
        3,
        "schema_version",
        "found '2.0', this perwatt reads '1.0', '1.1', '1.2' and '1.3'",
    )


def test_a_row_with_too_few_cells(path: Path, make_row: MakeRow):
    csvfile.write([make_row(), make_row(impl="b")], path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].rpartition(",")[0], lines[2]]) + "\n")
    problem = only(check(path))
    count = len(columns())
    assert (problem.line, problem.what) == (2, f"found {count - 1} cells, expected {count}")


def test_a_header_alone_is_not_a_result(path: Path):
    csvfile.write([], path)
    assert only(check(path)).what == "no row below the header"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b'a,"b', b"a\n1"])
def test_no_csv_at_all_is_one_problem(path: Path, content: bytes):
    path.write_bytes(content)
    assert only(check(path)).line == 1 + content.count(b"\n")


def test_a_file_cut_anywhere_is_refused(path: Path, make_row: MakeRow):
    csvfile.write([make_row(), make_row(impl="b", error="two\nlines")], path)
    content = path.read_bytes()
    for end in range(0, len(content) - 1, 7):
        path.write_bytes(content[:end])
        whole_lines = content[:end].endswith(b"\n") and content[:end].count(b"\n") == 2
        assert bool(check(path)) != whole_lines, end


def keep(path: Path, row: Row, parts: list[Part]) -> str | None:
    """Write samples.jsonl beside the results; the digest that the row has to have."""
    digest = samples.samples_digest(parts)
    head = {"samples_digest": digest, "run_id": row.run_id, "case": "c", "impl": row.impl}
    lines = [json.dumps(head | {name: part.message()[name] for name in samples.MEASURED}) + "\n" for part in parts]
    path.with_name("samples.jsonl").write_text("".join(lines))
    return digest


@pytest.fixture
def with_samples(path: Path, make_row: MakeRow) -> Path:
    parts = [
        Part(case="c", impl="torch", process=0, samples=[1e-6, 2e-6], blocks=[0, 1]),
        Part(case="c", impl="torch", process=1, samples=[3e-6], blocks=[0]),
    ]
    csvfile.write([make_row(samples_digest=keep(path, make_row(), parts))], path)
    return path.with_name("samples.jsonl")


def test_samples_that_agree(path: Path, with_samples: Path):
    assert with_samples.exists()
    assert check(path) == []


@pytest.mark.parametrize(
    ("old", "new", "column", "what"),
    [
        ("2e-06", "2.1e-06", "samples_digest", "one was changed"),
        ('"run_id": "r1"', '"run_id": "r2"', "samples_digest", "has no samples of this row"),
        ('"process": 1', '"process": 2', "samples_digest", "one was changed"),
    ],
)
def test_samples_that_were_changed(path: Path, with_samples: Path, old: str, new: str, column: str, what: str):
    text = with_samples.read_text()
    assert old in text
    with_samples.write_text(text.replace(old, new))
    problem = only(check(path))
    assert (problem.file, problem.line, problem.column) == (str(path), 2, column)
    assert what in problem.what


def test_a_sample_that_was_left_out(path: Path, with_samples: Path):
    with_samples.write_text(with_samples.read_text().splitlines(keepends=True)[0])
    assert "one was changed" in only(check(path)).what


@pytest.mark.parametrize(
    ("cells", "column", "what"),
    [
        ({"samples": "4"}, "samples", "found 4, samples.jsonl has 3"),
        (
            {"time_s": "4e-06", "time_s_hi": "4e-06", "tflops": ""},
            "time_s",
            "found 4e-06, samples.jsonl has 1e-06 to 3e-06",
        ),
    ],
)
def test_a_row_that_its_samples_do_not_support(
    path: Path, with_samples: Path, cells: dict[str, Any], column: str, what: str
):
    edit(path, **cells)
    problem = only(check(path))
    assert (problem.column, problem.what) == (column, what)


@pytest.mark.parametrize("line", ["{", "[]", "3", "{}"])
def test_a_samples_file_that_is_none(path: Path, with_samples: Path, line: str):
    with_samples.write_text(with_samples.read_text() + line + "\n")
    problem = only(check(path))
    assert (problem.file, problem.line, problem.what) == (str(with_samples), 3, "found no line of raw samples")


@pytest.mark.parametrize(("ops", "column"), [("", "work"), ("0123456789abcdef", None)])
def test_a_time_under_autocast_needs_the_op_list_in_its_key(
    path: Path, make_row: MakeRow, ops: str, column: str | None
):
    precision = {"name": "bf16_autocast", "casts": "autocast", "autocast_ops": ops}
    content = json.loads(make_row().work) | {"precision": precision}
    csvfile.write([make_row(content), make_row(content, status="unsupported", error="why", impl="b")], path)
    assert [(problem.line, problem.column) for problem in check(path)] == ([(2, column)] if column else [])

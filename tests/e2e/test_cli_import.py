"""`perwatt import`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from perwatt.results import csvfile

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]
ONE = {
    "size(B)": 33554432, "count(elems)": 33554432, "type": "uint8", "algbw(GB/s)": 40.69, "busbw(GB/s)": 40.69,
    "time:avg(us)": 768,
}  # fmt: skip


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "nccom.json"
    path.write_text(json.dumps({"results": [ONE]}))
    return path


def test_a_csv_is_written_that_validates(perwatt: Perwatt, report: Path):
    done = perwatt("import", "nccom.json", "--chip", "trainium1", "--op", "all_reduce", "-o", "out.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "nccom-test: 1 rows, none with a match key in out.csv",
        "note: GB/s of the file are GiB/s (2^30 bytes), as documented (1 of 1 rows)",
    ]
    assert perwatt("validate", "out.csv").stdout == "out.csv: ok, 1 rows: 1 ok\n"


def test_the_csv_is_printed_and_the_rest_stands_beside_it(perwatt: Perwatt, report: Path):
    done = perwatt("import", "nccom.json", "--chip", "trainium1")
    (report.parent / "out.csv").write_text(done.stdout)
    assert [row.bytes for row in csvfile.read(report.parent / "out.csv")] == [33554432.0]
    assert done.stderr.startswith("nccom-test: 1 rows, none with a match key\n")


def test_json(perwatt: Perwatt, report: Path):
    done = perwatt("import", "nccom.json", "--chip", "trainium1", "--json", "-o", "out.csv")
    found = json.loads(done.stdout)
    assert (found["format"], found["rows"], found["with_match_key"], found["statuses"]) == (
        "nccom-test", 1, 0, {"ok": 1},
    )  # fmt: skip


def test_imported_rows_are_compared_with_nothing(perwatt: Perwatt, report: Path):
    assert perwatt("import", "nccom.json", "--chip", "trainium1", "-o", "out.csv").returncode == 0
    done = perwatt("gate", "out.csv", "--baseline", "out.csv")
    assert done.returncode == 3
    assert "1 rows have no match key" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nccom.json"], "nccom.json: the file does not say on what chip it was measured, expected --chip NAME"),
        (["none.json"], "none.json: cannot be read: No such file or directory"),
        (["nccom.json", "--chip", "x", "-o", "nccom.json"], "--out: found the file that is imported, expected another"),
        (["nccom.json", "--chip", "trainum2"], "--chip: found 'trainum2', expected one of a10"),
        (["nccom.json", "--from", "nccom"],
         "--from: found 'nccom', expected one of nccl-tests, nccom-test, perwatt, pytest-benchmark"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(perwatt: Perwatt, report: Path, arguments: list[str], message: str):
    done = perwatt("import", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_a_mistyped_chip_is_told_with_the_nearest_one(perwatt: Perwatt, report: Path):
    error = perwatt("import", "nccom.json", "--chip", "trainum2", "-o", "out.csv").stderr
    assert "(did you mean 'trainium2'?)" in error
    assert "--any-chip allows a name without a sheet" in error
    assert not (report.parent / "out.csv").exists()


def test_an_alias_is_written_as_the_sheets_name(perwatt: Perwatt, report: Path):
    assert perwatt("import", "nccom.json", "--chip", "Trn2", "-o", "out.csv").returncode == 0
    assert [row.chip for row in csvfile.read(report.parent / "out.csv")] == ["trainium2"]


def test_a_processor_has_no_sheet(perwatt: Perwatt, report: Path):
    done = perwatt("import", "nccom.json", "--chip", "AMD EPYC 9R14", "--any-chip", "-o", "out.csv")
    assert done.returncode == 0, done.stderr
    assert [row.chip for row in csvfile.read(report.parent / "out.csv")] == ["AMD EPYC 9R14"]

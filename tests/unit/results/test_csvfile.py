"""Results CSVs: nothing is lost between a row and its line."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perwatt.errors import InputError
from perwatt.results import csvfile
from perwatt.results.schema import Row, columns

MakeRow = Callable[..., Row]
AWKWARD = ['a "quoted", text', "two\nlines", "a\r\nb", "a\rb", "=1+1", " spaces ", "ä€𝄞", "\x00\x1b[31m", ","]


def test_rows_come_back_as_they_were(tmp_path: Path, make_row: MakeRow):
    path = tmp_path / "r.csv"
    rows = [make_row(), *(make_row(error=text, case=text) for text in AWKWARD), make_row(status="oom", error="no")]
    csvfile.write(rows, path)
    assert csvfile.read(path) == rows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    number=st.floats(allow_nan=False, allow_infinity=False),
    whole=st.integers(-csvfile.LARGEST, csvfile.LARGEST),
    text=st.text(st.characters(codec="utf-8"), min_size=1),
)
def test_any_value_comes_back_bit_for_bit(tmp_path: Path, make_row: MakeRow, number: float, whole: int, text: str):
    path = tmp_path / "r.csv"
    csvfile.write([make_row(temp_c=number, seed=whole, case=text)], path)
    (row,) = csvfile.read(path)
    assert (repr(row.temp_c), row.seed, row.case) == (repr(number), whole, text)


def test_other_readers_see_the_same(tmp_path: Path, make_row: MakeRow):
    path = tmp_path / "r.csv"
    csvfile.write([make_row(error=text) for text in AWKWARD], path)
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["error"] for line in lines] == AWKWARD
    assert list(lines[0]) == list(columns())
    assert (lines[0]["time_s"], lines[0]["samples"], lines[0]["power_w"]) == ("2e-06", "3", "")


def test_header_and_line_ends(tmp_path: Path, make_row: MakeRow):
    path = tmp_path / "r.csv"
    csvfile.write([make_row()], path)
    content = path.read_bytes()
    assert content.startswith(",".join(columns()).encode() + b"\n")
    assert content.count(b"\n") == 2
    assert content.endswith(b"\n")
    assert b"\r" not in content


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_cell_holds_nan_or_infinity(tmp_path: Path, make_row: MakeRow, value: float):
    path = tmp_path / "r.csv"
    csvfile.write([make_row()], path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"time_s is .*, which no cell may hold"):
        csvfile.write([make_row(time_s=value)], path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.csv"]


def test_half_a_character_in_a_message_does_not_lose_the_file(tmp_path: Path, make_row: MakeRow):
    path = tmp_path / "r.csv"
    csvfile.write([make_row(error="bad \udcff byte")], path)
    assert csvfile.read(path)[0].error == r"bad \udcff byte"


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path, make_row: MakeRow):
    with pytest.raises(InputError, match=r"none/r\.csv: cannot be written"):
        csvfile.write([make_row()], tmp_path / "none" / "r.csv")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_what_a_spreadsheet_adds_does_no_harm(tmp_path: Path, make_row: MakeRow, mark: bytes, end: bytes):
    path = tmp_path / "r.csv"
    csvfile.write([make_row(), make_row(impl="torch.compile")], path)
    path.write_bytes(mark + path.read_bytes().replace(b"\n", end))
    assert csvfile.read(path) == [make_row(), make_row(impl="torch.compile")]


def test_columns_are_found_by_name(tmp_path: Path, make_row: MakeRow):
    path = tmp_path / "r.csv"
    csvfile.write([make_row()], path)
    with path.open(newline="") as file:
        (cells,) = csv.DictReader(file)
    names = sorted(cells)
    path.write_text(
        ",".join(names) + "\n" + ",".join(f'"{cells[n].replace(chr(34), chr(34) * 2)}"' for n in names) + "\n"
    )
    assert csvfile.read(path) == [make_row()]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", 1, "empty file, expected a header"),
        (b"\n\n", 1, "empty file, expected a header"),
        (b"a,b\n1,\xff\n", 2, "found byte 0xff, expected UTF-8"),
        (b"a,b\n1,2\n3,4", 3, "the last line is cut off: it has no line end"),
        (b'a,b\n1,"2\n3,4\n', 2, "not a CSV: unexpected end of data"),
        (b'a,b\n1,2\n"3"x,4\n', 3, "not a CSV: ',' expected after '\"'"),
        (b"a,b\n1,2\n", 1, f"found 0 of the {len(columns())} columns of a results CSV: the file is not one"),
    ],
)
def test_what_is_no_results_file(tmp_path: Path, content: bytes, line: int, message: str):
    path = tmp_path / "r.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        csvfile.read(path)
    assert (raised.value.file, raised.value.line, raised.value.message) == (str(path), line, message)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(InputError, match=r"r\.csv: cannot be read: No such file"):
        csvfile.read(tmp_path / "r.csv")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("samples", "3.0", "found '3.0', expected a whole number"),
        ("samples", "1_000", "found '1_000', expected a whole number"),
        ("samples", " 3", "found ' 3', expected a whole number"),
        ("samples", "٣", "found '٣', expected a whole number"),
        ("time_s", "nan", "found 'nan', expected a finite number"),
        ("time_s", "-inf", "found '-inf', expected a finite number"),
        ("time_s", "1e999", "found '1e999', expected a finite number"),
        ("time_s", "1,5", "found '1,5', expected a finite number"),
        ("time_s", "0x1", "found '0x1', expected a finite number"),
    ],
)
def test_numbers_are_read_strictly(name: str, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        csvfile.value_of(columns()[name], text)


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1.0), ("1.", 1.0), (".5", 0.5), ("-1e-3", -0.001), ("5e-324", 5e-324)]
)
def test_numbers_in_other_spellings(text: str, value: Any):
    assert csvfile.value_of(columns()["time_s"], text) == value


def test_a_wrong_cell_is_named_by_line_and_column(tmp_path: Path, make_row: MakeRow):
    path = tmp_path / "r.csv"
    csvfile.write([make_row(error="two\nlines"), make_row(samples=777)], path)
    path.write_text(path.read_text().replace("777", "7.7"))
    with pytest.raises(InputError) as raised:
        csvfile.read(path)
    assert (raised.value.line, raised.value.field) == (4, "samples")
    path.write_text(path.read_text().replace("7.7", "7").replace("A chip", "", 1))
    with pytest.raises(InputError, match=r"r\.csv:2: chip: found nothing, expected a value"):
        csvfile.read(path)

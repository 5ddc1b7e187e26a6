"""Reading sides: what is read comes out as it was written, and what is wrong is refused in one line."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perwatt
from perwatt.analysis import suspicion
from perwatt.analysis.pool import pool
from perwatt.analysis.reading import read
from perwatt.analysis.sides import sources
from perwatt.analysis.table import UNUSED
from perwatt.errors import InputError
from perwatt.results import csvfile
from perwatt.results.published import shipped
from perwatt.results.schema import Row, Status, cells, columns
from perwatt.results.validate import check
from support.runs import run_folder
from support.valid_rows import make

AWKWARD = ['a "quoted", text', "two\nlines", "a\r\nb", "=1+1", " spaces ", "ä€𝄞", "<b>bold</b>", ",", "nan", "None"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def written(path: Path, *rows: Row) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    csvfile.write(rows or [make(), make(impl="b")], path)
    return path


def edit(path: Path, line: int = 2, **changes: str) -> None:
    table = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    for name, text in changes.items():
        table[line - 1][table[0].index(name)] = text
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(table)


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as found:
        perwatt.load(path)
    assert "\n" not in str(found.value)
    assert str(path) in str(found.value)
    return found.value


def test_every_cell_comes_back(path: Path):
    failed = [make(status=status.value, error="why", impl=status.value) for status in Status if status != Status.OK]
    awkward = [make(case=text, error=text, impl=str(number)) for number, text in enumerate(AWKWARD)]
    rows = [make(temp_c=-3.5, seed=2**53 + 1, lnc=2), *failed, *awkward]
    found = read(written(path, *rows))
    for number, row in enumerate(rows):
        for column, value in cells(row):
            if column.name in UNUSED:
                continue
            read_back = found.text if column.type is str else found.number
            assert read_back(column.name, number) == value, column.name


def test_lines_are_those_of_the_file(path: Path):
    written(path, make(case="two\nlines"), make(impl="b", case="a\r\nb\nc"), make(impl="c"))
    found = read(path)
    assert [found.place(row) for row in range(3)] == [(str(path), line) for line in (2, 4, 7)]


def test_columns_are_found_by_name(path: Path):
    written(path)
    table = [line[::-1] for line in csv.reader(io.StringIO(path.read_text(), newline=""))]
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table)
    assert read(path).text("impl", 1) == "b"


@pytest.mark.parametrize("change", [lambda b: b"\xef\xbb\xbf" + b, lambda b: b.replace(b"\n", b"\r\n")])
def test_marks_and_line_ends_of_other_systems_are_read(path: Path, change: Callable[[bytes], bytes]):
    written(path)
    path.write_bytes(change(path.read_bytes()))
    found = read(path)
    assert [found.text("impl", 0), found.text("impl", 1)] == ["torch", "b"]
    assert len(found) == 2


def test_an_older_schema_is_read(path: Path):
    written(path, make(schema_version="1.0"), make(schema_version="1.0", impl="b"))
    table = list(csv.reader(io.StringIO(path.read_text(), newline="")))
    new = {table[0].index(name) for name, column in columns().items() if column.since != "1.0"}
    assert new
    with path.open("w", newline="") as file:
        kept = [[text for number, text in enumerate(line) if number not in new] for line in table]
        csv.writer(file, lineterminator="\n").writerows(kept)
    assert len(read(path)) == 2
    assert check(path) == []
    assert [row.impl for row in csvfile.read(path)] == ["torch", "b"]


def test_published_rows_are_read():
    side = perwatt.load(shipped.root())
    assert side.rows.is_text("time_evidence", "published").all()


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "NaN": ({"time_s": "nan"}, "time_s: found 'nan', expected a finite number"),
    "NaN of another column": ({"peak_bytes": "NaN"}, "peak_bytes: found 'NaN', expected a finite number"),
    "infinity": ({"flops": "inf"}, "flops: found 'inf', expected a finite number"),
    "text for a number": ({"time_s": "fast"}, "time_s: found 'fast', expected a finite number"),
    "fraction for a whole number": ({"samples": "3.5"}, "samples: found '3.5', expected a whole number"),
    "a huge whole number": (
        {"seed": "9" * 30},
        f"seed: found '{'9' * 30}', expected a whole number of at most 63 bits",
    ),
    "below zero": ({"energy_j": "-1"}, "energy_j: found -1.0, expected no number below zero"),
    "unknown status": ({"status": "okay"}, "status: found 'okay', expected one of"),
    "unknown flag": ({"flags": "fine"}, "flags: found 'fine', expected one of"),
    "key of other work": ({"match_key": "0123456789abcdef"}, "match_key: found '0123456789abcdef', `work` gives"),
    "changed work": ({"work": "{}"}, "work: found '{}', expected the canonical JSON of a work object"),
    "other protocol": ({"cache": "cold"}, "protocol_key: found"),
    "cells of a failure": ({"status": "oom", "error": "memory"}, "expected an empty cell in a row that is oom"),
    "no reason": ({"status": "unstable"}, "error: found nothing, expected the reason"),
    "no chip": ({"chip": ""}, "chip: found nothing, expected a value"),
    "median outside its interval": ({"time_s_lo": "1"}, "time_s_lo: found 1.0, which leaves time_s"),
    "rate of another time": ({"tflops": "1"}, "tflops: found 1.0, flops / time_s is"),
    "tokens per joule of a cut model": (
        {"per_layer": "yes", "tokens_per_j": "3"},
        "tokens_per_j: found 3.0, expected an empty cell in a row that is per_layer",
    ),
    "local time": ({"started_at": "2026-01-02T03:04:05"}, "started_at: found '2026-01-02T03:04:05', expected a time"),
    "published cells": ({"grade": "A"}, "grade: found 'A', expected an empty cell in a row that is not published"),
    "other version": ({"schema_version": "2.0"}, "schema_version: found '2.0', this perwatt reads '1.0', '1.1', '1.2'"),
    "two versions": ({"schema_version": "1.0"}, "schema_version: found '1.0', expected '1.3' as above"),
    "the same row again": ({"impl": "torch"}, "same run_id, match_key, protocol_key, impl"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_wrong_cell_is_one_line_with_its_place(path: Path, name: str):
    cells, what = WRONG[name]
    edit(written(path), 3, **cells)
    assert what in str(refused(path))
    assert str(refused(path)).startswith(f"{path}:3: ")


@pytest.mark.parametrize("name", WRONG)
def test_the_validator_agrees(path: Path, name: str):
    """What is refused here is what ``perwatt validate`` says, word by word."""
    edit(written(path), 3, **WRONG[name][0])
    assert str(refused(path)) == str(check(path)[0])


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda b: b"", "empty file, expected a header"),
    "a header alone": (lambda b: b.split(b"\n")[0] + b"\n", "no row below the header"),
    "a missing column": (
        lambda b: b.replace(b",seed,", b",sead,", 1),
        "1: sead: unknown column (did you mean 'seed'?)",
    ),
    "an extra column": (lambda b: b.replace(b"\n", b",x\n"), "1: x: unknown column"),
    "a column twice": (lambda b: b.replace(b"\n", b",1\n").replace(b",1\n", b",chip\n", 1), "1: chip: column is there"),
    "the first column twice": (
        lambda b: b.replace(b"\n", b",1.1\n").replace(b",1.1\n", b",schema_version\n", 1),
        "1: schema_version: column is there twice",
    ),
    "an empty line": (lambda b: b.replace(b"\n", b"\n\n", 1), "2: found 0 cells, expected"),
    "an empty line at the end": (lambda b: b + b"\n", "4: found 0 cells, expected"),
    "two files in one": (lambda b: b + b, "4: schema_version: found 'schema_version', this perwatt reads"),
    "UTF-16": (lambda b: b.decode().encode("utf-16"), "1: found byte 0xff, expected UTF-8"),
    "a row too short": (lambda b: b[: b.rindex(b",")] + b"\n", "cells, expected"),
    "a cut last line": (lambda b: b[:-20], "the last line is cut off"),
    "a cut last character": (lambda b: b[:-1], "the last line is cut off"),
    "another encoding": (lambda b: b.replace(b"2x3x4", "ä".encode("latin-1"), 1), "found byte 0xe4, expected UTF-8"),
    "an open quote": (lambda b: b.replace(b"2x3x4", b'"', 1).replace(b'""', b'"', 1), "not a CSV"),
    "no CSV": (lambda b: bytes(range(256)) * 10, "found no column of a results CSV, expected its header"),
    "another table": (lambda b: b"a,b\n1,2\n", "found no column of a results CSV, expected its header"),
    "one endless line": (lambda b: b"x" * (2**20 + 9), "found no line end in the first 1 MiB, expected a header"),
    "an endless second line": (lambda b: b.split(b"\n")[0] + b"\n" + b"x" * 2**25, "2: found a line of over 16 MiB"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_one_line(path: Path, name: str):
    damage, what = DAMAGE[name]
    written(path)
    path.write_bytes(damage(path.read_bytes()))
    assert what in str(refused(path))


@pytest.mark.parametrize(
    ("head", "body", "what"),
    [
        (b"nonsense\n", b"", "1: found no column of a results CSV, expected its header"),
        (None, b"", "2: found a line of over 16 MiB, expected a results CSV"),
        (None, b"nonsense\n", "2: schema_version: found 'nonsense', this perwatt reads"),
    ],
)
def test_much_nonsense_is_refused_before_all_of_it_is_read(path: Path, head: bytes | None, body: bytes, what: str):
    header = written(path).read_bytes().partition(b"\n")[0] + b"\n"
    with path.open("wb") as file:
        file.write((head or header) + body * 2**20)
        file.truncate(2**36)  # 64 GiB, of zeros that take no room on the disk
    assert f"{path}:{what}" in str(refused(path))


def test_bad_files_are_skipped_and_named(tmp_path: Path):
    good, bad = written(tmp_path / "good.csv"), written(tmp_path / "bad.csv")
    edit(bad, 2, time_s="nan")
    with pytest.raises(InputError, match=re.escape(str(bad))):
        perwatt.load(tmp_path)
    side = perwatt.load(tmp_path, skip_bad=True)
    assert {side.rows.place(row)[0] for row in range(len(side.rows))} == {str(good)}
    assert side.skipped == (f"{bad}:2: time_s: found 'nan', expected a finite number",)
    good.unlink()
    with pytest.raises(InputError, match="none of its 1 files can be read"):
        perwatt.load(tmp_path, skip_bad=True)


def test_copies_of_a_row_count_once(tmp_path: Path):
    written(tmp_path / "a.csv", make(), make(impl="b"))
    written(tmp_path / "b.csv", make(), make(run_id="r2"))
    side = perwatt.load(tmp_path)
    assert len(side.rows) == 3
    assert side.repeated == ((str(tmp_path / "b.csv"), 2),)


def test_what_a_side_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one/results.csv", "runs/x/results.csv", "runs/y/results.csv", "c.csv", "d.csv", "k=v.csv"):
        written(tmp_path / name)
    (tmp_path / "runs/x/power.csv").write_text("t,w\n")
    made = sources(["one", "runs", "new=c.csv,d.csv", "[cd].csv", "k=v.csv", "one/results.csv"])
    assert [(source.name, source.paths) for source in made] == [
        ("one", ("one/results.csv",)),
        ("runs", ("runs/x/results.csv", "runs/y/results.csv")),
        ("new", ("c.csv", "d.csv")),
        ("[cd]", ("c.csv", "d.csv")),
        ("k=v", ("k=v.csv",)),
        ("one (2)", ("one/results.csv",)),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv"], "nowhere.csv: no such file"),
        (["*.csv"], "*.csv: no CSV matches"),
        (["."], ".: found no CSV of results in it"),
        (["a="], "found 'a=', expected NAME=PATH or NAME=PATH,PATH"),
    ],
)
def test_what_is_no_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as found:
        sources(arguments)
    assert str(found.value) == message


def test_two_sides_of_one_name(tmp_path: Path):
    path = written(tmp_path / "a.csv")
    with pytest.raises(InputError, match="two sides are called 'x'"):
        sources([f"x={path}", f"x={path}"])


@pytest.mark.parametrize("name", WRONG)
def test_columns_alone_raise_the_suspicion(path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    """Nothing that is wrong gets past the fast look, which alone decides whether the validator is asked."""
    seen: list[bool] = []
    whole = suspicion.doubtful
    monkeypatch.setattr(suspicion, "doubtful", lambda rows: seen.append(found := whole(rows)) or found)
    edit(written(path), 3, **WRONG[name][0])
    refused(path)
    assert seen in ([], [True])  # [] where Arrow could not even read it


def test_good_rows_raise_none(path: Path):
    written(path, make(), make(impl="b", status="oom", error="memory"))
    rows = read(path)
    assert len(rows) == 2
    assert not suspicion.doubtful(parsed(path))


def parsed(path: Path) -> Any:
    from perwatt.analysis.reading import _header, _parsed
    from perwatt.analysis.table import Rows

    return Rows(_parsed(str(path), _header(str(path))), (str(path),))


def test_importing_the_analysis_imports_no_torch():
    code = (
        "import sys, pkgutil, importlib, perwatt.analysis as a, perwatt.report as r\n"
        "for package in (a, r):\n"
        "    for module in pkgutil.iter_modules(package.__path__):\n"
        "        importlib.import_module(f'{package.__name__}.{module.name}')\n"
        "import perwatt; perwatt.load; perwatt.compare\n"
        "print(sorted({'torch', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout == "[]\n"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.parametrize("name", ["results.csv", "samples.jsonl"])
def test_much_nonsense_in_a_run_takes_no_memory(tmp_path: Path, name: str):
    """Neither where runs are pooled nor where they are compared; 64 GiB would not fit."""
    runs = [tmp_path / "a", tmp_path / "b"]
    for folder in runs:
        run_folder(folder, {"torch": [[1.0, 1.1, 1.2] * 5]})
    with (runs[1] / name).open("ab") as file:
        file.truncate(2**36)
    with pytest.raises(InputError) as caught:
        pool(map(str, runs))
    assert str(caught.value).startswith(f"{runs[1] / name}:")
    if name == "samples.jsonl":
        found = perwatt.compare(*map(perwatt.load, runs))
        assert found.notes == (f"{runs[1] / name}:2: found no line of raw samples; none of the file is used; "
                               "the interval columns are used",)  # fmt: skip
    else:
        with pytest.raises(InputError, match="found a line of over 16 MiB"):
            perwatt.load(runs[1])

"""The generated page, and the command that writes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from perwatt.results import csvfile
from perwatt.results.published import __main__, document, shipped, tables

PAGE = Path(__file__).resolve().parents[4] / "docs" / "published.md"
TABLES = [tables.read(path) for path in shipped.sources()]
Write = Callable[..., Path]


def test_the_page_in_the_repository_is_the_generated_one():
    assert PAGE.read_text(encoding="utf-8") == document.render(TABLES), "python -m perwatt.results.published"


def test_the_page_has_every_row_and_source_and_convention():
    page = document.render(TABLES)
    assert page.count("\n## ") == len(TABLES) + 2
    for table in TABLES:
        section = page.split(f"\n## {table.name}\n")[1].split("\n## ")[0]
        lines = section.split("| row | printed |")[1].split("\n\n")[0].splitlines()
        assert len(lines) == 2 + len(table.rows)
        assert all(f"\n| {key} | " in section for key in table.sources)


def test_every_table_has_cells_for_its_head():
    for table in re.findall(r"(?:^\|.*\n)+", document.render(TABLES), flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_printed_and_ours_stand_side_by_side(write: Write):
    page = document.render([tables.read(write())])
    line = next(line for line in page.splitlines() if line.startswith("| small seq 1024 bf16"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:4] == ["20000 token/s per chip; 178.4 TFLOP/s per chip", "paper", "`6n`"]
    assert cells[4] == "", "no MFU was printed"
    assert cells[5] == "178 TFLOP/s"
    assert re.fullmatch(r"[+-]0\.\d %", cells[6])
    assert re.fullmatch(r"\d+\.\d %", cells[7])


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", "[x](javascript:alert(1))", "a | b", "*a* _b_ `c`", "&lt;"]
)
def test_text_of_tables_is_shown_and_does_nothing(write: Write, evil: str):
    path = write(
        ("nobody knows it", f"'{evil}'"), ("model: odd", f"model: odd, detail: '{evil}'"), ("Two rows.", f"'{evil}'")
    )
    page = document.render([tables.read(path)]).partition("## small")[2]
    assert "<script" not in page
    assert not re.search(r"(?<!\\)[*_]|(?<!\\)\[x", page.replace("|---", ""))
    assert "&lt;" not in page.replace("&amp;lt;", "").replace("&lt;script&gt;", "").replace("&lt;/script&gt;", "")
    row = next(line for line in page.splitlines() if line.startswith("| odd "))
    assert len(re.findall(r"(?<!\\)\|", row)) == 9


def test_the_command_writes_csvs_and_page(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "results" / "published"
    (root / "sources").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    write().rename(root / "sources" / "small.yaml")
    monkeypatch.setattr(shipped, "root", lambda: root)
    assert __main__.main() == 0
    assert [row.case for row in csvfile.read(root / "small.csv")] == [
        "small seq 1024 bf16, 8 x h100-sxm", "odd seq 1024 bf16, 8 x h100-sxm",
    ]  # fmt: skip
    assert "## small" in (tmp_path / "docs" / "published.md").read_text(encoding="utf-8")


def test_a_damaged_table_is_one_line_and_changes_nothing(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    root = tmp_path / "results" / "published"
    (root / "sources").mkdir(parents=True)
    write((", date: 2025-06", "")).rename(root / "sources" / "small.yaml")
    monkeypatch.setattr(shipped, "root", lambda: root)
    assert __main__.main() == 2
    said = capsys.readouterr().err
    assert said == f"{root}/sources/small.yaml:3: sources.paper.date: found nothing, expected a value\n"
    assert not list(root.glob("*.csv"))


def test_without_tables_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(shipped, "root", lambda: tmp_path)
    assert __main__.main() == 2
    assert "no tables here" in capsys.readouterr().err

"""The generated page and the JSON schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from perwatt.results import document
from perwatt.results.schema import FLAGS, Row, Status, cells, columns

PAGE = Path(__file__).resolve().parents[3] / "docs" / "results.md"


def test_the_page_in_the_repository_is_the_generated_one():
    assert PAGE.read_text(encoding="utf-8") == document.render(), "python -m perwatt.results.document > docs/results.md"


def test_the_page_names_everything():
    page = document.render()
    rows = re.findall(r"^\| `(\w+)`", page, flags=re.MULTILINE)
    assert rows == [*columns(), *Status, *FLAGS]
    assert page.count("\n### ") == len({column.group for column in columns().values()})


def test_every_table_has_cells_for_its_head():
    tables = re.findall(r"(?:^\|.*\n)+", document.render(), flags=re.MULTILINE)
    assert len(tables) > 10
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def fits(kind: str | list[str], value: object) -> bool:
    names = {str: "string", int: "integer", float: "number", type(None): "null"}
    return names[type(value)] in ([kind] if isinstance(kind, str) else kind)


OF_TOOLS = {"source", "printed", "grade", "flops_convention", "printed_mfu", "printed_tflops_per_chip"}


def test_json_schema_lets_published_rows_leave_cells_open():
    schema = document.json_schema()
    (rule,) = [rule for rule in schema["allOf"] if "time_evidence" in rule["if"]["properties"]]
    assert rule["if"]["properties"]["time_evidence"] == {"const": "published"}
    assert set(rule["then"]["properties"]) == {"source", "source_date", "grade", "printed"}
    assert set(rule["else"]["then"]["properties"]) == OF_TOOLS
    otherwise = rule["else"]["else"]["properties"]
    for name, column in columns().items():
        types, of_runs = schema["properties"][name]["type"], otherwise.get(name)
        assert ("null" in types) == column.may_be_empty(foreign=True), name
        assert (of_runs == {"not": {"type": "null"}}) == column.run_only, name
        assert (of_runs == {"type": "null"}) == column.published_only, name
    assert {"work", "match_key", "started_at"} <= {name for name, column in columns().items() if column.run_only}


def test_json_schema_describes_a_row(make_row: Callable[..., Row]):
    schema = document.json_schema()
    assert schema["required"] == list(schema["properties"]) == list(columns())
    assert not schema["additionalProperties"]
    for column, value in cells(make_row()):
        rule = schema["properties"][column.name]
        assert fits(rule["type"], value), column.name
        assert "enum" not in rule or value in rule["enum"], column.name


def test_json_schema_has_the_rules_of_each_status():
    rules = {
        rule["if"]["properties"]["status"]["const"]: rule["then"]["properties"]
        for rule in document.json_schema()["allOf"]
        if "status" in rule["if"]["properties"]
    }
    assert set(rules) == set(Status) - {"ok", "unstable"}
    assert {"time_s", "rel_err", "compile_cold_s"} <= set(rules["skipped"])
    assert "time_s" in rules["inaccurate"]
    assert "rel_err" not in rules["inaccurate"]

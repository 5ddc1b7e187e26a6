"""JSON schemas: current, and held by every shipped file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perwatt import configs
from perwatt.hardware import schema
from perwatt.spec import yamlfile
from support.json_schema import problems

SCHEMAS = dict(schema.schemas())
FILES = {
    "chip.json": sorted((configs.root() / "chips").glob("*.yaml")),
    "systems.json": sorted((configs.root() / "systems").glob("*.yaml")),
    "prices.json": [configs.root() / "prices.yaml"],
    "sources.json": [configs.root() / "sources.yaml"],
}


def test_the_files_are_current():
    folder = configs.root() / "schemas"
    kept = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert kept == SCHEMAS, "python -m perwatt.hardware.schema"


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, paths in FILES.items() for path in paths])
def test_every_file_fits_its_schema(name: str, path: Path):
    assert list(problems(SCHEMAS[name], yamlfile.load(path).value)) == []


def value(name: str = "h100-sxm") -> Any:
    return yamlfile.load(configs.find("chips", name)).value


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"memory": {"value": 80, "source": "mle", "grade": "A"}}, "$.memory: "),
        (
            {"memory": {"value": "80", "unit": "GB", "source": "mle", "grade": "A"}},
            "$.memory.value: not of type number",
        ),
        ({"memory": {"value": 80, "unit": "GBs", "source": "mle", "grade": "A"}}, "$.memory.unit: 'GBs'"),
        ({"memory": {"value": -1, "unit": "GB", "source": "mle", "grade": "A"}}, "$.memory.value: -1"),
        ({"memry": 1}, "$.memry: unknown"),
        ({"peaks": []}, "$.peaks: []"),
        ({"name": "H 100"}, "$.name: 'H 100'"),
        ({"sources": {"x": {"title": "t", "location": "l", "date": "2026"}}}, "$.sources.x.date: '2026'"),
    ],
)
def test_what_does_not_fit(change: dict[str, Any], problem: str):
    (found,) = problems(SCHEMAS["chip.json"], value() | change)
    assert found.startswith(problem)


def test_only_a_sheet_with_a_base_may_leave_fields_out():
    assert not list(problems(SCHEMAS["chip.json"], {"name": "own", "base": "h200"}))
    without = value()
    del without["bandwidth"]
    assert list(problems(SCHEMAS["chip.json"], without)) == ["$: fits none of 2 options"]

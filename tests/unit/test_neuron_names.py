"""Code may use only those names of the Neuron stack that the table of docs/trainium.md gives with their source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import neuron_table

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r"\b(?:NEURON|TORCH_NEURONX|NKI)_[A-Z0-9_]*[A-Z0-9]\b")
TOOL = re.compile(r"(?:neuron-[a-z-]+|neuronx-cc|nccom-test|modinfo|dpkg-query|rpm|fi_info)")
MODULES = ("torch.neuron", "torch_neuronx")


def used(source: str) -> Iterator[str]:
    """Names of the Neuron stack in a file: members of its modules, variables, and commands that are run.

    A module under another name, ``surface = torch.neuron``, would hide its members, so it comes out as the module.
    """
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and (path := dotted(node).removeprefix("self._")) in MODULES:
            parent = parents[node]
            yield f"{path}.{parent.attr}" if isinstance(parent, ast.Attribute) else path
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(MODULES):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith(MODULES) and (alias.asname or "." in alias.name):
                    yield alias.name if "." in alias.name else f"{alias.name} as {alias.asname}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from VARIABLE.findall(node.value)
        if isinstance(node, ast.Tuple | ast.List) and node.elts and isinstance(node.elts[0], ast.Constant):
            first = node.elts[0].value
            if isinstance(first, str) and TOOL.fullmatch(first):
                yield first


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def files() -> list[Path]:
    return [path for folder in ("bench", "kernels") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_code_uses_only_names_of_the_table():
    known = {name.path for name in neuron_table.names()}
    unknown = {
        f"{path.relative_to(ROOT)}: {name}" for path in files() for name in used(path.read_text()) if name not in known
    }
    assert not unknown, "not in the table of docs/trainium.md"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("torch.neuron.warp(1)", {"torch.neuron.warp"}),
        ("self._torch.neuron.warp(1)", {"torch.neuron.warp"}),
        ("import torch_neuronx\ntorch_neuronx.beam()", {"torch_neuronx.beam"}),
        ("from torch_neuronx import beam", {"torch_neuronx.beam"}),
        ("import torch_neuronx as own", {"torch_neuronx as own"}),
        ("import torch_neuronx.inner", {"torch_neuronx.inner"}),
        ("surface = torch.neuron", {"torch.neuron"}),
        ("os.environ['NEURON_RT_WARP'] = '1'", {"NEURON_RT_WARP"}),
        ("NAMES = '''NKI_BEAM\n TORCH_NEURONX_X'''", {"NKI_BEAM", "TORCH_NEURONX_X"}),
        ("run(('neuron-top', '-x'))", {"neuron-top"}),
        ("name = 'neuron-sysfs'; prefix = 'NEURON_'", set()),
    ],
)
def test_every_way_to_use_a_name_is_seen(source: str, found: set[str]):
    assert set(used(source)) == found


def test_the_table_is_whole():
    rows = neuron_table.names()
    assert len({row.call for row in rows}) == len(rows)
    for row in rows:
        assert "hardware" not in row.proven, "nobody had a chip: say so where that changes"
    for name in ("synchronize", "memory_stats", "get_dynamo_metrics", "Event"):
        assert name in neuron_table.surface("torch.neuron")
    event = neuron_table.surface("torch.neuron")["Event"]
    assert [argument.arg for argument in event.args] == ["enable_timing", "blocking"]

"""The table of names in ``docs/trainium.md``, read: what the stand-in device offers, and what code may use.

Each row is ``| `name` | kind | gives | source | SDK | proven |``. A Python name is written as it is called,
``torch.neuron.synchronize(device=None)``; a tool as it is run, ``neuron-ls --json-output``.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "trainium.md"
HEADER = "| name | kind | gives | source | SDK | proven |"
PYTHON = ("torch.", "torch_neuronx.")


@dataclass(frozen=True, kw_only=True)
class Name:
    """A row of the table.

    Attributes:
        call: the first column: ``torch.neuron.device(device_spec)``, ``NEURON_CC_FLAGS``, ``neuron-ls --json-output``.
        kind: ``function``, ``context manager``, ``variable``, ``tool``, ``file`` and the like.
        gives: what it returns or holds, in words.
        source: where that is documented.
        sdk: releases that it holds for.
        proven: how it is known here.
    """

    call: str
    kind: str
    gives: str
    source: str
    sdk: str
    proven: str

    @property
    def path(self) -> str:
        """Dotted name, variable or tool, without parameters: ``torch.neuron.device``, ``neuron-ls``."""
        return self.call.partition("(")[0].split(" ")[0]

    @property
    def parameters(self) -> str:
        """What stands between the brackets: ``enable_timing=False, blocking=False``; empty without any."""
        return self.call.partition("(")[2].removesuffix(")")


@cache
def names(page: Path = PAGE) -> tuple[Name, ...]:
    """All rows, in order.

    Raises:
        ValueError: a line of the table is not as it has to be.
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    start = lines.index(HEADER) + 2
    found = []
    for number, line in enumerate(lines[start:], start + 1):
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 6 or not all(cells) or not (cells[0][0] == cells[0][-1] == "`"):
            raise ValueError(f"{page.name}:{number}: expected | `name` | kind | gives | source | SDK | proven |")
        call, kind, gives, source, sdk, proven = cells
        found.append(Name(call=call.strip("`"), kind=kind, gives=gives, source=source, sdk=sdk, proven=proven))
    return tuple(found)


def of_kind(*kinds: str) -> tuple[Name, ...]:
    """Rows of some kinds."""
    return tuple(name for name in names() if name.kind in kinds)


def surface(module: str) -> dict[str, ast.arguments]:
    """Members of ``torch.neuron`` or ``torch_neuronx``, each with the parameters it may be called with."""
    own = {name.path.removeprefix(f"{module}."): name for name in names() if name.path.startswith(f"{module}.")}
    return {member: _arguments(name.parameters) for member, name in own.items()}


def _arguments(text: str) -> ast.arguments:
    tree = ast.parse(f"def f({text}): ...").body[0]
    assert isinstance(tree, ast.FunctionDef)
    return tree.args

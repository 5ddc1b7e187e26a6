"""The surface, made from the table of ``docs/trainium.md``: a name that is not in it is missing, for all but torch
itself, and a call that does not fit the signature that stands there raises.

``FAKE_NEURON_TABLE`` is another page with such a table.
"""

from __future__ import annotations

import ast
import inspect
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from fakes import neuron_table

CALLED = ("function", "context manager", "decorator")


def module(name: str) -> ModuleType:
    """``torch.neuron``, as far as the table has it."""
    made = ModuleType(name)
    fill(vars(made), name)

    def missing(member: str) -> Any:
        """Names that torch itself calls are there for torch alone."""
        from . import _members

        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.split(".")[0] == "torch" and member in _members.NEURON:
            return checked(_members.NEURON[member], inspect.signature(lambda *args, **kwargs: None))
        raise AttributeError(f"module {name!r} has no attribute {member!r}")

    made.__getattr__ = missing  # type: ignore[method-assign]
    return made


def fill(namespace: dict[str, Any], name: str) -> None:
    """Put the table's members of a module into it."""
    from . import _members

    known = {"torch.neuron": _members.NEURON, "torch_neuronx": _members.PACKAGE}[name]
    page = Path(os.environ.get("FAKE_NEURON_TABLE") or neuron_table.PAGE)
    for row in neuron_table.names(page):
        own, _, member = row.path.rpartition(".")
        if own == name and row.kind in CALLED and member in known:
            namespace[member] = checked(known[member], _signature(row.parameters))


def checked(function: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """A function that takes what the signature says, with its defaults, and nothing else."""

    @wraps(function, assigned=("__doc__",), updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return function(*bound.args, **bound.kwargs)

    return call


def _signature(parameters: str) -> inspect.Signature:
    """Of what stands between the brackets: names with or without defaults, or ``**`` and a name."""
    written = ast.parse(f"lambda {parameters}: 0", mode="eval").body
    assert isinstance(written, ast.Lambda)
    own = written.args
    bare = [inspect.Parameter.empty] * (len(own.args) - len(own.defaults))
    defaults = [*bare, *map(ast.literal_eval, own.defaults)]
    made = [
        inspect.Parameter(one.arg, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for one, default in zip(own.args, defaults, strict=True)
    ]
    if own.kwarg:
        made.append(inspect.Parameter(own.kwarg.arg, inspect.Parameter.VAR_KEYWORD))
    return inspect.Signature(made)

"""``python -m perwatt.workloads.document`` prints ``docs/workloads.md``, made from the modules of the workloads.

The docstring of a workload's module has one paragraph for each of :data:`TOPICS`, its name in front; the parameters
come from the docstring and the fields of its ``Params``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from pydantic import BaseModel

from perwatt import workloads
from perwatt.workloads.base import Workload
from perwatt.workloads.variants import GRAPH

TOPICS = ("Stands for", "Formula", "FLOPs", "Bytes", "Gate", "Leaves out")
_TOPIC = re.compile(rf"^({'|'.join(TOPICS)}):\s+", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^ {4}(\w+): ", re.MULTILINE)
_HEAD = """# Workloads

What each kind of work stands for in a training step, its parameters as suites spell them, how its work is counted,
what its accuracy gate looks at, and what it deliberately leaves out. FLOPs count a multiply-add as two; `bwd` is the
gradients of every operand; `fwd+bwd` is both. Bytes are compulsory traffic: each input read once, each output written
once. A backward pass alone is timed directly where single calls can be bracketed, else as `fwd+bwd` less `fwd`.

An implementation `NAME+graph` is `NAME` captured as a graph of the device, a millisecond of calls in a row, and played
back: the host launches one thing instead of every kernel. It is there for `fwd` and `fwd+bwd` without dropout, on
devices that have graphs. `torch.compile-autotuned` has the compiler try several kernels for each product, where it
knows more than one.

This page is made from the modules in `bench/perwatt/workloads` by `python -m perwatt.workloads.document`.
"""


def render() -> str:
    """The page: every workload of this installation, by name."""
    return _HEAD + "".join(_section(workload) for _, workload in sorted(workloads.available().items()))


def topics(workload: Workload) -> dict[str, str]:
    """Paragraphs of a workload's module by topic; the text before them is ``""``."""
    parts = _TOPIC.split(inspect.getdoc(inspect.getmodule(workload)) or "")
    return {"": parts[0].strip(), **{topic: text.strip() for topic, text in zip(parts[1::2], parts[2::2], strict=True)}}


def _section(workload: Workload) -> str:
    own = topics(workload)
    last = list(own)[-1]
    own[last], _, remarks = own[last].partition("\n\n")  # what follows the last topic
    lines = [f"\n## {workload.name}\n", own.pop(""), ""]
    lines += [f"**{topic}:** {_marked(text)}\n" for topic, text in own.items()]
    lines += [_marked(remarks), ""] if remarks else []
    lines += [f"Passes: {_listed(workload.passes)}. Implementations: {_impls(workload)}.", ""]
    lines += ["| parameter | default | |", "|---|---|---|", *_parameters(workload.Params)]
    return "\n".join(lines) + "\n"


def _impls(workload: Workload) -> str:
    impls = workload.impls().values()
    own = _listed(tuple(impl.name for impl in impls if not impl.captured))
    return own + (f", each also with `{GRAPH}`" if any(impl.captured for impl in impls) else "")


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _parameters(params: type[BaseModel]) -> Iterator[str]:
    """A line of the table for each field."""
    told = {name: text for kind in reversed(params.__mro__) for name, text in _attributes(kind.__doc__).items()}
    for name, field in params.model_fields.items():
        default = "required" if field.is_required() else f"`{_plain(field.default)}`"
        yield f"| `{name}` | {default} | {told.get(name, '')} |"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _attributes(text: str | None) -> dict[str, str]:
    """Texts of the ``Attributes`` of a docstring by name, each on one line."""
    _, _, listed = inspect.cleandoc(text or "").partition("Attributes:\n")
    parts = _ATTRIBUTE.split(listed)
    return {name: _marked(" ".join(text.split())) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _marked(text: str) -> str:
    """Docstring marks as Markdown has them."""
    return re.sub(r":\w+:`[~.]*([^`]+)`", r"`\1`", text).replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    print(render(), end="")

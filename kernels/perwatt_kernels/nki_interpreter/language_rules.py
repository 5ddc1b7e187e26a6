"""Python that the NKI compiler takes: a kernel and the functions it calls are read, and what is not in it is refused.

The simulator of the SDK runs any Python; the compiler evaluates a subset while it compiles, and refuses the rest
(guides/nki_simulator, meta-programming support). Refused here is what a page excludes. What no page shows, and AWS's
own kernels do without, is told by :func:`doubts`: it may compile, and no kernel of ours should need it.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from perwatt_kernels.nki_interpreter.errors import Rejected

GUIDE, MIGRATION = "nki-language-guide", "nki migration"
OWN = "perwatt_kernels.nki_interpreter"  # the stand-ins themselves; on a device they are the compiler's
KINDS = "None, booleans, 32-bit numbers, strings, tensors, tuples, lists, dicts with string keys, NKIObjects"
UNKNOWN_KINDS = (set, frozenset, complex, bytes, bytearray, memoryview)
MUTABLE = (list, dict, set, bytearray)
UNSHOWN_CALLS = ("zip", "enumerate", "sorted", "reversed", "map", "filter", "sum", "any", "all", "iter", "next")
_checked: set[CodeType] = set()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a kernel's source that the compiler does not take, or may not.

    Attributes:
        file: that it is in.
        line: of it.
        found: what stands there.
        expected: what there is instead.
        page: of the documentation.
    """

    file: str
    line: int
    found: str
    expected: str
    page: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: found {self.found}, expected {self.expected} ({self.page})"


def check(kernel: Callable[..., Any]) -> None:
    """Refuse a kernel that uses what a page excludes, in itself or in a function that it calls.

    Raises:
        Rejected: with file, line, what was found, what is expected, and the page.
    """
    if getattr(kernel, "__code__", None) in _checked:
        return
    sources = list(_sources(kernel))
    for source in sources:
        for finding in source.refusals():
            raise Rejected(str(finding))
    _checked.update(source.function.__code__ for source in sources)


def doubts(kernel: Callable[..., Any]) -> list[Finding]:
    """What a kernel uses that no page shows."""
    return [finding for source in _sources(kernel) for finding in source.unshown()]


class _Source:
    """One function's source, and what the names in it stand for."""

    def __init__(self, function: FunctionType) -> None:
        lines, first = inspect.getsourcelines(function)
        self.function, self.file = function, Path(inspect.getsourcefile(function) or "?").name
        self.tree = ast.parse(textwrap.dedent("".join(lines)))
        ast.increment_lineno(self.tree, first - 1)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        self.captured = {name: cell.cell_contents for name, cell in cells if _filled(cell)}
        self.names = {**function.__globals__, **self.captured}
        annotations = {id(part) for node in ast.walk(self.tree) for part in _annotation(node)}
        self.nodes = [node for node in ast.walk(self.tree) if id(node) not in annotations]
        bound = {node.arg for node in self.nodes if isinstance(node, ast.arg)}
        bound |= {node.id for node in self.nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        bound |= {node.name for node in self.nodes[2:] if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        self.local = bound

    def value(self, node: ast.AST) -> Any:
        """What a name, or an attribute of a module, stands for; None where only a run would tell."""
        if isinstance(node, ast.Name):
            return None if node.id in self.local else self.names.get(node.id, getattr(builtins, node.id, None))
        if isinstance(node, ast.Attribute) and isinstance(module := self.value(node.value), ModuleType):
            return getattr(module, node.attr, None) if module.__name__ != "nki" else None
        return None

    def called(self) -> Iterator[FunctionType]:
        """Functions that it names, and methods of classes; not those of the stand-ins and of installed libraries."""
        for node in self.nodes:
            found = self.value(node)
            own = isinstance(found, type) and _is_kernel_code(found) and not issubclass(found, Enum)
            of_class = vars(found).values() if own else ()
            for one in (found, *of_class):
                if isinstance(one, FunctionType) and _is_kernel_code(one):
                    yield one

    def refusals(self) -> Iterator[Finding]:
        """What pages exclude."""
        for node in self.nodes:
            for found, expected, page in _refused(node, self):
                yield self._finding(node, found, expected, page)

    def unshown(self) -> Iterator[Finding]:
        """What no page shows."""
        for node in self.nodes:
            found = _unshown(node, self.tree.body[0])
            if isinstance(node, ast.Name) and isinstance(self.captured.get(node.id), MUTABLE):
                found = f"{node.id}, which a function around it may change"
            if found:
                yield self._finding(node, found, "what the guide shows", "on no page")

    def _finding(self, node: ast.AST, found: str, expected: str, page: str) -> Finding:
        return Finding(self.file, getattr(node, "lineno", self.function.__code__.co_firstlineno), found, expected, page)


def _sources(kernel: Callable[..., Any]) -> Iterator[_Source]:
    """A kernel and the functions that it calls, each once; those without source cannot be read."""
    waiting: list[Any] = [getattr(kernel, "function", kernel)]
    seen: set[CodeType] = set()
    while waiting:
        function = inspect.unwrap(waiting.pop())
        if not isinstance(function, FunctionType) or function.__code__ in seen or function.__name__ == "<lambda>":
            continue
        seen.add(function.__code__)
        try:
            source = _Source(function)
        except (OSError, SyntaxError):
            continue
        yield source
        waiting += source.called()


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _annotation(node: ast.AST) -> Iterator[ast.AST]:
    """Everything within the annotations of a node, which nothing evaluates."""
    for name in ("annotation", "returns"):
        if isinstance(found := getattr(node, name, None), ast.AST):
            yield from ast.walk(found)


def _is_kernel_code(function: FunctionType | type) -> bool:
    return function.__module__.partition(".")[0] not in ("numpy", "ml_dtypes", "torch", "nki", "builtins") and not (
        function.__module__.startswith(OWN)
    )


Refusal = tuple[str, str, str]


def _refused(node: ast.AST, source: _Source) -> Iterator[Refusal]:
    """What is wrong with a node by itself."""
    match node:
        case ast.Compare(ops=ops) if any(isinstance(op, (ast.Is, ast.IsNot)) for op in ops):
            yield "is or is not", "== or !=", f"{MIGRATION}, 0.2 to 0.3"
        case ast.arguments(kwonlyargs=[_, *_]):
            yield "* in a signature", "arguments with defaults at its end", f"{MIGRATION}, 0.2 to 0.3"
        case ast.Yield() | ast.YieldFrom() | ast.GeneratorExp():
            yield "a generator", f"a list; values are {KINDS}", f"{GUIDE}, NKI values"
        case ast.Try() | ast.TryStar() | ast.Match() | ast.AsyncFunctionDef() | ast.AsyncFor() | ast.Await():
            yield type(node).__name__.lower(), "if, for and while", f"{GUIDE}, control flow"
        case ast.With(items=items) if not all(_is_no_reorder(item.context_expr) for item in items):
            yield "with", "with nl.no_reorder() only", "NKI 0.2.0 release notes"
        case ast.Global() | ast.Nonlocal():
            yield f"{type(node).__name__.lower()} {', '.join(node.names)}", "arguments", f"{GUIDE}, kernel caching"
        case ast.Dict(keys=keys) if any(isinstance(key, (ast.Constant, ast.Tuple)) and not _text(key) for key in keys):
            yield "a dict with keys that are not strings", "string keys, or a list", f"{GUIDE}, NKI values"
        case ast.Set() | ast.SetComp():
            yield "a set", KINDS, f"{GUIDE}, NKI values"
        case ast.Constant(value=value) if isinstance(value, UNKNOWN_KINDS):
            yield f"{type(value).__name__} {value!r}", KINDS, f"{GUIDE}, NKI values"
        case ast.Constant(value=int(value)) if not -(2**31) <= value < 2**32:
            yield f"{value}", "an integer of 32 bits", f"{GUIDE}, NKI values"
        case ast.keyword(arg="buffer", value=ast.Constant(value=str(name))):
            yield f"buffer={name!r}", f"nl.{name}", f"{MIGRATION}, 0.2 to 0.3"
        case ast.ClassDef(bases=bases):
            if not any(_text_of(base).endswith("NKIObject") for base in bases) or len(bases) > 1:
                yield f"class {node.name}", "a class of NKIObject and nothing else", f"{GUIDE}, class support"
        case ast.Name(ctx=ast.Load()) | ast.Attribute(ctx=ast.Load()):
            text = _text_of(node)
            yield from _refused_value(text, source.value(node), outside=text not in source.captured)


def _refused_value(name: str, found: Any, outside: bool) -> Iterator[Refusal]:
    """What is wrong with what a name stands for, outside of the kernel and of functions around it or not."""
    if outside and isinstance(found, MUTABLE):
        yield f"{name}, a {type(found).__name__} outside of the kernel", "an argument or a tuple", f"{GUIDE}, caching"
    elif isinstance(found, type) and found in UNKNOWN_KINDS:
        yield f"{name}()", KINDS, f"{GUIDE}, NKI values"
    elif type(found).__name__ == "Kernel" and type(found).__module__.startswith(OWN):
        yield f"{name}, decorated with nki.jit", "a plain function within a kernel", f"{MIGRATION}, 0.1 to 0.2"
    elif isinstance(found, ModuleType) and found.__name__.startswith("neuronxcc"):
        yield found.__name__, "nki", f"{MIGRATION}, 0.3 to 0.4"
    elif isinstance(found, type) and found.__module__ not in ("builtins", "enum") and not _is_nki_class(found):
        yield f"class {name}", "a class of NKIObject, or an Enum", f"{GUIDE}, class support"


def _is_nki_class(found: type) -> bool:
    names = {base.__name__ for base in found.__mro__}
    return issubclass(found, Enum) or "NKIObject" in names or found.__module__.startswith((OWN, "nki"))


def _is_no_reorder(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _text_of(node.func).endswith("no_reorder")


def _text(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _text_of(node: ast.AST) -> str:
    return ast.unparse(node)


def _unshown(node: ast.AST, top: ast.AST) -> str | None:
    """A name for a construct that no page shows; None for any other."""
    match node:
        case ast.ListComp() | ast.DictComp():
            return "a comprehension"
        case ast.Lambda():
            return "lambda"
        case ast.Starred():
            return "a starred expression"
        case ast.arguments(vararg=vararg, kwarg=kwarg) if vararg or kwarg:
            return "* or ** in a signature"
        case ast.NamedExpr():
            return ":="
        case ast.Delete():
            return "del"
        case ast.Import() | ast.ImportFrom():
            return "an import within a function"
        case ast.FunctionDef(name=name) if node is not top:
            return f"function {name} within a function"
        case ast.Call(func=ast.Name(id=name)) if name in UNSHOWN_CALLS:
            return f"{name}()"
    return None

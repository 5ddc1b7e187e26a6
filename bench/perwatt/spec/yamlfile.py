"""YAML files as plain values with the line of every field, so that a mistake found later can name its line.

The dialect is small on purpose: one document, no anchors, no tags, no merge keys, no duplicate keys. Plain scalars are
read by the rules of YAML 1.2, so ``1e6`` is a number, ``off`` a word and ``12:30`` no sexagesimal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.resolver import Resolver

from perwatt import textfile
from perwatt.errors import InputError, expected, shorten

CONSTANTS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
INTEGER = re.compile(r"[-+]?[0-9]{1,4000}")  # Python refuses to read longer ones
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
MAX_DEPTH = 40
KINDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One file.

    Attributes:
        file: its path as the user gave it.
        text: its text as read.
        value: plain Python values.
        lines: 1-based line of every field, by path (``cases[2].params.m``); the whole document is the empty path.
        spans: first character of every plain value in the text and the one after its last, by path.
    """

    file: str
    text: str
    value: Any
    lines: Mapping[str, int]
    spans: Mapping[str, tuple[int, int]]

    def line(self, field: str) -> int:
        """Line of a field, or of the nearest field around it that is in the file."""
        while field and field not in self.lines:
            field = re.sub(r"(\[\d+\]|(^|\.)[^.\[]*)$", "", field)
        return self.lines[field]

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Mistakes raised inside get this file and the line of their field, unless they name a file of their own."""
        try:
            yield
        except InputError as error:
            if error.file is not None:
                raise
            raise error.at(file=self.file, line=self.line(error.field or "")) from None

    def mapping(
        self, field: str, value: Any, kinds: Mapping[str, type | tuple[type, ...]], required: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """A value that has to be a mapping with known keys and values of known kinds.

        Args:
            field: path of the value.
            value: the value itself.
            kinds: type, or types, that each key takes.
            required: keys that must be there.

        Raises:
            InputError: for the first thing that does not fit.
        """
        inside = f"{field}." if field else ""
        for key, item in of_kind(field, value, dict).items():
            if key not in kinds:
                raise InputError(expected(key, kinds), field=inside + key)
            of_kind(inside + key, item, kinds[key])
        for key in required:
            if key not in value:
                raise InputError(f"found no {key!r}, expected one", field=field or None)
        return dict(value)


def of_kind(field: str, value: Any, kinds: type | tuple[type, ...]) -> Any:
    """The value, if it is of one of the kinds. A whole number is a number; true and false are not.

    Raises:
        InputError: it is of another kind.
    """
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if type(value) in kinds or (type(value) is int and float in kinds):
        return value
    found = "nothing" if value is None else shorten(value)
    raise InputError(f"found {found}, expected {' or '.join(KINDS[kind] for kind in kinds)}", field=field or None)


def load(path: str | Path) -> Document:
    """Read and check one file.

    Raises:
        InputError: unreadable, not UTF-8, empty, not YAML, or outside the dialect; with the line.
    """
    file, text = str(path), textfile.read(str(path))
    root = _compose(file, text)
    if root is None:
        raise InputError("empty file, expected a mapping", file=file, line=1)
    places = _Places(lines={"": root.start_mark.line + 1}, spans={})
    try:
        value = _value(root, "", places)
    except InputError as error:
        raise error.at(file=file) from None
    return Document(file=file, text=text, value=value, lines=places.lines, spans=places.spans)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Places:
    """As of :class:`Document`, while it is read."""

    lines: dict[str, int]
    spans: dict[str, tuple[int, int]]


class _Dialect(Composer):
    """Composes nodes and refuses what the dialect has not."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[attr-defined]
        if refused := self._refused(event):
            raise yaml.MarkedYAMLError(problem=f"found {refused}, expected plain values", problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def _refused(self, event: Any) -> str | None:
        if isinstance(event, yaml.AliasEvent):
            return f"alias *{event.anchor}"
        if event.anchor is not None:
            return f"anchor &{event.anchor}"
        if event.tag is not None:
            return f"tag {event.tag}"
        return f"more than {MAX_DEPTH} levels" if self.depth >= MAX_DEPTH else None


class _Loader(_Dialect, yaml.SafeLoader):
    """Parses in Python."""


def _composed_fast(text: str) -> yaml.Node | None:
    """The root node by libyaml, some six times faster; None where PyYAML came without it, or the text has a mistake.

    libyaml words mistakes in its own way, so all messages are left to the parser in Python.
    """
    try:
        from yaml._yaml import CParser
    except ImportError:
        return None

    class Loader(_Dialect, CParser, Resolver):
        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            Resolver.__init__(self)

    try:
        return Loader(text).get_single_node()
    except (yaml.YAMLError, ValueError, OverflowError):
        return None


def _compose(file: str, text: str) -> yaml.Node | None:
    """The root node; what PyYAML raises becomes an InputError with its line."""
    if (node := _composed_fast(text)) is not None:
        return node
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ", ".join(filter(None, (error.context, error.problem)))
        raise InputError(message, file=file, line=mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as error:
        message = f"found character {chr(error.character)!a}, expected text"
        raise InputError(message, file=file, line=text.count("\n", 0, error.position) + 1) from None
    except (ValueError, OverflowError):  # PyYAML 6 hands an escape beyond Unicode to chr()
        message = "found an escape that is no character, expected text"
        raise InputError(message, file=file, line=loader.line + 1 if loader else None) from None


def _value(node: yaml.Node, field: str, places: _Places) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {key: _value(item, path, places) for key, path, item in _entries(node, field, places)}
    if isinstance(node, yaml.SequenceNode):
        paths = [f"{field}[{index}]" for index in range(len(node.value))]
        places.lines.update({path: item.start_mark.line + 1 for path, item in zip(paths, node.value, strict=True)})
        return [_value(item, path, places) for item, path in zip(node.value, paths, strict=True)]
    assert isinstance(node, yaml.ScalarNode)
    places.spans[field] = node.start_mark.index, node.end_mark.index
    return _scalar(node)


def _entries(node: yaml.MappingNode, field: str, places: _Places) -> Iterator[tuple[str, str, yaml.Node]]:
    first: dict[str, int] = {}
    for key, item in node.value:
        line = key.start_mark.line + 1
        name = _scalar(key) if isinstance(key, yaml.ScalarNode) else None
        if not isinstance(name, str):
            found = shorten(name) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
            raise InputError(f"found {found} as a key, expected text", field=field or None, line=line)
        if name == "<<" and not key.style:
            raise InputError("found a merge key <<, expected plain keys", field=field or None, line=line)
        path = f"{field}.{name}" if field else name
        if name in first:
            raise InputError(f"duplicate key {name!r}, first in line {first[name]}", field=path, line=line)
        first[name] = places.lines[path] = line
        yield name, path, item


def _scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    text = str(node.value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError(f"found {shorten(text)}, expected characters", line=node.start_mark.line + 1)
    if node.style:  # quoted, or a block: text whatever it looks like; plain is "" in libyaml, else None
        return text
    if text in CONSTANTS:
        return CONSTANTS[text]
    if INTEGER.fullmatch(text):
        return int(text)
    return _number(text, node) if NUMBER.fullmatch(text) else text


def _number(text: str, node: yaml.ScalarNode) -> int | float:
    """``1e6`` is the whole number 1000000, so that it fits where one is asked for."""
    number = float(text)
    if not math.isfinite(number):
        raise InputError(f"found {shorten(text)}, expected a number below 1.8e308", line=node.start_mark.line + 1)
    return int(number) if number.is_integer() else number

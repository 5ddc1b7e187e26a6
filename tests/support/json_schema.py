"""As much of JSON schema as our own schemas use; any other keyword is an error, so that none is passed over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
PLAIN = {"$schema", "$defs", "title", "description"}


def problems(schema: dict[str, Any], value: Any, root: dict[str, Any] | None = None, path: str = "$") -> Iterator[str]:
    """What of a value its schema does not allow."""
    root = root or schema
    if any(wrong := list(_type(schema, schema["type"], value, root, path)) if "type" in schema else []):
        yield from wrong
        return
    for keyword, rule in schema.items():
        if keyword not in PLAIN:
            yield from CHECKS[keyword](schema, rule, value, root, path)


def _ref(schema: Any, rule: str, value: Any, root: Any, path: str) -> Iterator[str]:
    yield from problems(root["$defs"][rule.rpartition("/")[2]], value, root, path)


def _type(schema: Any, rule: str, value: Any, root: Any, path: str) -> Iterator[str]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {"number": number, "integer": number and value == int(value)}.get(rule)
    if not (isinstance(value, TYPES[rule]) if fits is None else fits):
        yield f"{path}: not of type {rule}"


def _properties(schema: Any, rule: Any, value: Any, root: Any, path: str) -> Iterator[str]:
    for name in rule.keys() & value.keys():
        yield from problems(rule[name], value[name], root, f"{path}.{name}")


def _additional(schema: Any, rule: Any, value: Any, root: Any, path: str) -> Iterator[str]:
    for name in value.keys() - schema.get("properties", {}).keys():
        if rule is False:
            yield f"{path}.{name}: unknown"
        else:
            yield from problems(rule, value[name], root, f"{path}.{name}")


def _items(schema: Any, rule: Any, value: Any, root: Any, path: str) -> Iterator[str]:
    for index, item in enumerate(value):
        yield from problems(rule, item, root, f"{path}[{index}]")


def _any_of(schema: Any, rule: Any, value: Any, root: Any, path: str) -> Iterator[str]:
    if all(any(problems(option, value, root, path)) for option in rule):
        yield f"{path}: fits none of {len(rule)} options"


def _test(wrong: Any) -> Any:
    def check(schema: Any, rule: Any, value: Any, root: Any, path: str) -> Iterator[str]:
        if wrong(rule, value):
            yield f"{path}: {value!r} against {rule!r}"

    return check


CHECKS: dict[str, Any] = {
    "$ref": _ref,
    "type": _type,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "anyOf": _any_of,
    "required": _test(lambda rule, value: not set(rule) <= set(value)),
    "enum": _test(lambda rule, value: value not in rule),
    "minimum": _test(lambda rule, value: value < rule),
    "exclusiveMinimum": _test(lambda rule, value: value <= rule),
    "minItems": _test(lambda rule, value: len(value) < rule),
    "minLength": _test(lambda rule, value: len(value) < rule),
    "pattern": _test(lambda rule, value: not re.search(rule, value)),
}

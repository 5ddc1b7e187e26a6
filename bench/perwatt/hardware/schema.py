"""JSON schemas of sheets, systems, prices and the bibliography, made from the parts they are read into.

``python -m perwatt.hardware.schema`` writes ``configs/schemas`` anew; a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from perwatt import configs
from perwatt.hardware.chips import Chip
from perwatt.hardware.figure import Source
from perwatt.hardware.prices import PriceList
from perwatt.hardware.reader import LEAST, Part, optional, required, shape
from perwatt.hardware.systems import Family

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema with the name of its file."""
    for name, cls, title in (
        ("chip", Chip, "a chip sheet"), ("systems", Family, "systems of a family"), ("prices", PriceList, "prices"),
    ):  # fmt: skip
        named: dict[str, Any] = {}
        yield f"{name}.json", {"$schema": DRAFT, "title": title, **_define(cls, named), "$defs": named}
    named = {}
    entry = _define(Source, named)
    yield "sources.json", {
        "$schema": DRAFT, "title": "the bibliography", "type": "object", "additionalProperties": entry, "$defs": named,
    }  # fmt: skip


def _define(cls: type[Part], named: dict[str, Any]) -> dict[str, Any]:
    if cls.__name__ not in named:
        named[cls.__name__] = {}  # keeps a part that holds itself from going on for ever
        known = shape(cls)
        properties = {
            name: _schema(hint, entry.metadata, named) | _doc(entry.metadata) for name, (hint, entry) in known.items()
        }
        needed = [n for n, (_, entry) in known.items() if required(entry)]
        named[cls.__name__] = {
            "type": "object", "description": (cls.__doc__ or "").partition("\n")[0],
            "additionalProperties": False, "properties": properties, **_needed(needed, "base" in known),
        }  # fmt: skip
    return {"$ref": f"#/$defs/{cls.__name__}"}


def _needed(names: list[str], has_base: bool) -> dict[str, Any]:
    """A file with a base may leave out what the base has."""
    if has_base:
        return {"anyOf": [{"required": ["base"]}, {"required": names}]}
    return {"required": names} if names else {}


def _doc(rules: Mapping[str, Any]) -> dict[str, str]:
    return {"description": rules["doc"]} if "doc" in rules else {}


def _schema(hint: Any, rules: Mapping[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return {"anyOf": [_schema(optional(arguments), rules, named), {"type": "null"}]}
    if origin is tuple:
        some = {"minItems": 1} if rules.get("some") else {}
        return {"type": "array", "items": _schema(arguments[0], {}, named), **some}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], {}, named)}
    if origin is Literal:
        return {"enum": list(arguments)}
    if issubclass(hint, Part):
        return _define(hint, named)
    if hint in (int, float):
        least = (
            {"exclusiveMinimum": rules["above"]} if "above" in rules else {"minimum": rules.get("least", LEAST[hint])}
        )
        return {"type": "integer" if hint is int else "number", **least}
    if hint is bool:
        return {"type": "boolean"}
    pattern = {"pattern": f"^(?:{rules['pattern']})$"} if "pattern" in rules else {}
    return {"type": "string", **pattern, **({"minLength": 1} if rules.get("some") else {})}


if __name__ == "__main__":
    for name, schema in schemas():
        path = configs.root() / "schemas" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")

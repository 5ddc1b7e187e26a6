"""Plain values from a file as frozen dataclasses, checked by their type hints.

It does for sheets what pydantic does elsewhere, in the few kinds of field that sheets have. ``perwatt chips`` has to
answer at once, and importing pydantic and building its models alone took as long as all the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

from perwatt.errors import InputError, expected, shorten
from perwatt.spec.yamlfile import of_kind

P = TypeVar("P", bound="Part")
OWN = {"own": True}
"""Rules of a field that is filled in after reading, and stands in no file."""
LEAST = {int: 1, float: 0}  # whole numbers count things
_SHAPES: dict[type, Mapping[str, tuple[Any, Field[Any]]]] = {}


@dataclass(frozen=True, kw_only=True)
class Part:
    """What every part of a sheet has in common: no unknown fields, no change once read."""

    def check(self) -> None:
        """Refuse what the fields by themselves allow.

        Raises:
            InputError: with a field below this part, or without one.
        """


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def part(cls: type[P]) -> type[P]:
    """Decorator of a part: a frozen dataclass with fields by name."""
    return dataclass(frozen=True, kw_only=True)(cls)


def rule(default: Any = MISSING, **rules: Any) -> Any:
    """A field with rules.

    Args:
        default: value where the file has none; without it the field has to be there.
        rules: ``least`` and ``above`` of a number, ``pattern`` of text, ``some`` for text or lists that are not empty,
            ``doc``.
    """
    return field(metadata=rules) if default is MISSING else field(default=default, metadata=rules)


def build(cls: type[P], value: Any, path: str = "") -> P:
    """A part from a mapping.

    Raises:
        InputError: for the first thing that does not fit, with its path.
    """
    known = shape(cls)
    given = of_kind(path, value, dict)
    for key in given:
        if key not in known:
            raise InputError(expected(key, known, "a field"), field=_inside(path, key))
    made = {}
    for name, (hint, entry) in known.items():
        if name in given:
            made[name] = _value(hint, given[name], _inside(path, name), entry.metadata)
        elif required(entry):
            raise InputError("found nothing, expected a value", field=_inside(path, name))
    built = cls(**made)
    try:
        built.check()
    except InputError as error:
        raise InputError(error.message, field=_inside(path, error.field or "") or None) from None
    return built


def shape(cls: type[Part]) -> Mapping[str, tuple[Any, Field[Any]]]:
    """Type hint and rules of every field that stands in a file."""
    if cls not in _SHAPES:
        _SHAPES[cls] = _shape(cls)
    return _SHAPES[cls]


def _shape(cls: type[Part]) -> Mapping[str, tuple[Any, Field[Any]]]:
    hints = get_type_hints(cls)
    return {entry.name: (hints[entry.name], entry) for entry in fields(cls) if "own" not in entry.metadata}


def required(entry: Field[Any]) -> bool:
    """Whether a file has to have the field."""
    return entry.default is MISSING and entry.default_factory is MISSING


def parts(value: Any, path: str = "") -> Iterator[tuple[str, Part]]:
    """Every part inside a value, itself included, with its path."""
    if isinstance(value, Part):
        yield path, value
        items: Any = ((_inside(path, name), getattr(value, name)) for name in shape(type(value)))
    elif isinstance(value, tuple):
        items = ((f"{path}[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, dict):
        items = ((_inside(path, key), item) for key, item in value.items())
    else:
        return
    for inside, item in items:
        if isinstance(item, (Part, tuple, dict)):
            yield from parts(item, inside)


def plain(value: Any) -> Any:
    """A part as mappings, lists and scalars."""
    if isinstance(value, Part):
        return {name: plain(getattr(value, name)) for name in shape(type(value))}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _value(hint: Any, value: Any, path: str, rules: Mapping[str, Any]) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return None if value is None else _value(optional(arguments), value, path, rules)
    if origin is tuple:
        items = of_kind(path, value, list)
        if rules.get("some") and not items:
            raise InputError("found an empty list, expected one entry at least", field=path)
        return tuple(_value(arguments[0], item, f"{path}[{index}]", {}) for index, item in enumerate(items))
    if origin is dict:
        items = of_kind(path, value, dict)
        return {key: _value(arguments[1], item, _inside(path, key), {}) for key, item in items.items()}
    if origin is Literal:
        if value not in arguments:
            raise InputError(expected(value, arguments), field=path)
        return value
    if issubclass(hint, Part):
        return build(hint, value, path)
    return _scalar(hint, value, path, rules)


def optional(arguments: tuple[Any, ...]) -> Any:
    """The other half of ``X | None``."""
    (inner,) = (argument for argument in arguments if argument is not NoneType)
    return inner


def _scalar(kind: type, value: Any, path: str, rules: Mapping[str, Any]) -> Any:
    of_kind(path, value, kind)
    if kind in (int, float) and value < (least := rules.get("least", LEAST[kind])):
        raise InputError(f"found {value}, expected at least {least}", field=path)
    if "above" in rules and not value > rules["above"]:
        raise InputError(f"found {value}, expected more than {rules['above']}", field=path)
    if kind is str and rules.get("some") and not value:
        raise InputError("found empty text, expected some", field=path)
    if kind is str and "pattern" in rules and not re.fullmatch(rules["pattern"], value):
        raise InputError(f"found {shorten(value)}, expected {rules['doc']}", field=path)
    return float(value) if kind is float else value

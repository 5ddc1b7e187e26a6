"""Plain fields from a file as a pydantic object; what does not fit is one InputError with its path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from perwatt.errors import InputError, expected, shorten

LIMITS = {
    "greater_than_equal": "at least", "less_than_equal": "at most", "greater_than": "more than",
    "less_than": "less than", "multiple_of": "a multiple of",
}  # fmt: skip
KINDS = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "string": "text", "list": "a list",
    "tuple": "a list", "dict": "a mapping", "model": "a mapping", "finite": "a finite number",
}  # fmt: skip
"""What pydantic's types of errors ask for, by their first word."""
M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], fields: Mapping[str, Any], where: str) -> M:
    """``fields`` as an object of ``model``.

    Raises:
        InputError: for the first field that does not fit, with its path under ``where`` (``params.betas[1]``).
    """
    for name, field in model.model_fields.items():
        if isinstance(fields.get(name), (bool, str)) and field.annotation in (int, float):  # pydantic takes both
            raise InputError(f"found {fields[name]!r}, expected a number", field=f"{where}.{name}")
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a misspelt name is missing as well
        raise InputError(_message(model, first), field=where + _path(fields, first["loc"])) from None


def _message(model: type[BaseModel], error: Mapping[str, Any]) -> str:
    """What was found and what was expected, of one error of pydantic."""
    match error["type"]:
        case "extra_forbidden":
            return expected(error["loc"][-1], _names(model, error["loc"]), "a field")
        case "missing":
            return "found nothing, expected a value"
        case "literal_error":
            return expected(error["input"], re.findall(r"'([^']*)'", error["ctx"]["expected"]))
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than" | "multiple_of" as kind:
            ((_, limit),) = error["ctx"].items()
            shown = format(limit, "g") if isinstance(limit, float) else limit
            return f"found {shorten(error['input'])}, expected {LIMITS[kind]} {shown}"
        case "value_error":  # of a validator, which says what it found
            return str(error["msg"]).removeprefix("Value error, ")
    kind = str(error["type"]).split("_")[0]
    if kind in KINDS and not str(error["type"]).endswith(("long", "short")):
        found = "nothing" if error["input"] is None else shorten(error["input"])
        return f"found {found}, expected {KINDS[kind]}"
    return f"found {shorten(error['input'])}, {error['msg'][:1].lower()}{error['msg'][1:]}"


def _names(model: type[BaseModel], loc: Iterable[Any]) -> list[str]:
    """Names of the fields beside the one at a place, where those are models all the way."""
    *around, _ = loc
    for part in around:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def _path(value: Any, loc: Iterable[Any]) -> str:
    """Path of a place in a value, without the names of union members that pydantic puts in between."""
    path = ""
    for part in loc:
        if isinstance(value, Mapping):
            path, value = f"{path}.{part}", value.get(part)
        elif isinstance(value, (list, tuple)) and isinstance(part, int):
            path, value = f"{path}[{part}]", value[part] if part < len(value) else None
        else:
            break
    return path

"""Tables of printed figures: what a source prints, and nothing that was worked out from it.

One YAML file for each table, with the sources it cites, the shapes of models that have no sheet, and its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from perwatt import configs
from perwatt.errors import InputError, expected
from perwatt.results.published import peaks
from perwatt.results.published.conventions import CONVENTIONS
from perwatt.results.published.entry import Entry, Model, Part, Source, Text
from perwatt.spec.fields import validated
from perwatt.spec.model import ModelShape, resolve
from perwatt.spec.yamlfile import Document, load, of_kind

SECTIONS = {"about": str, "sources": dict, "models": dict, "defaults": dict, "rows": list}
P = TypeVar("P", bound=Part)


class Table(Part):
    """One file.

    Attributes:
        shapes: by name, of the models of its rows; None of one whose operations are not counted.
        uncounted: why they are not.
        sparse: names of models that are mixtures of experts.
    """

    name: str
    about: Text
    sources: Mapping[str, Source]
    shapes: Mapping[str, ModelShape | None]
    uncounted: Mapping[str, str]
    sparse: frozenset[str] = frozenset()
    rows: tuple[Entry, ...]

    def shape(self, entry: Entry) -> ModelShape | None:
        """Of the row's model; None where it has none, or one that is not counted."""
        return self.shapes[entry.model] if entry.model else None


def read(path: str | Path) -> Table:
    """One table.

    Raises:
        InputError: for the first thing that is wrong, with file, line and field.
    """
    document = load(path)
    with document.placed():
        return _table(Path(path).stem, document)


def _table(name: str, document: Document) -> Table:
    content = document.mapping("", document.value, SECTIONS, required=("about", "sources", "rows"))
    sources = {key: _part(Source, fields, f"sources.{key}") for key, fields in content["sources"].items()}
    models = {key: _part(Model, fields, f"models.{key}") for key, fields in content.get("models", {}).items()}
    shapes = {key: _shape(model, f"models.{key}") for key, model in models.items()}
    defaults = content.get("defaults", {})
    for key in defaults:
        if key not in _fields():
            raise InputError(expected(key, _fields()), field=f"defaults.{key}")
    entries = [_entry(defaults, fields, f"rows[{i}]", sources, shapes) for i, fields in enumerate(content["rows"])]
    reasons = {key: model.uncounted for key, model in models.items() if model.uncounted}
    sparse = {key for key, model in models.items() if model.experts}
    sparse |= {key for key, shape in shapes.items() if shape and shape.experts}
    return Table(
        name=name, about=content["about"], sources=sources, shapes=shapes, uncounted=reasons, sparse=frozenset(sparse),
        rows=tuple(entries),
    )  # fmt: skip


def _entry(
    defaults: Mapping[str, Any], fields: Any, place: str, sources: Mapping[str, Source],
    shapes: dict[str, ModelShape | None],
) -> Entry:  # fmt: skip
    given = {**defaults, **of_kind(place, fields, dict)}
    entry = _part(Entry, {key: value for key, value in given.items() if value is not None}, place)
    if entry.source not in sources:
        raise InputError(expected(entry.source, sources), field=f"{place}.source")
    named = {"convention": entry.convention} | {f"worked_out.{key}": key for key in entry.worked_out}
    for field, key in named.items():
        if key is not None and key not in CONVENTIONS:
            raise InputError(expected(key, CONVENTIONS), field=f"{place}.{field}")
    if entry.model and entry.model not in shapes:
        shapes[entry.model] = _named(entry.model, shapes, f"{place}.model")
    for problem in entry.gaps():
        raise InputError(problem, field=place)
    _check_sheet(entry, place)
    return entry


def _check_sheet(entry: Entry, place: str) -> None:
    """The chip must have a sheet, and the sheet a peak for the format."""
    try:
        if entry.chip is not None:
            peaks.sheet(entry.chip)
        _ = entry.whole
    except InputError as error:
        raise InputError(error.message, field=f"{place}.{error.field}") from None


def _named(name: str, known: Mapping[str, Any], place: str) -> ModelShape:
    names = {*known, *configs.names("models")}
    if name not in names:
        raise InputError(expected(name, names), field=place)
    return resolve(name)


def _shape(model: Model, place: str) -> ModelShape | None:
    if (model.shape is None) == (model.uncounted is None):
        raise InputError("found both or neither of shape and uncounted, expected one", field=place)
    if model.shape is None:
        return None
    base = _named(model.like, {}, f"{place}.like").model_dump(mode="json") if model.like else {}
    try:
        return resolve(base | model.shape)
    except InputError as error:
        raise InputError(error.message, field=f"{place}.shape") from None


def _part(model: type[P], fields: Any, place: str) -> P:
    return validated(model, of_kind(place, fields, dict), place)


def _fields() -> list[str]:
    return [field.alias or name for name, field in Entry.model_fields.items()]

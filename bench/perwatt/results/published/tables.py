"""Tables of printed figures: what a source prints, and nothing that was worked out from it.

One YAML file for each table, with the sources it cites, the shapes of models that have no sheet, and its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from perwatt import configs
from perwatt.errors import InputError, expected
from perwatt.results.published.conventions import CONVENTIONS, UNKNOWN
from perwatt.results.published.rules import DATE
from perwatt.spec.fields import validated
from perwatt.spec.model import ModelShape, resolve
from perwatt.spec.yamlfile import Document, load, of_kind

Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f-\x9f\u200b-\u202e\u2028-\u2069\ufeff]*$")]
Positive = Annotated[float, Field(gt=0, strict=True)]
Count = Annotated[int, Field(ge=1)]
Grade = Literal["A", "B", "C"]
Date = Annotated[str, Field(pattern=f"^{DATE.pattern}$")]
SECTIONS = {"about": str, "sources": dict, "models": dict, "defaults": dict, "rows": list}
UNITS = {
    "sequences_per_s": "sequence/s", "tokens_per_s_per_chip": "token/s per chip", "tflops_per_chip": "TFLOP/s per chip",
    "tflops": "TFLOP/s", "gbps": "GB/s", "time_us": "us", "minutes": "min", "mfu": "% MFU", "hfu": "% HFU",
    "energy_mj": "MJ", "text": "",
}  # fmt: skip


class Part(BaseModel):
    """What all parts of a table have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(Part):
    """Where figures were printed."""

    where: Text
    date: Date
    grade: Grade


class Figures(Part):
    """What was printed, each figure in the unit of :data:`UNITS`; MFU and HFU in percent."""

    sequences_per_s: Positive | None = None
    tokens_per_s_per_chip: Positive | None = None
    tflops_per_chip: Positive | None = None
    tflops: Positive | None = None
    gbps: Positive | None = None
    time_us: Positive | None = None
    minutes: Positive | None = None
    mfu: Annotated[float, Field(gt=0, le=100, strict=True)] | None = None
    hfu: Annotated[float, Field(gt=0, le=100, strict=True)] | None = None
    energy_mj: Positive | None = None
    text: Text | None = None

    def __str__(self) -> str:
        given = {name: value for name, value in self.model_dump().items() if value is not None}
        return "; ".join(f"{_shown(value)} {UNITS[name]}".rstrip() for name, value in given.items())


class Entry(Part):
    """One row of a table.

    Attributes:
        what: what was done, where it is no training of a model.
        detail: what tells the row from others of the same work.
        peak: number format whose peak the MFU is of; ``precision`` unless given.
        printed_peak: TFLOP/s that the source names as the whole of its MFU, where it names them.
        chip: name of the sheet.
        chip_called: what the source calls it, where there is no sheet of its own.
        unit: what the rate is of, ``device`` for one logical NeuronCore.
        convention: name in :data:`~perwatt.results.published.conventions.CONVENTIONS`.
        printed: figures as printed.
        worked_out: MFU in percent by convention, that others worked out from what the source prints.
    """

    workload: Literal["train_step", "gemm", "attention", "memory", "time_to_train"] = "train_step"
    what: Text | None = None
    model: Text | None = None
    seq: Count | None = None
    m: Count | None = None
    n: Count | None = None
    k: Count | None = None
    pass_: Literal["fwd", "bwd", "fwd+bwd", "step"] | None = Field(default=None, alias="pass")
    precision: Text | None = None
    peak: Text | None = None
    printed_peak: Positive | None = None
    chip: Text | None = None
    chip_called: Text | None = None
    chips: Count | None = None
    unit: Literal["chip", "device"] = "chip"
    lnc: Literal[1, 2] | None = None
    placement: Literal["device", "chip", "node", "cluster"] | None = None
    instance_type: Text | None = None
    impl: Text | None = None
    parallel: Text | None = None
    detail: Text | None = None
    power_limit_w: Positive | None = None
    power_scope: Text | None = None
    source: Text
    date: Date | None = None
    grade: Grade | None = None
    convention: Text | None = None
    printed: Figures
    worked_out: dict[str, Positive] = {}
    note: Text | None = None

    @property
    def tokens_per_s_per_chip(self) -> float | None:
        """As printed, or from sequences a second of all chips."""
        if self.printed.sequences_per_s and self.seq and self.chips:
            return self.printed.sequences_per_s * self.seq / self.chips
        return self.printed.tokens_per_s_per_chip


class Model(Part):
    """A model of a table that has no sheet: a shape, or why there is none; ``like`` is a sheet to start from."""

    like: Text | None = None
    shape: dict[str, Any] | None = None
    uncounted: Text | None = None


class Table(Part):
    """One file.

    Attributes:
        shapes: by name, of the models of its rows; None of one whose operations are not counted.
        uncounted: why they are not.
    """

    name: str
    about: Text
    sources: Mapping[str, Source]
    shapes: Mapping[str, ModelShape | None]
    uncounted: Mapping[str, str]
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
    return Table(
        name=name, about=content["about"], sources=sources, shapes=shapes, uncounted=reasons, rows=tuple(entries)
    )


def _entry(
    defaults: Mapping[str, Any], fields: Any, place: str, sources: Mapping[str, Source],
    shapes: dict[str, ModelShape | None],
) -> Entry:  # fmt: skip
    given = {**defaults, **of_kind(place, fields, dict)}
    entry = _part(Entry, {key: value for key, value in given.items() if value is not None}, place)
    if entry.source not in sources:
        raise InputError(expected(entry.source, sources), field=f"{place}.source")
    for key in filter(None, (entry.convention, *entry.worked_out)):
        if key not in CONVENTIONS:
            raise InputError(expected(key, CONVENTIONS), field=f"{place}.convention")
    if entry.model and entry.model not in shapes:
        shapes[entry.model] = _named(entry.model, shapes, f"{place}.model")
    for problem in _gaps(entry):
        raise InputError(problem, field=place)
    return entry


def _gaps(entry: Entry) -> Iterator[str]:
    """What the fields of a row lack together."""
    if not str(entry.printed):
        yield "found no printed figure, expected one"
    if not (entry.model or entry.what):
        yield "found neither model nor what, expected one"
    if not (entry.chip or entry.chip_called):
        yield "found neither chip nor chip_called, expected one"
    rated = entry.printed.mfu is not None or entry.printed.tflops_per_chip is not None
    if rated and entry.convention is None:
        yield f"found an MFU or a rate of operations without convention, expected one ({UNKNOWN!r} where it is not known)"


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


def _part(model: type[Any], fields: Any, place: str) -> Any:
    return validated(model, of_kind(place, fields, dict), place)


def _fields() -> list[str]:
    return [field.alias or name for name, field in Entry.model_fields.items()]


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.12g}"

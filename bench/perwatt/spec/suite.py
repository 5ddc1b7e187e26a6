"""Suites: YAML files that name cases, with defaults and sweeps (design, section 7).

A suite is read in three steps: the file into plain values with lines, each entry of ``cases`` into its combinations,
each combination into a :class:`Case`. Whatever is wrong is one InputError with the line in the file.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from perwatt import configs, workloads
from perwatt.errors import InputError, expected, shorten
from perwatt.spec import kinds, yamlfile
from perwatt.spec.attached import Attached
from perwatt.spec.case import Case, Measure, Mode, Pass, build
from perwatt.spec.fields import validated
from perwatt.spec.yamlfile import Document, of_kind
from perwatt.workloads.base import Workload

MAX_CASES, MAX_CASES_YES = 10_000, 1_000_000
MAX_WINDOW_S = 86_400
ENERGY_MODES = ("auto", "off", "headline", "all")
Kinds = dict[str, type | tuple[type, ...]]
SHARED: Kinds = {
    "precision": str, "pass": str, "grad": bool, "impl": (list, str), "data": str, "placement": str, "mode": str,
    "parallel": str,
}  # fmt: skip
CASE: Kinds = {"workload": str, "params": dict, "sweep": dict, "measure": dict, "name": str, **SHARED}
SUITE: Kinds = {
    "suite": str, "description": str, "defaults": dict, "measure": dict, "energy": (str, bool, dict), "cases": list,
}  # fmt: skip
SWEPT = ("pass", "precision")  # what can be swept besides parameters of the workload


@dataclass(frozen=True, kw_only=True, slots=True)
class Energy:
    """For which cases energy is measured, in a window of its own.

    Attributes:
        mode: ``auto`` (as the sensor allows), ``off``, ``headline`` (at most six cases), ``all``.
        window_s: length of the window; None leaves it to the sensor.
    """

    mode: str = "auto"
    window_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """A named list of cases.

    Attributes:
        text: the file as a run keeps it: with paths of the files that it names as they are in the run's folder.
        attached: text of those files, by such a path.
        file: path of the suite.
    """

    name: str
    description: str
    cases: tuple[Case, ...]
    energy: Energy
    text: str
    attached: Mapping[str, str]
    file: str


def load(suite: str, *, yes: bool = False) -> Suite:
    """A suite by path or shipped name, every case built and checked.

    Args:
        suite: a path (an existing file, or a name with ``/``, ``.yaml`` or ``.yml``), else a shipped name.
        yes: allow more than ``MAX_CASES`` cases.

    Raises:
        InputError: with file, line, field, what was found and what was expected.
    """
    document = yamlfile.load(_find(suite))
    kinds.expect(document, "suite")
    with document.placed():
        return _suite(document, yes)


def _find(suite: str) -> Path:
    path = Path(suite)
    return path if path.is_file() or "/" in suite or path.suffix in (".yaml", ".yml") else configs.find("suites", suite)


@dataclass(kw_only=True, slots=True)
class _Entry:
    """One item of ``cases``.

    Attributes:
        place: its path in the file.
        fields: what :func:`build` takes, without what is swept.
        origins: path in the file of fields that do not stand in the case itself.
        sweep: values by swept name.
    """

    place: str
    fields: dict[str, Any]
    sweep: dict[str, list[Any]]
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return math.prod(map(len, self.sweep.values()))

    @property
    def whole(self) -> str:
        """Path of what makes it as many cases as it is."""
        return f"{self.place}.sweep" if self.sweep else self.place


def _suite(document: Document, yes: bool) -> Suite:
    top = document.mapping("", document.value, SUITE, required=("suite", "cases"))
    defaults = _defaults(document, top.get("defaults", {}))
    measure = top.get("measure", {})
    validated(Measure, measure, "measure")
    if not top["cases"]:
        raise InputError("found no case, expected at least one", field="cases")
    attached = Attached(document)
    entries = [
        _entry(document, attached, f"cases[{i}]", item, defaults, measure) for i, item in enumerate(top["cases"])
    ]
    _check_count(entries, MAX_CASES_YES if yes else MAX_CASES)
    cases = tuple(_distinct(document, entries))
    text, files = attached.kept()
    return Suite(
        name=_label(top["suite"], "suite"),
        description=_label(top["description"], "description") if "description" in top else "",
        cases=cases,
        energy=_energy(document, top.get("energy", "auto")),
        text=text,
        attached=files,
        file=document.file,
    )


def _label(text: str, place: str) -> str:
    if not text.strip() or not text.isprintable():
        raise InputError(f"found {shorten(text)}, expected one line of text", field=place)
    return text


def _energy(document: Document, value: Any) -> Energy:
    if value is False:  # `off` as YAML 1.1 reads it
        return Energy(mode="off")
    if not isinstance(value, dict):
        if value not in ENERGY_MODES:
            raise InputError(expected(value, [*ENERGY_MODES, "{window_s: N}"]), field="energy")
        return Energy(mode=value)
    window_s = document.mapping("energy", value, {"window_s": float}, required=("window_s",))["window_s"]
    if not 0 < window_s <= MAX_WINDOW_S:
        raise InputError(f"found {window_s}, expected seconds above 0, at most {MAX_WINDOW_S}", field="energy.window_s")
    return Energy(window_s=float(window_s))


def _defaults(document: Document, value: Any) -> dict[str, Any]:
    """The defaults, where a pass or impl that no workload has at all is a mistake."""
    defaults = document.mapping("defaults", value, SHARED)
    if "pass" in defaults and defaults["pass"] not in get_args(Pass):
        raise InputError(expected(defaults["pass"], get_args(Pass)), field="defaults.pass")
    if "mode" in defaults and defaults["mode"] not in get_args(Mode):
        raise InputError(expected(defaults["mode"], get_args(Mode)), field="defaults.mode")
    if "parallel" in defaults:
        layouts = {name for workload in workloads.available().values() for name in workload.layouts}
        if defaults["parallel"] not in layouts:
            raise InputError(expected(defaults["parallel"], layouts), field="defaults.parallel")
    if "impl" in defaults:
        known = {name for workload in workloads.available().values() for name in workload.impls()}
        listed = isinstance(defaults["impl"], list)
        defaults["impl"] = _impls(defaults["impl"], "defaults.impl")
        for index, name in enumerate(defaults["impl"]):
            if not any(name in workload.impls() for workload in workloads.available().values()):
                raise InputError(expected(name, known), field="defaults.impl" + (f"[{index}]" if listed else ""))
    return defaults


def _impls(value: Any, place: str) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not names:
        raise InputError("found no impl, expected at least one", field=place)
    return [of_kind(f"{place}[{index}]", name, str) for index, name in enumerate(names)]


def _entry(
    document: Document, attached: Attached, place: str, item: Any, defaults: Mapping[str, Any],
    measure: Mapping[str, Any],
) -> _Entry:  # fmt: skip
    given = document.mapping(place, item, CASE, required=("workload",))
    if given["workload"] not in workloads.available():
        raise InputError(expected(given["workload"], workloads.available()), field=f"{place}.workload")
    sweep = _sweep(place, given)
    if "name" in given:
        _label(given["name"], f"{place}.name")
    paths = workloads.get(given["workload"]).paths
    given["params"] = attached.located(given.get("params", {}), paths, f"{place}.params")
    entry = _Entry(place=place, fields={**given}, sweep=attached.located(sweep, paths, f"{place}.sweep"))
    if "impl" in given:
        entry.fields["impl"] = _impls(given["impl"], f"{place}.impl")
        if isinstance(given["impl"], str):
            entry.origins["impl[0]"] = f"{place}.impl"
    _inherit(entry, defaults, measure)
    return entry


def _sweep(place: str, given: dict[str, Any]) -> dict[str, list[Any]]:
    """What is swept, taken out of the case's own fields."""
    sweep: dict[str, list[Any]] = given.pop("sweep", {})
    known = [*workloads.get(given["workload"]).Params.model_fields, *SWEPT]
    for name, values in sweep.items():
        if name not in known:
            raise InputError(expected(name, known), field=f"{place}.sweep.{name}")
        if not of_kind(f"{place}.sweep.{name}", values, list):
            raise InputError("found no value, expected at least one", field=f"{place}.sweep.{name}")
        if name in given.get("params", {}) or (name in SWEPT and name in given):
            raise InputError(f"{name!r} is both given and swept", field=f"{place}.sweep.{name}")
    return sweep


def _inherit(entry: _Entry, defaults: Mapping[str, Any], measure: Mapping[str, Any]) -> None:
    """Fill in defaults of the suite, leaving out a pass, impl, mode or layout that the case's workload has not."""
    workload, given = workloads.get(entry.fields["workload"]), dict(entry.fields)
    for name, value in defaults.items():
        if name in entry.fields or _foreign(name, value, workload, {**defaults, **given}, given):
            continue
        if name == "impl":
            value = [impl for impl in value if impl in workload.impls()]
        entry.fields[name] = value
        entry.origins[name] = f"defaults.{name}"
    own = entry.fields.get("measure", {})
    entry.fields["measure"] = {**measure, **own}
    entry.origins |= {f"measure.{name}": f"measure.{name}" for name in measure if name not in own}


def _foreign(name: str, value: Any, workload: Workload, fields: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether a default says nothing for a case: its workload has no such thing, or the case itself says otherwise."""
    match name:
        case "pass":
            return value not in workload.passes
        case "mode":
            return not workload.layouts or "parallel" in given
        case "parallel":
            return value not in workload.layouts or fields.get("mode") == "replicate"
    return False


def _check_count(entries: list[_Entry], most: int) -> None:
    """Refuse a large product before it is expanded."""
    for entry, total in zip(entries, itertools.accumulate(entry.count for entry in entries), strict=True):
        if total > most:
            more = " (--yes allows more)" if most == MAX_CASES else ""
            message = f"found {total:,} cases, expected at most {most:,}{more}"
            raise InputError(message, field=entry.whole)


def _distinct(document: Document, entries: list[_Entry]) -> Iterator[Case]:
    """Every case, refusing one whose work another does with the same impl."""
    seen: dict[tuple[str, str], str] = {}
    for entry in entries:
        for picked in itertools.product(*(range(len(values)) for values in entry.sweep.values())):
            case = _case(entry, dict(zip(entry.sweep, picked, strict=True)))
            for key in ((case.identity, impl) for impl in case.impls):
                if key in seen:
                    message = f"duplicate case: {case.name} by {key[1]} is in line {document.line(seen[key])} already"
                    raise InputError(message, field=entry.whole)
                seen[key] = entry.whole
            yield case


def _case(entry: _Entry, picked: Mapping[str, int]) -> Case:
    fields = {**entry.fields, "params": dict(entry.fields["params"])}
    origins = dict(entry.origins)
    for name, at in picked.items():
        target = fields if name in SWEPT else fields["params"]
        target[name] = entry.sweep[name][at]
        origins[name if name in SWEPT else f"params.{name}"] = f"{entry.place}.sweep.{name}[{at}]"
    shown = " ".join(f"{name}={entry.sweep[name][at]}" for name, at in picked.items())
    if "name" in fields and shown:
        fields["name"] += f" {shown}"
    try:
        case = build(fields)
        assert case.identity  # the work has a canonical form
        return case
    except InputError as error:
        raise _placed(error, entry, origins, shown) from None
    except ValueError as error:
        raise _placed(InputError(str(error), field="params"), entry, origins, shown) from None


def _placed(error: InputError, entry: _Entry, origins: Mapping[str, str], shown: str) -> InputError:
    """The error of a case with its field as a path in the file, naming the sweep's values where they matter."""
    name = error.field or "params"
    known = workloads.get(entry.fields["workload"]).Params.model_fields
    head = re.split(r"[.\[]", name)[0]
    if head not in CASE:
        name = f"params.{name}" if head in known else "params"
    path = entry.whole if name == "params" and entry.sweep else _origin(name, entry.place, origins)
    message = str(error) if error.file else error.message  # a file that the suite names is not the suite
    return InputError(message + (f" (at {shown})" if shown and ".sweep." not in path else ""), field=path)


def _origin(name: str, place: str, origins: Mapping[str, str]) -> str:
    for known, path in origins.items():
        if name == known or name.startswith((f"{known}.", f"{known}[")):
            return path + name[len(known) :]
    return f"{place}.{name}"

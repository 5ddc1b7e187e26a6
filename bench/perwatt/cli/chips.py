"""``perwatt chips``: what is published about chips, with sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perwatt.cli._output import json_option, print_json, print_table

if TYPE_CHECKING:
    from perwatt.hardware.chips import Chip, Shelf
    from perwatt.hardware.compare import Cell
    from perwatt.hardware.figure import Figure


ASSUMED = "~ watts that are an assumption, since the vendor publishes none"


@click.command("chips")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--compare", is_flag=True, help="Two or more chips side by side, with ratios to the first.")
@click.option("--basis", type=click.Choice(["vendor", "clock"]), default="vendor", show_default=True,
              help="Peaks of --compare: as printed, or cores x array x clock.")  # fmt: skip
@click.option("--chips", "folder", metavar="DIR",
              help="Folder of own sheets.  [default: $PERWATT_CHIPS, else ~/.config/perwatt/chips]")  # fmt: skip
@json_option
def command(names: tuple[str, ...], compare: bool, basis: str, folder: str | None, as_json: bool) -> None:
    """Show what is published about chips, with sources.

    Without a NAME, all chips; with one, its sheet with every source and conflict. Peaks are dense.
    """
    from perwatt.errors import InputError
    from perwatt.hardware import describe
    from perwatt.hardware.chips import shelf

    if compare and len(names) < 2:
        raise InputError(f"found {len(names)}, expected two names or more", field="--compare")
    if basis == "clock" and not compare:
        raise InputError("found 'clock' without --compare; a sheet shows both", field="--basis")
    chosen = _chosen(shelf(folder), names)
    if compare and (again := [name for name, count in Counter(chip.name for chip in chosen).items() if count > 1]):
        raise InputError(f"found {again[0]!r} twice, expected different chips", field="--compare")
    for warning in (warning for chip in chosen for warning in chip.sparse()):
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        print_json(_json(chosen, names, basis if compare else None))
    elif compare:
        _compare(chosen, basis)
    elif names:
        for chip in chosen:
            _sheet(chip)
    else:
        _list([describe.summary(chip) for chip in chosen])


def _chosen(shelf: Shelf, names: tuple[str, ...]) -> list[Chip]:
    if names:
        return [shelf.load(name) for name in names]
    return sorted(shelf.all(), key=lambda chip: (chip.context, chip.vendor, chip.family, chip.name))


def _json(chosen: list[Chip], names: tuple[str, ...], basis: Any) -> Any:
    from perwatt.hardware import describe

    if basis:
        return describe.comparison(chosen, basis)
    if names:
        return [describe.sheet(chip) for chip in chosen]
    return [describe.summary(chip) for chip in chosen]


def _list(chips: list[dict[str, Any]]) -> None:
    head = ("name", "chip", "bf16", "fp8", "fp4", "GB", "TB/s", "watts")
    print_table(
        "chips: dense TFLOP/s by format, memory, its bandwidth, nominal watts", head, map(tuple, map(_entry, chips))
    )
    click.echo(ASSUMED)
    for chip in chips:
        if own := [file for file in chip["files"] if Path(file).is_absolute()]:
            click.echo(f"{chip['name']}: from {', '.join(own)}")


def _entry(chip: dict[str, Any]) -> Iterator[str | None]:
    peaks = chip["peak_tflops"]
    yield chip["name"]
    yield chip["title"] + (" (context)" if chip["context"] else "")
    yield _number(peaks.get("bf16"))
    yield _number(peaks.get("fp8", peaks.get("mxfp8"))) + ("" if "fp8" in peaks or "mxfp8" not in peaks else " mx")
    yield _number(peaks.get("fp4"))
    yield _number(chip["memory_bytes"] / 1e9)
    yield _number(chip["bandwidth_bytes_per_s"] / 1e12)
    yield _mark(chip["power_kind"] == "assumption") + _number(chip["power_w"]) if chip["power_w"] else "unknown"


def _mark(assumed: bool) -> str:
    return "~" if assumed else ""


def _sheet(chip: Chip) -> None:
    from perwatt.hardware import describe
    from perwatt.hardware.figure import GRADES
    from perwatt.hardware.library import figures

    print_table(f"{chip.name}: {chip.title}", ("what", "value"), _facts(chip))
    head = ("figure", "value", "range", "grade", "source", "date", "line")
    print_table("figures", head, (_figure(path, item, chip.memory.file) for path, item in figures(chip)))
    click.echo(f"grades: {'; '.join(f'{grade} {meaning}' for grade, meaning in GRADES.items())}\n")
    conflicts = [(_label(path, item), *row) for path, item in chip.conflicts() for row in _conflict(item)]
    if conflicts:
        print_table("where sources disagree", ("figure", "value", "grade", "source", "how it was handled"), conflicts)
    columns = ("system", "chips", "network", "power", "newest prices")
    print_table("systems", columns, (_system(system) for system in describe.sold(chip)))
    cited = describe.sources(chip).items()
    print_table("sources", ("key", "title", "where", "date"), ((k, s.title, s.location, s.date) for k, s in cited))


def _system(system: dict[str, Any]) -> tuple[str, ...]:
    power = [f"{_value(power)} {power['kind']}" for power in system["power"]]
    asked = [f"{_value(price)} {price['purchase']} {price['dated']}" for price in system["prices"]]
    known = "; ".join(power) or (f"as {system['like']}" if system["like"] else f"unknown: {system['no_power']}")
    network = ", ".join(_value(rate) for rate in system["network"])
    return system["name"], str(system["chips"]), network, known, "; ".join(asked)


def _value(figure: dict[str, Any]) -> str:
    return f"{_number(figure['value'], 6)} {figure['unit']}"


def _facts(chip: Chip) -> Iterator[tuple[str, str]]:
    from perwatt.hardware import describe
    from perwatt.hardware.reader import plain

    yield "sheet", describe.shown(chip.memory.file)
    yield "vendor", f"{chip.vendor}, {chip.family}"
    yield "released", chip.released
    yield "process", chip.process
    if chip.cores:
        yield "cores", f"{chip.cores.count} x {chip.cores.name}"
    by_lnc = chip.devices.by_lnc if chip.devices else {}
    lnc = ", ".join(f"{count} with LNC {key}" for key, count in by_lnc.items()) if len(by_lnc) > 1 else ""
    yield "torch devices", lnc or str(chip.devices_per_chip())
    yield "memory", chip.memory_kind
    if chip.identity:
        note = f": {chip.identity.note}" if chip.identity.note else ""
        yield "released, process, memory by", f"{chip.identity.source}, grade {chip.identity.grade}{note}"
    if chip.no_watts:
        yield "watts", f"unknown: {chip.no_watts}"
    for kind, names in plain(chip.names).items():
        if names:
            yield f"name in {kind}", ", ".join(name["name"] for name in names)
    yield from _notes(chip)


def _notes(chip: Chip) -> Iterator[tuple[str, str]]:
    from perwatt.hardware.library import figures

    return ((f"note on {_label(path, item)}", item.note) for path, item in figures(chip) if item.note)


def _figure(path: str, item: Figure, sheet: str) -> tuple[str, ...]:
    """A figure with the line of its sheet; with the file too where that is another one."""
    from perwatt.hardware import describe

    band = f"{_number(item.lo)} to {_number(item.hi)}" if item.lo < item.hi else ""
    place = f"{item.line}" if item.file == sheet else f"{describe.shown(item.file)}:{item.line}"
    value = f"{_number(item.value)} {item.unit}"
    return _label(path, item), value, band, item.grade, item.source, item.dated, place


def _label(path: str, item: Figure) -> str:
    """A figure by what it is of, rather than by its place in the file."""
    from perwatt.hardware.sheet import Domain, Link, Peak, Watts

    match item:
        case Peak():
            return f"{'/'.join(item.formats)} per {item.per}" + (" by clock" if item.basis == "clock" else "")
        case Link():
            return f"{item.name} {item.scope}".strip() + ("" if item.direction == "both" else ", one way")
        case Domain():
            return f"joined, {item.scope}" if item.scope else "joined"
        case Watts():
            return f"{item.id} ({item.kind})"
    return "clock" if path.endswith("clock") else path


def _conflict(item: Figure) -> Iterator[tuple[str, ...]]:
    yield f"{_number(item.value)} {item.unit} (taken)", item.grade, item.source, item.handling
    for other in item.others:
        yield f"{_number(other.value)} {item.unit}", other.grade, other.source, other.note


def _compare(chips: list[Chip], basis: Any) -> None:
    from perwatt.hardware.compare import lines, notes

    names, found = [chip.name for chip in chips], list(lines(chips, basis))
    values = ((_short(line.quantity), line.unit, *map(_cell, line.cells)) for line in found)
    print_table(f"dense peaks, basis {basis}; / W: per nominal watt", ("quantity", "unit", *names), values)
    ratios = ((_short(line.quantity), *(_number(ratio, 3) for ratio in line.ratios()[1:])) for line in found)
    print_table(f"ratios to {names[0]}", ("quantity", *names[1:]), ratios)
    for note in (ASSUMED, *notes(chips)):
        click.echo(note)


def _short(quantity: str) -> str:
    return quantity.replace("per nominal watt", "/ W")


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    band = f" ({_number(cell.lo, 3)} to {_number(cell.hi, 3)})" if cell.lo < cell.hi else ""
    return _mark(cell.assumed) + _number(cell.value) + band + (f" {cell.what}" if cell.what else "")


def _number(value: float | None, digits: int = 4) -> str:
    """With thousands separated, in as many digits as matter."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"

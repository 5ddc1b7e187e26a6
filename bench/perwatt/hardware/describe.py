"""Sheets as plain values for ``--json``, every figure with its source spelled out and the place it was read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perwatt import configs
from perwatt.hardware import compare
from perwatt.hardware.chips import Chip
from perwatt.hardware.figure import Figure, Source
from perwatt.hardware.library import bibliography, figures
from perwatt.hardware.reader import plain, shape
from perwatt.hardware.sheet import KINDS, Basis

FIGURE = ("value", "unit", "lo", "hi", "source", "dated", "grade", "handling", "note", "file", "line")


def sources(chip: Chip) -> Mapping[str, Source]:
    """The bibliography as far as the sheet cites it."""
    known = {**bibliography(), **chip.sources}
    cited = {key for _, figure in figures(chip) for key in (figure.source, *(o.source for o in figure.others))}
    cited |= {chip.identity.source} if chip.identity else set()
    return {key: known[key] for key in sorted(cited)}


def shown(file: str) -> str:
    """A file as it is shown: relative to the shipped folder, or in full if it is the user's."""
    path = Path(file)
    return str(path.relative_to(configs.root())) if path.is_relative_to(configs.root()) else file


def figure(item: Figure) -> dict[str, Any]:
    """One figure with all that is known of it."""
    cells = {name: getattr(item, name) for name in FIGURE}
    more = {name: getattr(item, name) for name in shape(type(item)) if name not in shape(Figure)}
    return {**cells, **plain(more), "file": shown(item.file), "others": plain(item.others)}


def summary(chip: Chip) -> dict[str, Any]:
    """One chip of the list."""
    peaks = {kind: peak.tflops for kind in KINDS if (peak := chip.peak(kind))}
    power = chip.power
    return {
        "name": chip.name, "title": chip.title, "vendor": chip.vendor, "family": chip.family, "context": chip.context,
        "aliases": list(chip.aliases), "peak_tflops": peaks, "memory_bytes": chip.memory_bytes,
        "bandwidth_bytes_per_s": chip.bandwidth_bytes, "power_w": power and power.base,
        "power_kind": power and power.kind, "power_id": power and power.id, "no_power": chip.no_watts or None,
        "file": shown(chip.memory.file), "files": files(chip),
    }  # fmt: skip


def files(chip: Chip) -> list[str]:
    """Files that the sheet's figures come from."""
    return sorted({shown(figure.file) for _, figure in figures(chip)})


def sheet(chip: Chip) -> dict[str, Any]:
    """One chip with every figure, source and conflict."""
    return summary(chip) | {
        "released": chip.released, "process": chip.process, "memory_kind": chip.memory_kind,
        "identity": plain(chip.identity), "domain": [figure(domain) for domain in chip.domain],
        "cores": plain(chip.cores), "devices": plain(chip.devices), "devices_per_chip": chip.devices_per_chip(),
        "names": plain(chip.names), "figures": [{"field": path, **figure(item)} for path, item in figures(chip)],
        "conflicts": [path for path, _ in chip.conflicts()], "sources": plain(sources(chip)),
        "warnings": list(chip.sparse()), "systems": sold(chip),
    }  # fmt: skip


def sold(chip: Chip) -> list[dict[str, Any]]:
    """Systems with the chip, each with the last price of every kind of purchase, in the US and elsewhere."""
    from perwatt.hardware import prices, systems

    last: dict[str, dict[Any, prices.Price]] = {}
    for price in sorted(prices.read().prices, key=lambda price: price.date):
        where = ("us",) if all(region.startswith("us") for region in price.regions) else price.regions
        last.setdefault(price.instance, {})[price.purchase, where] = price
    return [
        {
            "name": system.name, "chips": system.chips, "kind": system.kind,
            "memory": system.memory and figure(system.memory),
            "bandwidth": system.bandwidth and figure(system.bandwidth),
            "scale_up": [figure(link) for link in system.scale_up], "peaks": [figure(peak) for peak in system.peaks],
            "network": [figure(rate) for rate in system.network], "power": [figure(power) for power in system.power],
            "no_power": system.no_power, "like": system.like,
            "prices": [figure(price) for price in last.get(system.name, {}).values()],
        }
        for system in systems.all_systems().values() if system.chip == chip.name
    ]  # fmt: skip


def comparison(chips: Sequence[Chip], basis: Basis) -> dict[str, Any]:
    """Chips side by side."""
    lines = [{**asdict(line), "ratios": line.ratios()} for line in compare.lines(chips, basis)]
    return {
        "chips": [chip.name for chip in chips], "basis": basis, "lines": lines, "notes": list(compare.notes(chips)),
        "files": {chip.name: files(chip) for chip in chips},
    }  # fmt: skip

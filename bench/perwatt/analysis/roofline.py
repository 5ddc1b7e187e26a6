"""Rows under the roofs of their chips: what products and memory allow by the sheet, and by the best that was reached.

A roof is ``min(peak, intensity x bandwidth)`` for one number format of one chip, or of the devices of it that worked.
By the *sheet* both are the vendor's; by the *ceiling* they are the fastest product and the most traffic of rows with a
cold cache. A part of a chip may use the memory of all of it, as the sheet
prints no other figure. Intensity counts compulsory traffic only, so that the real one is lower, and a row that is far
under the roof may be moving more than it has to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from perwatt.analysis.sides import Side
from perwatt.analysis.table import Rows
from perwatt.hardware import chips
from perwatt.hardware.chips import Chip
from perwatt.hardware.sheet import KINDS, Peak
from perwatt.spec.precision import POLICIES

PRODUCT, WHOLE = "gemm", "chip"
WHOLE_NUMBERS = ("int8",)  # formats whose operations are no FLOP
GRADES = ("measured", "published", "modeled")  # what sets a ceiling, the first that there is


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What a roof is of.

    Attributes:
        chip: its sheet's name, or as rows call it.
        part: of the chip that worked: ``chip``, or ``1/4`` for one of four devices.
        format: of the operands of products.
    """

    chip: str
    part: str
    format: str

    def __str__(self) -> str:
        return " ".join(filter(None, (self.chip, "" if self.part == WHOLE else self.part, self.format)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Roof:
    """One roof; either side may be unknown.

    Attributes:
        basis: ``sheet`` or ``ceiling``.
        tflops: of products, and ``gbps`` of memory.
        of: the rows that set a ceiling, with their evidence.
    """

    basis: str
    tflops: float | None
    gbps: float | None
    of: str

    @property
    def ridge(self) -> float | None:
        """Operations for each byte from which products are the limit."""
        return self.tflops * 1e3 / self.gbps if self.tflops and self.gbps else None

    def at(self, intensity: float) -> float | None:
        """The most TFLOP/s at an intensity; None where the side that limits is not known."""
        if self.tflops is None or self.gbps is None:
            return None
        return min(self.tflops, intensity * self.gbps / 1e3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One row under its roofs.

    Attributes:
        intensity: operations for each byte of compulsory traffic; None where a row counts no operations.
        tflops: rate with its interval ``lo`` and ``hi``; of traffic alone (``gbps``) where no operations are counted.
        bound: what limits it by the sheet, or by the ceiling without one: ``memory`` or ``products``.
        of_sheet: share of the sheet's roof that it reaches, and ``of_ceiling`` of the ceiling's.
    """

    place: Place
    case: str
    impl: str
    evidence: str
    cache: str
    intensity: float | None
    tflops: float | None
    gbps: float
    lo: float | None
    hi: float | None
    bound: str
    of_sheet: float | None
    of_ceiling: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Roofline:
    """All roofs, the rows under them, and what has no place.

    Attributes:
        roofs: of every place, the sheet's first.
        points: rows with traffic, in the order of the files.
        left: reasons why rows have no place, with their number.
        named: chips whose roofs were asked for.
    """

    roofs: Mapping[Place, tuple[Roof, ...]]
    points: tuple[Point, ...]
    left: Mapping[str, int]
    named: tuple[str, ...] = ()

    def shown(self, chosen: str = "") -> dict[str, list[Place]]:
        """Places to draw, by a name for those whose roofs are the same: ``trainium3 bf16/fp16``.

        They are those with rows, and all of chips that were asked for; every one that has a whole roof where neither
        leaves any. ``chosen`` is a part of their name.
        """
        whole = [place for place, each in self.roofs.items() if any(roof.ridge for roof in each)]
        able = [place for place in whole if chosen in str(place)]
        placed = {point.place for point in self.points if point.intensity and point.tflops}
        wanted = [place for place in able if place in placed or (place.chip in self.named and place.part == WHOLE)]
        alike: dict[tuple[Any, ...], list[Place]] = {}
        for place in wanted or able:
            same = tuple((roof.basis, roof.tflops, roof.gbps) for roof in self.roofs[place] if roof.ridge)
            alike.setdefault((place.chip, place.part, same), []).append(place)
        return {str(replace(each[0], format="/".join(place.format for place in each))): each for each in alike.values()}

    def as_json(self) -> dict[str, Any]:
        """The same of plain values."""
        roofs = [(place, roof) for place, each in self.roofs.items() for roof in each]
        return {
            "roofs": [asdict(place) | asdict(roof) | {"ridge": roof.ridge} for place, roof in roofs],
            "points": [asdict(point) for point in self.points],
            "left_out": dict(self.left),
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rate:
    """A row's rates of the part of a chip, or of one of several chips, that it ran on."""

    place: Place
    sheet: Chip | None
    share: float
    row: int
    tflops: float | None
    gbps: float | None


def roofline(sides: Sequence[Side], names: Sequence[str] = ()) -> Roofline:
    """Every row of these sides in its place.

    Args:
        sides: rows.
        names: chips whose rows are taken, with every roof of their sheets; all chips that have rows if empty.

    Raises:
        InputError: a name is of no chip.
    """
    named = tuple(dict.fromkeys(chips.load(name).name for name in names))
    left: dict[str, int] = {}
    found = [(side.rows, rate) for side in sides for rate in _rates(side.rows, named, left)]
    roofs = {
        place: tuple(_roofs([item for item in found if item[1].place == place], found))
        for place in sorted({rate.place for _, rate in found}, key=str)
    }
    points = []
    for rows, rate in found:
        if rate.gbps is None or _seconds(rows, rate.row) is None:
            why = (
                "their source does not say their traffic, nor a shape and format that it follows from"
                if rows.text("source", rate.row)
                else "composite: traffic is not counted"
            )
            left[why] = left.get(why, 0) + 1
            continue
        points.append(_point(rows, rate, roofs[rate.place]))
    for place, roof in _of_sheets(named, roofs):
        roofs[place] = (roof,)
    known = {place: roofs[place] for place in sorted(roofs, key=str) if roofs[place]}
    return Roofline(roofs=known, points=tuple(points), left=left, named=named)


def _of_sheets(named: Sequence[str], known: Iterable[Place]) -> list[tuple[Place, Roof]]:
    """The sheet's roof of every format of these whole chips that no row has."""
    had = {(place.chip, place.format) for place in known if place.part == WHOLE}
    found = []
    for sheet in map(chips.load, named):
        for kind, formats in KINDS.items():
            peak = None if kind in WHOLE_NUMBERS else sheet.peak(kind)
            if peak and not any((sheet.name, one) in had for one in (kind, *formats)):
                found.append((Place(chip=sheet.name, part=WHOLE, format=kind), of_sheet(sheet, peak)))
    return found


def of_sheet(sheet: Chip, peak: Peak | None, share: float = 1.0) -> Roof:
    """The roof of a sheet, of a share of the chip's devices with all of its memory."""
    source = ", ".join(dict.fromkeys([*([peak.source] if peak else []), sheet.bandwidth.source]))
    tflops = peak.tflops * share if peak else None
    return Roof(basis="sheet", tflops=tflops, gbps=sheet.bandwidth_bytes / 1e9, of=source)


def _rates(rows: Rows, named: Sequence[str], left: dict[str, int]) -> Iterator[_Rate]:
    """Rates of all rows that have any, of the chips that are named."""
    for row in range(len(rows)):
        name = rows.text("chip", row) or ""
        sheet = chips.known(name)
        if named and (sheet is None or sheet.name not in named):
            continue
        if (status := rows.text("status", row)) != "ok":
            left[f"status {status}"] = left.get(f"status {status}", 0) + 1
            continue
        share = _share(rows, row)
        tflops, gbps = rows.number("tflops", row), _traffic(rows, row)
        count = rows.number("chips", row) or 1.0
        if tflops is None and (each := rows.number("tflops_per_chip", row)):
            tflops = each * count
        if share is None or (tflops is None and gbps is None):
            why = "neither operations nor traffic" if share else "nobody says how much of a chip worked"
            left[why] = left.get(why, 0) + 1
            continue
        part = (
            "chip" if share == 1 else f"{rows.number('devices_used', row):g}/{rows.number('devices_per_chip', row):g}"
        )
        place = Place(chip=sheet.name if sheet else name, part=part, format=_format(rows.text("precision", row) or ""))
        rates = (None if rate is None else rate / count for rate in (tflops, gbps))
        yield _Rate(place=place, sheet=sheet, share=share, row=row, **dict(zip(("tflops", "gbps"), rates, strict=True)))


def _share(rows: Rows, row: int) -> float | None:
    """How much of one chip worked; None where nobody says."""
    if rows.number("chips", row):
        return 1.0
    used, each = rows.number("devices_used", row), rows.number("devices_per_chip", row)
    return used / each if used and each else None


def _traffic(rows: Rows, row: int) -> float | None:
    """GB/s of compulsory traffic, of the whole placement."""
    moved, seconds = rows.number("bytes", row), _seconds(rows, row)
    if moved and seconds:
        return moved * (rows.number("replicas", row) or 1.0) / seconds / 1e9
    return rows.number("gbps", row)


def _seconds(rows: Rows, row: int) -> float | None:
    """Of an iteration; by its operations where a source prints their rate alone."""
    time, flops, rate = (rows.number(name, row) for name in ("time_s", "flops", "tflops"))
    return time or (flops * (rows.number("replicas", row) or 1.0) / rate / 1e12 if flops and rate else None)


def _format(precision: str) -> str:
    known = POLICIES.get(precision)
    return known.compute if known else precision.partition(" ")[0]


Found = Sequence[tuple[Rows, _Rate]]


def _roofs(here: Found, everything: Found) -> Iterator[Roof]:
    """The roofs of one place, whose rates stand in ``here``; traffic is of any format of the same part of the chip."""
    one = here[0][1]
    if one.sheet is not None:
        yield of_sheet(one.sheet, one.sheet.peak(one.place.format), one.share)
    same = [item for item in everything if (item[1].place.chip, item[1].place.part) == (one.place.chip, one.place.part)]
    products = [item for item in here if item[0].text("workload", item[1].row) == PRODUCT]
    product, memory = _highest(products, "tflops"), _highest([item for item in same if _from_memory(*item)], "gbps")
    if product or memory:
        named = [
            f"{rows.text('case', rate.row)} ({rows.text('time_evidence', rate.row)})"
            for rows, rate in filter(None, (product, memory))
        ]
        tflops, gbps = product[1].tflops if product else None, memory[1].gbps if memory else None
        yield Roof(basis="ceiling", tflops=tflops, gbps=gbps, of=", ".join(named))


def _from_memory(rows: Rows, rate: _Rate) -> bool:
    """Whether a row's traffic went to memory: a hot cache's does not, and a source that says nothing is believed."""
    cache, evidence = rows.text("cache", rate.row), rows.text("time_evidence", rate.row)
    return cache == "cold" or (cache is None and evidence == "published")


def _highest(found: Found, name: str) -> tuple[Rows, _Rate] | None:
    """The fastest of the best evidence."""
    for grade in GRADES:
        able = [
            item for item in found if getattr(item[1], name) and item[0].text("time_evidence", item[1].row) == grade
        ]
        if able:
            return max(able, key=lambda item: float(getattr(item[1], name)))
    return None


def _point(rows: Rows, rate: _Rate, roofs: Sequence[Roof]) -> Point:
    gbps = rate.gbps or 0.0
    intensity = rate.tflops * 1e3 / gbps if rate.tflops else None
    by = {roof.basis: roof for roof in roofs}
    shares = {basis: _reached(rate, intensity, roof) for basis, roof in by.items()}
    time, value = rows.number("time_s", rate.row) or math.nan, rate.tflops or gbps
    lo, hi = rows.number("time_s_hi", rate.row), rows.number("time_s_lo", rate.row)
    return Point(
        place=rate.place, case=rows.text("case", rate.row) or "", impl=rows.text("impl", rate.row) or "",
        evidence=rows.text("time_evidence", rate.row) or "", cache=rows.text("cache", rate.row) or "",
        intensity=intensity, tflops=rate.tflops, gbps=gbps, lo=lo and value * time / lo, hi=hi and value * time / hi,
        bound=_bound(intensity, by), of_sheet=shares.get("sheet"), of_ceiling=shares.get("ceiling"),
    )  # fmt: skip


def _reached(rate: _Rate, intensity: float | None, roof: Roof) -> float | None:
    if intensity is None or rate.tflops is None:
        return (rate.gbps or 0.0) / roof.gbps if roof.gbps else None
    most = roof.at(intensity)
    return rate.tflops / most if most else None


def _bound(intensity: float | None, roofs: Mapping[str, Roof]) -> str:
    if intensity is None:
        return "memory"
    ridge = next((roof.ridge for basis in ("sheet", "ceiling") if (roof := roofs.get(basis)) and roof.ridge), None)
    return "" if ridge is None else "memory" if intensity < ridge else "products"

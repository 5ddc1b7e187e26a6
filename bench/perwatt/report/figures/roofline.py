"""Rows under the roofs of their chips: by the sheet as a line, by the ceiling dashed, rows with 95 % intervals.

Roofs of chips that were asked for are drawn without rows too, and all roofs where no row has a place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perwatt.analysis.roofline import Point, Roof, Roofline, roofline
from perwatt.analysis.sides import load
from perwatt.errors import InputError
from perwatt.report.figures import MARKED, Figure, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLORS = (
    "#1f6fb2", "#b2341f", "#5a8f3c", "#8254a8", "#c98a1b", "#3b3b3b", "#1aa5a5", "#d06ba6", "#8a6d3b", "#9a9a9a",
)  # fmt: skip
LINES = {"sheet": "-", "ceiling": "--"}
SIZE = (8.0, 5.0)  # inches: higher than other figures, for the names of roofs below
NAMED = 24  # rows up to which each is named
MARGIN = 2.0  # factor beyond rows and ridges that is shown


def _draw(canvas: Canvas, paths: Sequence[Path], chosen: str) -> None:
    """Places whose name has ``chosen`` in it."""
    try:
        draw(canvas, roofline([load(*paths)]), chosen)
    except InputError as error:
        raise error.at(file=str(paths[0])) from None


def draw(canvas: Canvas, found: Roofline, chosen: str = "") -> None:
    """A colour for each roof, with its rows.

    Raises:
        InputError: nobody knows a whole roof.
    """
    shown = found.shown(chosen)
    if not shown:
        of = f" of {chosen!r}" if chosen else ""
        raise InputError(f"found no roof of products and memory{of}, expected one: --chip names a chip with a sheet")
    points = [one for one in found.points if one.intensity and one.tflops and chosen in str(one.place)]
    canvas.set_size_inches(*SIZE)
    axes = canvas.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("FLOP for each byte of compulsory traffic")
    axes.set_ylabel("TFLOP/s")
    ridges = [roof.ridge for each in shown.values() for roof in found.roofs[each[0]] if roof.ridge]
    xs = [point.intensity or 1.0 for point in points] + ridges
    ends = min(xs) / MARGIN, max(xs) * MARGIN
    for at, (name, places) in enumerate(shown.items()):
        color = COLORS[at % len(COLORS)]
        for roof in found.roofs[places[0]]:
            _roof(axes, roof, ends, color, name)
        for point in (one for one in points if one.place in places):
            _point(axes, point, color)
    if len(points) <= NAMED:
        _names(axes, points)
    for evidence in sorted({point.evidence for point in points}):
        axes.plot([], [], color="#333333", label=f"{evidence} rows", **MARKED[evidence])
    canvas.legend(loc="outside lower center", frameon=False, ncols=3)


def _names(axes: Axes, points: Sequence[Point]) -> None:
    """What rows are of, beside the highest of those that one name and intensity have in common."""
    highest: dict[tuple[str, float], Point] = {}
    for point in sorted(points, key=lambda one: one.tflops or 0.0):
        words = point.case.partition(",")[0].removesuffix(f" {point.place.format}")
        highest[words, round(point.intensity or 0.0, 3)] = point
    for (words, intensity), point in highest.items():
        axes.annotate(literal(words), (intensity, point.tflops or 0.0), xytext=(4, -4), textcoords="offset points",
                      ha="left", va="top", rotation=-30, rotation_mode="anchor", fontsize="x-small")  # fmt: skip


def _roof(axes: Axes, roof: Roof, ends: tuple[float, float], color: str, name: str) -> None:
    if roof.ridge is None:
        return
    xs = sorted({*ends, min(max(roof.ridge, ends[0]), ends[1])})
    label = literal(f"{name}: {roof.basis}")
    axes.plot(xs, [roof.at(x) or 0.0 for x in xs], color=color, ls=LINES[roof.basis], lw=1.2, label=label)


def _point(axes: Axes, point: Point, color: str) -> None:
    marked: dict[str, Any] = {name: value for name, value in MARKED[point.evidence].items() if name != "ls"}
    value = point.tflops or 0.0
    if point.lo is not None and point.hi is not None:
        axes.vlines(point.intensity or 0.0, point.lo, point.hi, color=color, lw=1.5)
    axes.plot([point.intensity or 0.0], [value], color=color, ls="none", **marked)


FIGURE = Figure(name="roofline", summary="rows under the roofs of their chips, by sheet and by ceiling", draw=_draw)

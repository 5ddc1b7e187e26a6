"""Rows under the roofs of their chips: by the sheet as a line, by the ceiling dashed, rows with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perwatt.analysis.roofline import Place, Point, Roof, roofline
from perwatt.analysis.sides import load
from perwatt.errors import InputError
from perwatt.report.figures import MARKED, Figure, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLORS = ("#1f6fb2", "#b2341f", "#5a8f3c", "#8254a8", "#c98a1b", "#3b3b3b")
LINES = {"sheet": "-", "ceiling": "--"}
MARGIN = 2.0  # factor beyond rows and ridges that is shown


def _draw(canvas: Canvas, paths: Sequence[Path], chosen: str) -> None:
    """Places whose name has ``chosen`` in it: a colour for each."""
    found = roofline([load(*paths)])
    points = [one for one in found.points if one.intensity and one.tflops and chosen in str(one.place)]
    if not points:
        message = f"found no row with operations and traffic{f' of {chosen!r}' if chosen else ''}, expected some"
        raise InputError(message, file=str(paths[0]))
    axes = canvas.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("FLOP for each byte of compulsory traffic")
    axes.set_ylabel("TFLOP/s")
    places = list(dict.fromkeys(point.place for point in points))
    ridges = [roof.ridge for place in places for roof in found.roofs[place] if roof.ridge]
    xs = [point.intensity or 1.0 for point in points] + ridges
    ends = min(xs) / MARGIN, max(xs) * MARGIN
    for at, place in enumerate(places):
        color = COLORS[at % len(COLORS)]
        for roof in found.roofs[place]:
            _roof(axes, roof, ends, color, place)
        for point in (one for one in points if one.place == place):
            _point(axes, point, color)
    for evidence in sorted({point.evidence for point in points}):
        axes.plot([], [], color="#333333", label=evidence, **MARKED[evidence])
    canvas.legend(loc="outside lower center", frameon=False, ncols=3)


def _roof(axes: Axes, roof: Roof, ends: tuple[float, float], color: str, place: Place) -> None:
    if roof.ridge is None:
        return
    xs = sorted({*ends, min(max(roof.ridge, ends[0]), ends[1])})
    label = literal(f"{place}: {roof.basis}")
    axes.plot(xs, [roof.at(x) or 0.0 for x in xs], color=color, ls=LINES[roof.basis], lw=1.2, label=label)


def _point(axes: Axes, point: Point, color: str) -> None:
    marked: dict[str, Any] = {name: value for name, value in MARKED[point.evidence].items() if name != "ls"}
    value = point.tflops or 0.0
    if point.lo is not None and point.hi is not None:
        axes.vlines(point.intensity or 0.0, point.lo, point.hi, color=color, lw=1.5)
    axes.plot([point.intensity or 0.0], [value], color=color, ls="none", **marked)


FIGURE = Figure(name="roofline", summary="rows under the roofs of their chips, by sheet and by ceiling", draw=_draw)

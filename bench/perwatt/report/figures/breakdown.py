"""Training steps in their parts: a bar for each group of parts with its 95 % interval, the rest with its sign."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perwatt.analysis.breakdown.explain import Breakdown, breakdowns
from perwatt.analysis.breakdown.parts import GROUPS
from perwatt.analysis.breakdown.rows import read
from perwatt.errors import InputError
from perwatt.report.figures import Figure, literal
from perwatt.report.format import seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLORS = ("#1f6fb2", "#b2341f", "#5a8f3c", "#8254a8")
LINES = (*GROUPS, "rest")
ROOM = 0.8  # of the distance between two groups that bars fill


def _draw(canvas: Canvas, paths: Sequence[Path], chosen: str) -> None:
    """Steps whose case or implementation has ``chosen`` in its name, as many as can be told apart."""
    every = breakdowns(read(list(map(str, paths))))
    found = [one for one in every if chosen in f"{one.step.case}, {one.step.impl}"]
    if not found:
        raise InputError(f"found no training step of {chosen!r}, expected another", file=str(paths[0]))
    if len(found) > len(COLORS):
        raise InputError(
            f"found {len(found)} training steps, expected at most {len(COLORS)}: --case", file=str(paths[0])
        )
    axes = canvas.subplots()
    for at, one in enumerate(found):
        _bars(axes, one, (at - (len(found) - 1) / 2) * ROOM / len(found), ROOM / len(found), COLORS[at])
    axes.set_yticks(range(len(LINES)), LINES)
    axes.invert_yaxis()
    axes.axvline(0.0, color="#333333", lw=1)
    axes.set_xlabel("% of the step, measured; 95 % intervals")
    canvas.legend(loc="outside lower center", frameon=False)


def _bars(axes: Axes, one: Breakdown, offset: float, height: float, color: str) -> None:
    """A bar for each group and for the rest, which is hatched if it is flagged."""
    share = 100.0 / one.seconds
    ends = one.groups() | {"rest": (one.rest, one.rest_lo, one.rest_hi)}
    step = one.step
    label = literal(f"{step.case}, {step.impl} on {step.chip}: {seconds(one.seconds)}")
    for at, group in enumerate(LINES):
        value, lo, hi = ends.get(group, (0.0, 0.0, 0.0))
        hatch = "///" if group == "rest" and one.flagged else None
        error = [[(value - lo) * share], [(hi - value) * share]]
        axes.barh(
            [at + offset], [value * share], xerr=error, height=height, color=color, hatch=hatch, alpha=0.85,
            error_kw={"lw": 1, "capsize": 2, "ecolor": "#333333"}, label=label if at == 0 else None,
        )  # fmt: skip


FIGURE = Figure(name="breakdown", summary="training steps in their parts, by microbenchmarks of the run", draw=_draw)

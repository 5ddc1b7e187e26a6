"""What a site's power buys: tokens a day and tokens of a megawatt-hour for each system, with 95 % intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perwatt.analysis.site.build import Site
from perwatt.analysis.site.plan import Option, drawn_values, intervals
from perwatt.report.figures import MARKED, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

PANELS = (("tokens_per_day", 1e12, "Ttoken/day"), ("tokens_per_mwh", 1e9, "Gtoken/MWh"))
BITS = {16: "#1f6fb2", 8: "#b2341f", 4: "#5a8f3c"}
OTHER = "#777777"


def draw(canvas: Canvas, found: Site) -> None:
    """A panel for each quantity, a line for each system and format, its evidence in the marker."""
    canvas.suptitle(literal(f"{found.asked.mw:g} MW training {found.asked.task}"), x=0.01, ha="left")
    panels = canvas.subplots(1, len(PANELS), sharey=True)
    options = sorted(found.options, key=lambda one: (one.rate.width, one.name), reverse=True)
    for axes, (name, scale, unit) in zip(panels, PANELS, strict=True):
        for at, option in enumerate(options):
            _point(axes, at, option, name, scale, found)
        upper = "upper bound: " if any(one.scaling is None for one in options) else ""
        axes.set_xlabel(f"{upper}{unit}")
        axes.set_xlim(left=0)
        axes.grid(axis="x", color="#eeeeee")
    panels[0].set_yticks(range(len(options)), [literal(one.name) for one in options])
    for evidence in sorted({one.rate.evidence for one in options}):
        panels[0].plot([], [], color="#333333", label=f"{evidence} rate", **MARKED[evidence])
    canvas.legend(loc="outside lower center", frameon=False, ncols=3)


def _point(axes: Axes, at: int, option: Option, name: str, scale: float, found: Site) -> None:
    value = float(getattr(option.nominal(), name)) / scale
    drawn = drawn_values(option.assumptions(), found.asked.draws, found.asked.seed)
    ends = intervals(option.at(drawn))[name] or (value * scale, value * scale)
    color = BITS.get(option.rate.width, OTHER)
    axes.plot([end / scale for end in ends], [at, at], color=color, lw=2, solid_capstyle="butt")
    axes.plot([value], [at], color=color, **MARKED[option.rate.evidence])

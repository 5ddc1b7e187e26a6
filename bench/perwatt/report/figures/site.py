"""What a site's power buys: tokens a day and of a megawatt-hour, dollars and CO2 of a billion, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perwatt.analysis.site.build import Site
from perwatt.analysis.site.plan import METRICS, Option, drawn_values, intervals
from perwatt.report.figures import MARKED, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

PANELS = {
    "tokens_per_day": (1e12, "Ttoken/day"), "tokens_per_mwh": (1e9, "Gtoken/MWh"),
    "usd_per_gtok": (1.0, "USD/Gtoken"), "t_co2_per_gtok": (1e-3, "kg CO2/Gtoken"),
}  # fmt: skip
BITS = {16: "#1f6fb2", 8: "#b2341f", 4: "#5a8f3c"}
OTHER = "#777777"
SIZE = (11.0, 4.0)  # inches: wider than other figures, for the panels
UNKNOWN = {"usd_per_gtok": "no price", "t_co2_per_gtok": "no grid"}


def draw(canvas: Canvas, found: Site) -> None:
    """A panel for each quantity that any option has, a line for each system and format, its evidence in the marker."""
    canvas.set_size_inches(*SIZE)
    canvas.suptitle(_title(found), x=0.01, ha="left")
    options = sorted(found.options, key=lambda one: (one.rate.width, one.name), reverse=True)
    known = [name for name in PANELS if any(getattr(one.nominal(), name) is not None for one in options)]
    panels: Sequence[Axes] = canvas.subplots(1, len(known), sharey=True, squeeze=False)[0]
    for at, option in enumerate(options):
        drawn = drawn_values(option.assumptions(), found.asked.draws, found.asked.seed)
        spread = intervals(option.at(drawn))
        for axes, name in zip(panels, known, strict=True):
            _point(axes, at, option, name, spread[name])
    bound = any(one.scaling is None for one in options)
    for axes, name in zip(panels, known, strict=True):
        kind = "upper" if METRICS[name][1] > 0 else "lower"
        axes.set_xlabel(f"{kind} bound: {PANELS[name][1]}" if bound else PANELS[name][1])
        axes.set_xlim(left=0)
        axes.grid(axis="x", color="#eeeeee")
    panels[0].set_yticks(range(len(options)), [literal(one.name) for one in options])
    for evidence in sorted({one.rate.evidence for one in options}):
        panels[0].plot([], [], color="#333333", label=f"{evidence} rate", **MARKED[evidence])
    panels[0].plot([], [], color="#333333", lw=2, label="95 % interval")
    canvas.legend(loc="outside lower center", frameon=False, ncols=4)


def _title(found: Site) -> str:
    """The task, and what of a row's rate is said to be left at the size of the site."""
    scaling = found.asked.scaling
    left = "nobody declared the scaling"
    if scaling is not None:
        ends = f"{scaling.lo:.0%} to {scaling.hi:.0%}" if scaling.open else f"{scaling.value:.0%}"
        left = f"{ends} of a row's rate left at that size, as declared"
    return literal(f"{found.asked.mw:g} MW training {found.asked.task}; {left}")


def _point(axes: Axes, at: int, option: Option, name: str, ends: tuple[float, float] | None) -> None:
    value, scale = getattr(option.nominal(), name), PANELS[name][0]
    color = BITS.get(option.rate.width, OTHER)
    if value is None or ends is None:
        axes.annotate(UNKNOWN.get(name, "not known"), (0.02, at), xycoords=("axes fraction", "data"), va="center",
                      color=color, fontsize="small")  # fmt: skip
        return
    axes.plot([end / scale for end in ends], [at, at], color=color, lw=2, solid_capstyle="butt")
    axes.plot([float(value) / scale], [at], color=color, **MARKED[option.rate.evidence])

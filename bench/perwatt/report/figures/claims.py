"""Ratios that are claimed against what is found of them: a line for each claim, a mark with its ends for each level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from perwatt.analysis.claims.judging import Span, Word
from perwatt.analysis.claims.result import Judgement, Level
from perwatt.errors import InputError
from perwatt.report.claims import TITLES
from perwatt.report.figures import MARKED, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

LOOKS: dict[str, dict[str, Any]] = {
    "datasheet": {"marker": "s", "ls": "none", "ms": 5, "color": "#3b3b3b"},
    "published": {**MARKED["published"], "color": "#c98a1b"},
    "measured": {**MARKED["measured"], "color": "#1f6fb2"},
}
HOLLOW = {"mfc": "white"}  # watts in it are an assumption
APART = {"datasheet": 0.22, "published": 0.0, "measured": -0.22}  # of a line
PALE = 0.4
INCHES, FRAME = 0.24, 1.3  # of a line, and of what is around them


def draw(canvas: Canvas, found: Sequence[Judgement]) -> None:
    """What each level found over what is claimed: it is as claimed in the grey band; pale is what decides nothing.

    Raises:
        InputError: no claim has a ratio that any level found.
    """
    shown = [one for one in found if one.claim.denominator and any(level.found for level in one.levels.values())]
    if not shown:
        raise InputError("found no claim with a ratio that is known, expected some", field="--figure")
    from matplotlib.ticker import LogLocator, NullLocator

    canvas.set_size_inches(8.0, FRAME + INCHES * len(shown))
    axes = canvas.subplots()
    axes.set_xscale("log")
    axes.axvline(1.0, color="#999999", lw=0.8)
    for at, one in enumerate(reversed(shown)):
        for name, level in one.levels.items():
            if level.found:
                _mark(axes, at + APART[name], name, level, one, level.found)
    left, right = axes.get_xlim()
    for at, one in enumerate(reversed(shown)):
        low, high = _claimed(one, right)
        axes.fill_betweenx([at - 0.4, at + 0.4], low, high, color="#dddddd", lw=0, zorder=0)
    axes.set_xlim(left, right)
    names = [f"{one.claim.claim}: {one.claim.said}" for one in reversed(shown)]
    axes.set_yticks(range(len(shown)), [literal(name) for name in names])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlabel("found over claimed, as ratios (log)")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    for name, look in LOOKS.items():
        axes.plot([], [], label=TITLES[name], **look)
    axes.plot([], [], label="watts assumed", **{**LOOKS["datasheet"], **HOLLOW})
    axes.fill_betweenx([], [], [], color="#dddddd", label="as claimed; pale marks decide nothing")
    canvas.legend(loc="outside lower center", frameon=False, ncols=3)


def _mark(axes: Axes, y: float, name: str, level: Level, one: Judgement, span: Span) -> None:
    decides = level.verdict in (Word.SUPPORTED, Word.CONTRADICTED)
    look = {**LOOKS[name], **(HOLLOW if "assumed" in level.quality else {}), "alpha": 1.0 if decides else PALE}
    if span.lo is not None and span.hi is not None and span.lo < span.hi:
        axes.hlines(y, _over(one, span.lo), _over(one, span.hi), color=look["color"], lw=1.5, alpha=look["alpha"])
    axes.plot([_over(one, span.value)], [y], **look)


def _claimed(one: Judgement, most: float) -> tuple[float, float]:
    """Where a figure is as claimed: ``at_least`` by its word, the others by their digits."""
    low, high = (_over(one, end) for end in one.claim.ends)
    if one.claim.quantifier == "about":
        return low, high
    return (1.0 if one.claim.quantifier == "at_least" else low), most


def _over(one: Judgement, value: float) -> float:
    """A figure over the claimed one, both as ratios: a share that is saved stands for what it makes of the cost."""
    claim = one.claim
    return (1 - claim.value) / (1 - value) if claim.form == "saving" else value / claim.value

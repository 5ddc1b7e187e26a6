"""A site's answer for people: what the power buys, the choices, and what would change them."""

from __future__ import annotations

import click

from perwatt.analysis.site.build import Site
from perwatt.analysis.site.choice import Choice, Sensitivity
from perwatt.analysis.site.plan import MEGA, METRICS, Option, Result, drawn_values, intervals
from perwatt.cli._output import print_table
from perwatt.report.format import number

MARKS = {"measured": "", "published": "p ", "modeled": "~ "}
"""Evidence of a rate; measured ones have no mark."""
LEGEND = (
    "p published, ~ modeled by the sheet's peak and an MFU; >= and <= where nobody declared the scaling (--scaling)"
)
SCALE = {"tokens_per_day": (1e9, "Gtoken/day"), "tokens_per_mwh": (1e9, "Gtoken/MWh")}
LEAST = 1e-3  # worth below which draws in bins are noise
MOST = 10  # figures shown of a choice; --json has all
BOUNDS = ("<=", ">=")  # of a quantity of which more, or less, is better


def show(found: Site) -> None:
    """Print it."""
    asked = found.asked
    title = f"{asked.mw:g} MW training {asked.task}: power provided at peak, average energy apart; 95 % intervals"
    head = (
        "system, format",
        "chips",
        "W/chip",
        "token/s/chip",
        "average MW",
        *(SCALE.get(n, (1, u))[1] for n, (u, _) in METRICS.items()),
    )
    print_table(title, head, [_row(found, option) for option in found.options])
    click.echo(f"W/chip: of the site at its peak; {LEGEND}")
    for option in found.options:
        click.echo(f"{option.name}: rate {option.rate.evidence}: {option.rate.of}")
    click.echo()
    for choice in found.choices:
        _choice(found, choice)
    for option in found.options:
        tie = found.tie(option)
        if tie is not None:
            click.echo(
                f"{option.name}: costs as much for a token as the cheapest at ${number(tie)} a chip-hour, power in it"
            )
    for note in found.notes:
        click.echo(f"note: {note}")


def _row(found: Site, option: Option) -> list[str]:
    nominal = option.nominal()
    drawn = drawn_values(option.assumptions(), found.asked.draws, found.asked.seed)
    spread = intervals(option.at(drawn))
    upper, mark = option.scaling is None, MARKS[option.rate.evidence]
    each = f"{float(nominal.provided_mw) / float(nominal.chips) * MEGA:,.0f}"
    cells = [option.name, f"{float(nominal.chips):,.0f}", each, mark + number(option.rate.value)]
    cells.append(_cell("average_mw", nominal, spread))
    for name, (_, better) in METRICS.items():
        sign = BOUNDS[better < 0] if upper else ""
        cells.append(sign + _cell(name, nominal, spread) if getattr(nominal, name) is not None else "")
    return cells


def _cell(name: str, result: Result, spread: dict[str, tuple[float, float] | None]) -> str:
    value, ends = getattr(result, name), spread[name]
    if value is None or ends is None:
        return ""
    by = SCALE.get(name, (1.0, ""))[0]
    return f"{number(float(value) / by)} [{_short(ends[0] / by)}, {_short(ends[1] / by)}]"


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _choice(found: Site, choice: Choice) -> None:
    lead = "nothing else to choose" if choice.lead is None else f"{choice.lead:.2f} times the next"
    chances = ", ".join(f"{name} {share:.0%}" for name, share in choice.chance.items())
    click.echo(f"{choice.width}-bit formats, by {choice.metric}: {choice.best} ({lead}); best in draws: {chances}")
    for name, why in choice.out.items():
        click.echo(f"  not compared: {name}: {why}")
    if choice.figures:
        head = ("figure", "band", "lead at its ends", "tie at", "worth", "what would settle it")
        print_table(f"what would change the choice, {_order(choice)}", head, map(_sensitivity, choice.figures[:MOST]))


def _order(choice: Choice) -> str:
    """What the table is ordered by: worth orders nothing where it is noise."""
    if any(one.worth >= LEAST for one in choice.figures):
        return "worth most first"
    return f"none worth {LEAST:.1%} by itself: first what changes it within its band, then what moves the lead most"


def _worth(one: Sensitivity) -> str:
    return f"{one.worth:.1%}" if one.worth >= LEAST else f"<{LEAST:.1%}"


def _sensitivity(one: Sensitivity) -> list[str]:
    figure = one.figure
    band = (
        f"{number(figure.value)} [{_short(figure.lo)}, {_short(figure.hi)}] {figure.unit.replace('share', '')}".rstrip(
            " 1"
        )
    )
    lead = f"{one.lead_lo:.2f}, {one.lead_hi:.2f}" + (" changes it" if one.changes else "")
    tie = "" if one.tie is None else number(one.tie)
    return [figure.name, band, lead, tie, _worth(one), figure.settle]

"""``perwatt site``: what a power budget buys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from perwatt.cli._output import json_option, print_json

if TYPE_CHECKING:
    from perwatt.analysis.sides import Side
    from perwatt.analysis.site.assumption import Assumption
    from perwatt.analysis.site.build import Asked
    from perwatt.analysis.site.money import Terms

NOTHING = 3
STATE = 16  # bytes of a weight in `bf16_master`: its master copy, its gradient and two moments, in float32
PURCHASES = ("on_demand", "capacity_block", "reserved", "spot")
OBJECTIVES = ("tokens_per_day", "tokens_per_mwh", "usd_per_gtok", "t_co2_per_gtok")
Function = TypeVar("Function", bound=Callable[..., Any])


def _declared(name: str, metavar: str, text: str) -> Callable[[Function], Function]:
    return click.option(name, multiple=True, metavar=metavar, help=text)


@click.command("site")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--mw", type=float, required=True, metavar="MW", help="Power of the site at its peak.")
@click.option("--system", "systems", multiple=True, metavar="NAME",
              help="System to choose between; may be given again.  [default: one of each chip with rows]")  # fmt: skip
@click.option("--model", default="llama-3-8b", show_default=True, metavar="NAME", help="Model that is trained.")
@click.option("--seq", type=click.IntRange(1, 2**24), default=8192, show_default=True, metavar="TOKENS",
              help="Length of its sequences.")  # fmt: skip
@click.option("--scaling", metavar="LO-HI", help="Share of a row's rate that is left at the size of the site.")
@click.option("--pue-peak", metavar="LO-HI", help="Facility over machines at peak.  [default: by configs/systems]")
@click.option("--pue", metavar="LO-HI", help="The same over a year.  [default: by configs/systems]")
@click.option("--grid", default="us", show_default=True, metavar="NAME", help="Whose electricity it is.")
@click.option("--carbon", metavar="LO-HI", help="Grams of CO2 of a kWh, in place of --grid.")
@click.option("--purchase", type=click.Choice(PURCHASES), default="capacity_block", show_default=True,
              help="Kind of price to rent at.")  # fmt: skip
@_declared("--rent", "CHIP=USD", "Dollars an hour of one chip, power in it; or LO-HI.")
@_declared("--buy", "CHIP=USD", "Dollars for one chip with its share of the system; or LO-HI.")
@click.option("--years", metavar="LO-HI", help="Over which what is bought is written off.")
@click.option("--power-price", metavar="LO-HI", help="Dollars of a MWh, for what is bought.")
@_declared("--watts", "CHIP=LO-HI", "Watts of one chip at full load.")
@_declared("--mfu", "CHIP/FORMAT=LO-HI", "Share of the sheet's peak, in place of rows.")
@click.option("--objective", type=click.Choice(OBJECTIVES), default="tokens_per_day", show_default=True,
              help="What to choose by.")  # fmt: skip
@click.option("--draws", type=click.IntRange(1000, 10**6), default=20_000, show_default=True, help="Of the intervals.")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Of the draws.")
@click.option("--figure", metavar="FILE", type=click.Path(path_type=Path), help="Draw it too: .png, .svg or .pdf.")
@click.option("--skip-bad", is_flag=True, help="Go on without files that cannot be trusted, and say so.")
@json_option
def command(paths: tuple[str, ...], figure: Path | None, skip_bad: bool, as_json: bool, **given: Any) -> int:
    """Show what the power of a site buys.

    PATH is results as `perwatt compare` takes them; without any, the published rows that perwatt comes with. Exits with
    3 if nothing is known of any system.
    """
    from perwatt.analysis.site import build
    from perwatt.report import figures

    if figure:
        figures.format_of(figure)  # before anything is worked out
    asked = _asked(given)
    found = build.site(_sides(paths, skip_bad), asked)
    if as_json:
        print_json(found.as_json())
    elif found.options:
        from perwatt.cli import _site

        _site.show(found)
    else:
        for note in found.notes:
            _say(note)
    if figure and found.options:
        from perwatt.report.figures import site as drawing

        figures.write(figure, lambda canvas: drawing.draw(canvas, found))
        _say(f"drawn: {figure}")
    return 0 if found.options else NOTHING


def _sides(paths: Sequence[str], skip_bad: bool) -> list[Side]:
    from perwatt.analysis.sides import load
    from perwatt.results.published import shipped

    side = load(*(paths or (str(shipped.root()),)), name=None if paths else "published", skip_bad=skip_bad)
    for line in side.skipped:
        _say(f"left out: {line}")
    return [side]


def _asked(given: dict[str, Any]) -> Asked:
    """What was asked, checked before anything is read."""
    from perwatt.analysis.site.assumption import Span
    from perwatt.analysis.site.build import Asked
    from perwatt.analysis.site.rates import Task
    from perwatt.results.published.rows import flops_per_token
    from perwatt.spec import model

    def span(name: str, unit: str, settle: str, least: float = 0.0, most: float = float("inf")) -> Assumption | None:
        text = given[name.replace("-", "_")]
        return text and Span.parse(text, f"--{name}", least=least, most=most).assumption(name, unit, settle)

    shape = model.resolve(given["model"])
    flops, state = flops_per_token(shape, given["seq"]), float(STATE * shape.parameters)
    task = Task(model=given["model"], seq=given["seq"], flops=flops, state=state, experts=shape.experts > 0)
    return Asked(
        mw=given["mw"], systems=given["systems"], objective=given["objective"], draws=given["draws"],
        seed=given["seed"], task=task,
        scaling=span("scaling", "share", "", most=1.0), pue_peak=span("pue-peak", "1", "the site's meter", 1.0, 10.0),
        pue=span("pue", "1", "the site's meter", 1.0, 10.0), carbon=_carbon(given, span), terms=_terms(given, span),
        watts=_by_chip(given, "watts", "W", "the power of one {} at full load, by an outside meter"),
        mfu=_mfu(given),
    )  # fmt: skip


def _carbon(given: dict[str, Any], span: Callable[..., Assumption | None]) -> Assumption | None:
    from perwatt.analysis.site.assumption import of_figure
    from perwatt.hardware import systems

    found = systems.grid(given["grid"])
    return span("carbon", "g/kWh", "") or of_figure(f"grid-{found.id}", found, "g/kWh")


def _terms(given: dict[str, Any], span: Callable[..., Assumption | None]) -> Terms:
    from perwatt.analysis.site.money import Terms
    from perwatt.errors import InputError

    rent = _by_chip(given, "rent", "USD/h", "an offer for {}")
    buy = _by_chip(given, "buy", "USD", "an offer for {}")
    if both := sorted(rent.keys() & buy.keys()):
        raise InputError(f"found {both[0]!r} in --rent as well, expected one of the two", field="--buy")
    return Terms(
        purchase=given["purchase"], rent=rent, buy=buy, years=span("years", "a", "", most=100.0),
        energy=span("power-price", "USD/MWh", "a contract"),
    )  # fmt: skip


def _by_chip(given: dict[str, Any], name: str, unit: str, settle: str) -> dict[str, Assumption]:
    """``CHIP=LO-HI`` by chip."""
    from perwatt.analysis.site.assumption import Span
    from perwatt.hardware import chips

    found = {}
    for text in given[name]:
        left, value = _split(text, f"--{name}")
        chip = chips.load(left).name
        found[chip] = Span.parse(value, f"--{name}").assumption(f"{chip}-{name}", unit, settle.format(chip))
    return found


def _mfu(given: dict[str, Any]) -> dict[tuple[str, int], Assumption]:
    from perwatt.analysis.site import formats
    from perwatt.analysis.site.assumption import Span
    from perwatt.errors import InputError, shorten
    from perwatt.hardware import chips

    found = {}
    for text in given["mfu"]:
        left, value = _split(text, "--mfu")
        name, _, precision = left.partition("/")
        width = formats.width(precision)
        if width is None:
            raise InputError(f"found {shorten(left)}, expected CHIP/FORMAT, as trainium3/mxfp8", field="--mfu")
        chip = chips.load(name).name
        span = Span.parse(value, "--mfu", most=1.0)
        settle = f"a training step of the task in {precision} on {chip}"
        found[chip, width] = span.assumption(f"{chip}-mfu-{width}bit", "share", settle)
    return found


def _split(text: str, field: str) -> tuple[str, str]:
    from perwatt.errors import InputError, shorten

    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InputError(f"found {shorten(text)}, expected NAME=VALUE", field=field)
    return name, value


def _say(line: str) -> None:
    from perwatt.report.format import plain

    click.echo(plain(line), err=True)

"""A step in its parts, for people."""

from __future__ import annotations

import click

from perwatt.analysis.breakdown.elsewhere import Elsewhere
from perwatt.analysis.breakdown.explain import LARGE, Breakdown, Explained
from perwatt.cli._output import print_table
from perwatt.report.format import interval, number, plain, seconds


def show(found: Breakdown, others: list[Elsewhere], *, every: bool) -> None:
    """Print it; ``every`` part by itself, or groups alone."""
    step = found.step
    title = f"{step.case}, {step.impl} on {step.chip}: {seconds(step.time_s)}"
    head = ("group", "time", "95 %", "of the step")
    rows = [(group, *_line(value, lo, hi, found)) for group, (value, lo, hi) in found.groups().items()]
    rest = f"[{_signed(found.rest_lo)}, {_signed(found.rest_hi)}]"
    rows.append(("rest", _signed(found.rest), rest, f"{found.rest / found.seconds:+.1%}"))
    print_table(title, head, rows)
    if found.flagged:
        click.echo(f"flagged: the rest is over {LARGE:.0%} of the step, so the parts do not explain it")
    if every:
        print_table("parts", ("part", "times", "time", "of the row", "remarks"), map(_part, found.parts))
    else:
        _remarks(found)
    for one in found.parts:
        if one.missing:
            click.echo(plain(f"missing, and so in the rest: {one.part.name}: {one.missing}"))
    for other in others:
        _elsewhere(found, other)
    click.echo()


def _line(value: float, lo: float, hi: float, found: Breakdown) -> tuple[str, str, str]:
    return seconds(value), interval(value, lo, hi), f"{value / found.seconds:.1%}"


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{seconds(abs(value))}"


def _part(one: Explained) -> tuple[str, str, str, str, str]:
    return one.part.name, str(one.part.count), seconds(one.seconds), one.case, "; ".join(one.remarks)


def _remarks(found: Breakdown) -> None:
    """How many parts stand on rows that are not quite theirs."""
    marked = sum(bool(one.remarks) for one in found.parts)
    if marked:
        click.echo(f"{marked} of {len(found.parts)} parts by rows that differ from them in something (--parts)")


def _elsewhere(found: Breakdown, other: Elsewhere) -> None:
    formats = "" if other.there == other.format else f", {other.format} there as {other.there}"
    by = f"products x {other.products:.3g}, memory x {other.memory:.3g}"
    head = f"~ on {other.chip}, modeled by {other.basis}{formats}: {by}"
    ratios = f"{number(found.seconds / other.slowest)} to {number(found.seconds / other.fastest)} times as fast"
    click.echo(f"{head}: {seconds(other.fastest)} to {seconds(other.slowest)}, {ratios}")

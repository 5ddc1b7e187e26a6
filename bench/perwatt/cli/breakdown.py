"""``perwatt breakdown``: what a training step's time consists of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perwatt.cli._output import json_option, print_json

if TYPE_CHECKING:
    from perwatt.analysis.breakdown.elsewhere import Elsewhere
    from perwatt.analysis.breakdown.explain import Breakdown
    from perwatt.analysis.roofline import Roofline


@click.command("breakdown")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--case", default="", metavar="TEXT", help="Part of the name of the step, where there are several.")
@click.option("--on", "others", multiple=True, metavar="CHIP", help="Model the step on this chip; may be given again.")
@click.option("--parts", "every", is_flag=True, help="Every part with the row that stands for it.")
@click.option("--figure", metavar="FILE", type=click.Path(path_type=Path), help="Draw it too: .png, .svg or .pdf.")
@click.option("--skip-bad", is_flag=True, help="Go on without files that cannot be trusted, and say so.")
@json_option
def command(
    paths: tuple[str, ...], case: str, others: tuple[str, ...], every: bool, figure: Path | None, skip_bad: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Explain training steps by rows of their run.

    PATH is results as `perwatt compare` takes them.
    """
    from perwatt.analysis.breakdown.explain import breakdowns
    from perwatt.analysis.breakdown.rows import read
    from perwatt.analysis.roofline import roofline
    from perwatt.analysis.sides import load
    from perwatt.cli import _breakdown
    from perwatt.errors import InputError
    from perwatt.hardware import chips
    from perwatt.report import figures
    from perwatt.results.published import shipped

    if figure:
        figures.format_of(figure)
    every_step = breakdowns(read(paths, skip_bad=skip_bad, tell=_say))
    found = [one for one in every_step if case in f"{one.step.case}, {one.step.impl}"]
    if not found:
        there = "; ".join(f"{one.step.case}, {one.step.impl}" for one in every_step)
        raise InputError(f"found no training step of {case!r}, expected one of: {there}", field="--case")
    sides = [load(*paths, skip_bad=skip_bad), load(shipped.root(), name="published")] if others else []
    roofs = roofline(sides)
    for other in others:
        chips.load(other)  # a name of no chip ends it here
    modeled = [list(_on(one, others, roofs)) for one in found]
    if as_json:
        print_json([
            one.as_json() | {"elsewhere": [other.as_json() for other in on]}
            for one, on in zip(found, modeled, strict=True)
        ])  # fmt: skip
    else:
        for one, on in zip(found, modeled, strict=True):
            _breakdown.show(one, on, every=every)
    if figure:
        figures.save("breakdown", [Path(path) for path in paths], case, figure)
        _say(f"drawn: {figure}")


def _on(step: Breakdown, others: Sequence[str], roofs: Roofline) -> Iterator[Elsewhere]:
    """The step on each of these chips; one line for a chip that nobody can say it of."""
    from perwatt.analysis.breakdown.elsewhere import elsewhere
    from perwatt.errors import InputError

    for other in others:
        try:
            yield elsewhere(step, other, roofs)
        except InputError as error:
            _say(f"not modeled: {step.step.case} on {other}: {error.message}")


def _say(line: str) -> None:
    from perwatt.report.format import plain

    click.echo(plain(line), err=True)

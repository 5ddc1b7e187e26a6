"""``perwatt compare``: results of two or more sides against each other, with verdicts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from perwatt.cli._output import json_option, print_json

NOTHING = 3
Function = TypeVar("Function", bound=Callable[..., Any])


def _percent(name: str, default: float, text: str) -> Callable[[Function], Function]:
    kind = click.FloatRange(0, 100, max_open=True)
    return click.option(name, type=kind, default=default, show_default=True, metavar="PERCENT", help=text)


@click.command("compare")
@click.argument("sides", nargs=-1, required=True, metavar="SIDE SIDE...")
@click.option("--baseline", metavar="NAME", help="Side that ratios are relative to; the first by default.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Only this figure; may be given again.")
@click.option("--track", type=click.Choice(["best", "like", "all"]), default="all", help="Which impls meet.")
@click.option("--across-formats", is_flag=True, help="Join training steps by task, whatever their number format.")
@_percent("--region", 2.0, "Ratios within 1 ± this are the same.")
@_percent("--between-processes", 1.0, "Allowance for differences between processes, with fewer than 3 runs.")
@_percent("--between-chips", 5.0, "Allowance for differences between chips, with fewer than 3.")
@click.option("--mix-power", is_flag=True, help="Compare energy of different sources and scopes, marked.")
@click.option("--mix-purchase", is_flag=True, help="Compare costs of different kinds of purchase, marked.")
@click.option("--skip-bad", is_flag=True, help="Go on without files that cannot be trusted, and say so.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.option("--csv", "form", flag_value="csv", help="Print one CSV line for each pair.")
@json_option
def command(
    sides: tuple[str, ...], baseline: str | None, metrics: tuple[str, ...], track: str, across_formats: bool,
    region: float, between_processes: float, between_chips: float, mix_power: bool, mix_purchase: bool, skip_bad: bool,
    form: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Compare results of the same work on two sides or more.

    SIDE is a results CSV, a run's folder, a folder of CSVs or a glob, or several as NAME=PATH,PATH. Exits with 3 if
    nothing could be matched.
    """
    from perwatt.analysis.compare import compare
    from perwatt.analysis.levels import Allowance
    from perwatt.analysis.result import Options
    from perwatt.analysis.sides import load_source, sources

    options = Options(
        baseline=baseline, metrics=metrics, track=track, across_formats=across_formats, region=region / 100,
        allowance=Allowance(process=between_processes / 100, chip=between_chips / 100), mix_power=mix_power,
        mix_purchase=mix_purchase,
    )  # fmt: skip
    found = compare(*(load_source(side, skip_bad=skip_bad, tell=_tell) for side in sources(sides)), options=options)
    if as_json:
        print_json(found.as_json())
        return 0 if found.pairs else NOTHING
    from perwatt.report import comparison_formats as formats
    from perwatt.report.console import console

    if form == "csv":
        print(formats.as_csv(found), end="")
    elif form == "markdown":
        print(formats.markdown(found), end="")
    else:
        formats.show(console(sys.stdout), found)
    if not found.pairs:
        _say("nothing could be matched")
    return 0 if found.pairs else NOTHING


def _tell(line: str) -> None:
    _say(f"left out: {line}")


def _say(line: str) -> None:
    from perwatt.report.format import plain

    click.echo(plain(line), err=True)

"""``perwatt kernels floors``: what no implementation can beat on a chip, by the chip's sheet."""

from __future__ import annotations

import sys

import click

from perwatt.cli._app import debug_option
from perwatt.cli._output import json_option, print_json

NOTHING = 3
HEAD = ("case", "GFLOP", "MB", "by operations", "by bytes", "floor", "binds")


@click.command("floors")
@click.argument("suite")
@click.option("--chip", required=True, metavar="NAME", help="As in `perwatt chips`.")
@click.option("--only", multiple=True, metavar="NAME",
              help="Only cases of this name, in which * stands for anything; may be given again.")  # fmt: skip
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@json_option
def floors(suite: str, chip: str, only: tuple[str, ...], markdown: bool, as_json: bool) -> int:
    """Show the least time that each case of SUITE takes on one device of a chip, by its data sheet.

    There are two floors: operations at the dense peak of the format, and compulsory bytes at the bandwidth of memory.
    Nothing is measured. `perwatt kernels versus` has the gap of measured rows to them.
    Exits with 3 if no case has a floor.
    """
    from perwatt.analysis.floors import floors as found_of
    from perwatt.hardware import chips
    from perwatt.report.comparison_formats import markdown_of, print_all
    from perwatt.report.console import console
    from perwatt.report.format import number, seconds
    from perwatt.report.sheet import Sheet
    from perwatt.spec import picking
    from perwatt.spec import suite as suites

    sheet = chips.load(chip)
    found = found_of(picking.picked(suites.load(suite), only).cases, sheet)
    if as_json:
        print_json([one.as_json() for one in found])
    else:
        rows = (
            (
                one.case, number(one.flops and one.flops / 1e9), number(one.bytes and one.bytes / 1e6),
                seconds(one.flops_s), seconds(one.bytes_s), seconds(one.floor_s), one.bound,
            )
            for one in found
        )  # fmt: skip
        table = Sheet(
            title=f"least times on one device of {sheet.name}, by its sheet", head=HEAD, rows=tuple(rows),
            right=frozenset({1, 2, 3, 4, 5}),
        )  # fmt: skip
        if markdown:
            click.echo(markdown_of((table,), ()), nl=False)
        else:
            print_all(console(sys.stdout), (table,), ())
    return 0 if any(one.floor_s for one in found) else NOTHING


floors.params.append(debug_option())

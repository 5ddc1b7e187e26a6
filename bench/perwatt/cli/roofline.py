"""``perwatt roofline``: rows under what their chips allow."""

from __future__ import annotations

from pathlib import Path

import click

from perwatt.cli._output import json_option, print_json

NOTHING = 3


@click.command("roofline")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--chip", "names", multiple=True, metavar="NAME",
              help="Take rows of this chip, with every roof of its sheet; may be given again.")  # fmt: skip
@click.option("--figure", metavar="FILE", type=click.Path(path_type=Path), help="Draw it too: .png, .svg or .pdf.")
@click.option("--skip-bad", is_flag=True, help="Go on without files that cannot be trusted, and say so.")
@json_option
def command(paths: tuple[str, ...], names: tuple[str, ...], figure: Path | None, skip_bad: bool, as_json: bool) -> int:
    """Show rows under the roofs of their chips.

    PATH is results as `perwatt compare` takes them; without any, the published rows that perwatt comes with. Exits with
    3 if no row has a rate and no chip is named.
    """
    from perwatt.analysis.roofline import roofline
    from perwatt.analysis.sides import load
    from perwatt.report import figures
    from perwatt.report.format import plain
    from perwatt.results.published import shipped

    if figure:
        figures.format_of(figure)
    side = load(*(paths or (str(shipped.root()),)), skip_bad=skip_bad)
    for line in side.skipped:
        click.echo(plain(f"left out: {line}"), err=True)
    found = roofline([side], names)
    if as_json:
        print_json(found.as_json())
    else:
        from perwatt.cli import _roofline

        _roofline.show(found)
    if not found.roofs:
        click.echo("no row has a rate of operations or traffic", err=True)
        return NOTHING
    if figure:
        from perwatt.report.figures import roofline as drawing

        figures.write(figure, lambda canvas: drawing.draw(canvas, found))
        click.echo(f"drawn: {figure}", err=True)
    return 0

"""``perwatt plot``: draw a figure into a file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("plot")
@click.argument("name")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--out", "-o", metavar="FILE", type=click.Path(path_type=Path),
              help="File to draw into: .png, .svg or .pdf.  [default: NAME.png]")  # fmt: skip
@click.option("--case", default="", metavar="TEXT", help="Part of the name of what is drawn, where there are several.")
def command(name: str, paths: tuple[Path, ...], out: Path | None, case: str) -> int:
    """Draw figure NAME of what PATH holds.

    Figures: window (an energy window of a run's folder), roofline and breakdown (of results).
    """
    from perwatt.report import figures

    target = out or Path(f"{name}.png")
    figures.save(name, paths, case, target)
    click.echo(str(target))
    return 0

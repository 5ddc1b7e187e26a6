"""``perwatt claims``: what vendors claim, judged by sheets, published rows and measured rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from perwatt.cli._output import json_option, print_json, print_table

if TYPE_CHECKING:
    from perwatt.analysis.claims.claim import Claim
    from perwatt.analysis.sides import Side
    from perwatt.errors import InputError

WRONG = 2


@click.command("claims")
@click.argument("what", nargs=-1, metavar="[NAME|RESULTS]...")
@click.option("--claims", "given", metavar="PATH",
              help="File or folder of own claims, before the shipped ones.  [default: $PERWATT_CLAIMS, else "
                   "~/.config/perwatt/claims]")  # fmt: skip
@click.option("--figure", metavar="FILE", type=click.Path(path_type=Path), help="Draw it too: .png, .svg or .pdf.")
@json_option
def command(what: tuple[str, ...], given: str | None, figure: Path | None, as_json: bool) -> int:
    """Judge what vendors claim about chips.

    On three levels that never mix: data sheets, published rows, measured rows.

    NAME is a claim, or a row of the collection (T1), which is then shown in full. RESULTS are CSVs, run folders or
    folders of them with measured rows; without any, those that the repository keeps in results/measured.

    Exit codes: 0 done, 2 a file was wrong and left out, or nothing of that name.
    """
    from perwatt.analysis.claims import library
    from perwatt.analysis.claims.judgement import all_judged
    from perwatt.report import claims as report
    from perwatt.report import figures
    from perwatt.report.format import plain

    if figure:
        figures.format_of(figure)  # before anything is worked out
    wrong: list[InputError] = []
    known = library.load(given, tell=wrong.append)
    for error in wrong:  # before the names: one of them may be of a file that is wrong
        _say(f"left out: {error}")
    names, paths = _split(what, known)
    rows, left_out = _rows(paths)
    for line in left_out:
        _say(f"left out: {line}")
    chosen = [claim for claim in known if not names or claim.claim in names or claim.row in names]
    found = all_judged(chosen, rows)
    if as_json:
        print_json([one.as_json() for one in found])
    elif names:
        for line in (line for one in found for line in report.lines(one)):
            click.echo(" " * (len(line) - len(line.lstrip(" "))) + plain(line))
    else:
        print_table("claims", report.HEAD, report.rows(found))
        for line in report.notes(found, rows):
            click.echo(line)
    if figure:
        from perwatt.report.figures import claims as drawing

        figures.write(figure, lambda canvas: drawing.draw(canvas, found))
        _say(f"drawn: {figure}")
    return WRONG if wrong or left_out else 0


def _split(what: tuple[str, ...], known: list[Claim]) -> tuple[set[str], list[str]]:
    """Names of claims, and paths of results.

    Raises:
        InputError: an argument is neither.
    """
    from perwatt.errors import InputError, expected

    every = {name for claim in known for name in (claim.claim, claim.row) if name}
    names = {one for one in what if one in every}
    paths = [one for one in what if one not in every]
    for path in paths:
        if not any(mark in path for mark in "*?[") and not Path(path).exists():
            if "/" in path or path.endswith(".csv"):
                raise InputError("no such file", file=path)
            raise InputError(expected(path, every, "a claim or results"), field="NAME")
    return names, paths


def _rows(paths: list[str]) -> tuple[Side | None, list[str]]:
    """All measured rows, and a line for each file that cannot be trusted."""
    from perwatt.analysis.sides import Source, found, load_source
    from perwatt.errors import InputError
    from perwatt.results import kept

    left_out: list[str] = []
    files: dict[str, None] = {}
    for path in paths or kept.folders():
        try:
            files |= dict.fromkeys(found(path))
        except InputError as error:
            left_out.append(str(error))
    if not files:
        return None, left_out
    try:
        return load_source(Source(name="rows", paths=tuple(files)), skip_bad=True, tell=left_out.append), left_out
    except InputError:  # each file has been told of
        return None, left_out


def _say(line: str) -> None:
    from perwatt.report.format import plain

    click.echo(plain(line), err=True)

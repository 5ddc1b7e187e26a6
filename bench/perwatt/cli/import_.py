"""``perwatt import``: results of other tools and of older versions as rows."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from perwatt.cli._output import json_option, print_json


@click.command("import")
@click.argument("path", metavar="FILE")
@click.option("-o", "--out", metavar="OUT.csv", help="CSV to write.  [default: print it]")
@click.option("--from", "name", metavar="NAME",
              help="Format of FILE; an unknown name lists them all.  [default: by content]")  # fmt: skip
@click.option("--chip", metavar="NAME", help="Kind of chip it was measured on, where the file does not say it.")
@click.option("--any-chip", is_flag=True, help="Allow a --chip without a sheet, such as a processor (perwatt chips).")
@click.option("--op", metavar="NAME", help="Collective operation, where the file does not say it.")
@json_option
def command(
    path: str, out: str | None, name: str | None, chip: str | None, any_chip: bool, op: str | None, as_json: bool
) -> int:  # fmt: skip
    """Turn FILE into a results CSV.

    FILE is JSON of pytest-benchmark or nccom-test, text of nccl-tests, or results of an older perwatt. What FILE does
    not say is empty, and rows whose work it does not specify have no match key: they are compared with nothing.
    """
    from perwatt.errors import InputError
    from perwatt.results import csvfile
    from perwatt.results.imports.base import Given
    from perwatt.results.imports.reading import read

    if out and Path(out).resolve() == Path(path).resolve():
        raise InputError("found the file that is imported, expected another", field="--out")
    given = Given(path=Path(path), chip=chip if any_chip or not chip else _sheet(chip), op=op)
    kind, found = read(given, name)
    summary: dict[str, Any] = {
        "file": path, "format": kind, "rows": len(found.rows), "notes": found.notes, "out": out,
        "statuses": dict(Counter(row.status for row in found.rows)),
        "with_match_key": sum(row.match_key is not None for row in found.rows),
    }  # fmt: skip
    if out:
        csvfile.write(found.rows, Path(out))
    if as_json:
        print_json(summary)
    elif not out:
        sys.stdout.writelines(csvfile.lines(found.rows))
    _tell(summary, as_json)
    return 0


def _sheet(chip: str) -> str:
    """The name of a chip's sheet, whose alias may have been given.

    Raises:
        InputError: there is none, or one of the user's own sheets is wrong.
    """
    from perwatt.errors import InputError
    from perwatt.hardware import chips

    try:
        return chips.load(chip).name
    except InputError as error:
        if error.file:
            raise
        raise InputError(f"{error.message}; --any-chip allows a name without a sheet", field="--chip") from None


def _tell(summary: dict[str, Any], as_json: bool) -> None:
    """What was done, beside the CSV where that is printed."""
    from perwatt.report.format import plain

    if as_json:
        return
    keyed = "" if summary["with_match_key"] else ", none with a match key"
    where = f" in {summary['out']}" if summary["out"] else ""
    click.echo(plain(f"{summary['format']}: {summary['rows']} rows{keyed}{where}"), err=not summary["out"])
    for note in summary["notes"]:
        click.echo(plain(f"note: {note}"), err=not summary["out"])

"""``perwatt pool``: repeated runs as one result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from perwatt.cli._output import json_option, print_json, print_table

if TYPE_CHECKING:
    from perwatt.analysis.pool import Pool

HEAD = ("case", "impl", "chip", "runs", "processes", "time", "95 %", "status")
HEAD_CHIPS = ("case", "impl", "chips", "processes", "time", "95 %")


@click.command("pool")
@click.argument("runs", nargs=-1, required=True, metavar="RUN_DIR...")
@click.option("-o", "--out", required=True, metavar="DIR", help="Folder of the pooled result, a new or empty one.")
@click.option("--skip-bad", is_flag=True, help="Go on without files that cannot be trusted, and say so.")
@json_option
def command(runs: tuple[str, ...], out: str, skip_bad: bool, as_json: bool) -> int:
    """Pool repeated runs into one result.

    Runs may be restarts, other days or other chips. There is one row for each case, impl and chip; raw samples keep the
    run and process they come from. Runs on other kinds of chip, by other software or of other work are refused: those
    are compared.
    """
    from perwatt.analysis import pool

    found = pool.pool(runs, skip_bad=skip_bad)
    pool.write(found, Path(out))
    if as_json:
        print_json(found.as_json())
    else:
        _show(found, out)
    return 0


def _show(found: Pool, out: str) -> None:
    from perwatt.report.format import interval, plain, seconds

    print_table(
        "pooled",
        HEAD,
        (
            (one.case, one.impl, one.chip, len(one.runs), one.processes, seconds(one.time_s),
             interval(one.time_s, one.time_s_lo, one.time_s_hi), one.status)
            for one in found.members
        ),
    )  # fmt: skip
    if found.over_chips:
        print_table(
            "over chips",
            HEAD_CHIPS,
            (
                (one.case, one.impl, one.chips, one.processes, seconds(one.time_s),
                 interval(one.time_s, one.time_s_lo, one.time_s_hi))
                for one in found.over_chips
            ),
        )  # fmt: skip
    for line in _lines(found):
        click.echo(plain(line))
    click.echo(plain(f"{len(found.rows)} rows in {Path(out) / 'results.csv'}"))


def _lines(found: Pool) -> list[str]:
    made = [f"left out: {line}" for line in found.left_out]
    for names in dict.fromkeys(one.differ for one in found.members if one.differ):
        count = sum(one.differ == names for one in found.members)
        made.append(f"empty in {count} rows, because their runs differ in it: {', '.join(names)}")
    if rest := [one for one in found.members if not one.raw and one.time_s is not None]:
        made.append(
            f"{len(rest)} rows are made of intervals, because raw samples are not at hand for all of their runs"
        )
    return made

"""``perwatt run``: measure a suite on this machine."""

from __future__ import annotations

import math
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perwatt.cli._output import json_option, print_json

if TYPE_CHECKING:
    from perwatt.analysis.best import Best
    from perwatt.results.schema import Row
    from perwatt.runner.session import Request, Result

ENERGY = {
    "energy": "mode", "sensor": "sensor", "idle": "idle", "power_w": "power_w", "power_scope": "power_scope",
    "power_assumption": "assumption", "power_calibration": "calibration", "power_trace": "trace",
    "meter_class": "meter_class", "meter_offset": "meter_offset_s",
}  # fmt: skip
"""Options about energy, and the fields of :class:`perwatt.power.settings.Settings` that they fill."""
SIGNALLED = 128  # added to a signal's number it makes the exit code, as in a shell


@click.command("run")
@click.argument("suite")
@click.option("--only", multiple=True, metavar="NAME",
              help="Only cases of this name, in which * stands for anything; may be given again.")  # fmt: skip
@click.option(
    "--device",
    default="auto",
    metavar="NAME",
    show_default=True,
    help="Kind of device to measure, and which of several: cuda:1.",
)
@click.option("--placement", metavar="NAME", help="On how much hardware, for every case: device, chip, node, cluster.")
@click.option("--mode", metavar="NAME",
              help="What several devices do: replicate, shard.  [default: shard where the workload can]")  # fmt: skip
@click.option("--nproc", type=click.IntRange(1), metavar="N",
              help="Devices, each with a process: as many as a CPU is to be divided into.")  # fmt: skip
@click.option("--out", metavar="DIR", help="Folder of the run.  [default: results/runs/RUN_ID]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, where it stopped.")
@click.option("--processes", type=click.IntRange(1, 1000), metavar="N",
              help="Process restarts.  [default: the suite's, else the device's]")  # fmt: skip
@click.option("--isolation", type=click.Choice(["run", "case"]), default="run", show_default=True,
              help="A new worker process for each restart, or for each case.")  # fmt: skip
@click.option("--budget", metavar="TIME", help="Time for all, such as 90s, 20m, 1h; spent where intervals are widest.")
@click.option("--aa", is_flag=True, help="Time each case against itself too, which shows the noise floor.")
@click.option("--seed", type=click.IntRange(0, 2**53 - 1), default=0, show_default=True, help="Of data and order.")
@click.option("--shared", is_flag=True, help="Measure though others use the device; rows are marked.")
@click.option("--energy", type=click.Choice(["off", "headline", "all"]),
              help="Rows whose energy is measured.  [default: the suite's, else by the sensor]")  # fmt: skip
@click.option("--sensor", default="", metavar="NAME", help="Sensor of power to read.  [default: the best one here]")
@click.option("--idle", type=click.Choice(["no_context", "context_30s", "after_60s"]), default="no_context",
              show_default=True, help="What idle power is of.")  # fmt: skip
@click.option("--power-w", type=float, metavar="W", help="Declare watts of a chip instead; rows are marked as modeled.")
@click.option("--power-scope", metavar="NAME",
              help="What --power-w or --power-trace are of: chip, gpu_board, node ...  [default: chip]")  # fmt: skip
@click.option("--power-assumption", metavar="ID",
              help="Watts of a sheet that stand for 100 % of a chip; none for percentages only.")  # fmt: skip
@click.option("--power-calibration", metavar="FILE", help="Calibration of a chip's percentages (calibrate-power).")
@click.option("--power-trace", metavar="FILE", help="CSV of an outside meter, read when all windows are over.")
@click.option("--meter-class", type=float, metavar="PCT", help="Accuracy of that meter, in percent of its reading.")
@click.option("--meter-offset", type=float, metavar="S",
              help="Seconds that its clock is ahead.  [default: found out from the load]")  # fmt: skip
@click.option("--yes", is_flag=True, help="Allow a suite of more than 10,000 cases.")
@json_option
def command(suite: str, as_json: bool, **options: Any) -> int:
    """Measure SUITE, a file or a shipped name, and leave a CSV.

    Exit codes: 0 every row is ok, unsupported or skipped; 1 some row failed; 2 wrong input; 3 no row is ok.
    """
    from perwatt.report import console, progress
    from perwatt.runner import session

    request = _request(suite, **options)
    try:
        done = session.run(request, partial(progress.screen, console.console(sys.stderr)))
    except session.Stopped as stop:
        click.echo(f"stopped by {stop}; go on with: {_again(stop.folder)}", err=True)
        return SIGNALLED + stop.signum
    _print(done, as_json)
    return done.exit_code


def _request(suite: str, *, out: str | None, budget: str | None, **options: Any) -> Request:
    from perwatt.power.settings import Settings
    from perwatt.runner.budget import parse
    from perwatt.runner.orchestrator import Options
    from perwatt.runner.session import Request

    chosen = {name: options.pop(name) for name in ("seed", "processes", "aa", "isolation")}
    energy = Settings(**{field: options.pop(option) for option, field in ENERGY.items()})
    return Request(
        suite=suite,
        out=Path(out) if out else None,
        options=Options(budget_s=parse(budget) if budget else None, energy=energy, **chosen),
        **options,
    )


def _again(folder: Path) -> str:
    """The command that goes on with the run."""
    words = ["perwatt", *sys.argv[1:]]
    if "--resume" not in words:
        words.append("--resume")
    if not any(word == "--out" or word.startswith("--out=") for word in words):
        words += ["--out", str(folder)]
    return shlex.join(words)


def _print(done: Result, as_json: bool) -> None:
    from perwatt.analysis import best
    from perwatt.report import console, table
    from perwatt.results import samples
    from perwatt.results.schema import cells

    chosen = best.of_run(done.rows, samples.read(done.folder.samples))
    if not as_json:
        table.show(console.console(sys.stdout), done.rows, str(done.folder.results), chosen)
        return
    rows = [{column.name: value for column, value in cells(row)} for row in done.rows]
    files = ("results", "samples", "journal", "environment", "suite")
    paths = {name: str(getattr(done.folder, name)) for name in files}
    found = [_best(row, chosen[row.samples_digest]) for row in done.rows if row.samples_digest in chosen]
    print_json({"run_id": done.run_id, "exit_code": done.exit_code, "paths": paths, "rows": rows, "best": found})


def _best(row: Row, choice: Best) -> dict[str, Any]:
    """The best implementation of a case, with its time on the half of the blocks that had no part in the choice."""
    found = choice.time_s
    ends = {"time_s_lo": found.lo, "time_s_hi": found.hi}
    known = {name: end if math.isfinite(end) else None for name, end in ends.items()}
    named = {"case": row.case, "match_key": row.match_key, "samples_digest": row.samples_digest}
    return named | {"impl": choice.impl, "among": list(choice.among), "time_s": found.median, **known}

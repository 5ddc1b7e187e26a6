"""``perwatt calibrate-power``: watts of a chip that gives only percentages, by an outside meter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perwatt.cli._app import NOTHING
from perwatt.cli._output import json_option, print_json, print_table

if TYPE_CHECKING:
    from perwatt.power.calibration_file import Calibration, Point
    from perwatt.power.points import Taken

HEAD = ("case", "impl", "percent", "95 %", "watts", "95 %", "residual")
FITTED = ("", "watts", "from", "to")
SCOPES = ("die", "package", "gpu_board", "module", "node", "rack", "facility")


@click.command("calibrate-power")
@click.argument("runs", nargs=-1, required=True, metavar="RUN_DIR...")
@click.option("--power-trace", "trace", required=True, metavar="FILE",
              help="CSV of the meter: time or unix_s, and watts or watts_NAME.")  # fmt: skip
@click.option("--meter-class", "accuracy", type=float, required=True, metavar="PCT",
              help="Accuracy of the meter, in percent of its reading.")  # fmt: skip
@click.option("--meter-offset", "offset_s", type=float, metavar="S",
              help="Seconds by which its clock is ahead of the host's.  [default: found from the loads]")  # fmt: skip
@click.option("--scope", type=click.Choice(SCOPES), default="node", show_default=True, help="What the meter sees.")
@click.option("-o", "--out", metavar="FILE", help="Write the calibration to a YAML file.")
@json_option
def command(
    runs: tuple[str, ...], trace: str, accuracy: float, offset_s: float | None, scope: str, out: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Fit watts to a chip's power percentages.

    Background and maximum, with intervals, by an outside meter that saw the runs.

    The runs have energy windows of at least three loads that span 20 points of percent (suite power). Exit codes: 0
    done, 2 wrong input, 3 no fit: too few levels of load, or watts that do not rise with the percentage.
    """
    from perwatt.power import calibration, calibration_file, meterfile
    from perwatt.power.points import chips, points, the_same

    meter = meterfile.read(trace, accuracy_pct=accuracy, scope=scope, chips=max(map(chips, runs)))
    taken = [points(run, meter, offset_s) for run in runs]
    subject = the_same([one.subject for one in taken], runs[-1])
    found = [point for one in taken for point in one.points]
    try:
        fitted = calibration.fit(subject, found)
    except calibration.NoFit as error:
        if as_json:
            print_json({"fit": None, "reason": str(error), **_taken(taken)})
        else:
            _show_points([(point, None) for point in found])
            _show_left_out(taken)
        click.echo(f"no calibration: {error}", err=True)
        return NOTHING
    if out:
        calibration_file.write(fitted, Path(out))
    if as_json:
        from perwatt.hardware.reader import plain

        print_json({"fit": plain(fitted), **_taken(taken)})
    else:
        _show(fitted, taken)
    return 0


def _taken(taken: list[Taken]) -> dict[str, Any]:
    from perwatt.hardware.reader import plain

    return {
        "points": [plain(point) for one in taken for point in one.points],
        "left_out": [line for one in taken for line in one.left_out],
        "offsets": [{"seconds": one.offset_s, "u95": one.offset_u95} for one in taken],
    }


def _show(fitted: Calibration, taken: list[Taken]) -> None:
    from perwatt.power.calibration import residuals
    from perwatt.report.format import number

    _show_points(residuals(fitted))
    print_table(
        f"calibration {fitted.id} of {fitted.chips} x {fitted.chip} ({fitted.scope})", FITTED,
        [(name, number(one.value), number(one.lo), number(one.hi))
         for name, one in (("background", fitted.background_w), ("maximum", fitted.maximum_w))],
    )  # fmt: skip
    _show_left_out(taken)
    for one in taken:
        click.echo(f"the meter's clock is ahead by {one.offset_s:.2f} s (±{one.offset_u95:.2g} s)")
    if fitted.scope in ("node", "rack", "facility"):
        click.echo(f"the background holds whatever else the {fitted.scope} draws that does not follow the chips' load")
    if fitted.misfit:
        times = f"{fitted.reduced_chi2**0.5:.1f} times as far off"
        click.echo(f"misfit: points are {times} as their intervals say; the line is not all of the truth")


def _show_points(rows: Sequence[tuple[Point, float | None]]) -> None:
    from perwatt.report.format import interval, number

    print_table(
        "points", HEAD,
        ((one.case, one.impl, number(one.pct), interval(one.pct, one.pct_lo, one.pct_hi), number(one.watts),
          interval(one.watts, one.watts_lo, one.watts_hi), None if off is None else f"{off:+.4g} W")
         for one, off in rows),
    )  # fmt: skip


def _show_left_out(taken: list[Taken]) -> None:
    from perwatt.report.format import plain

    for one in taken:
        for line in one.left_out:
            click.echo(plain(f"left out: {line}"))

"""``perwatt gate``: fail where something got worse than a baseline by more than its limit."""

from __future__ import annotations

import sys

import click

from perwatt.cli._output import json_option, print_json

SHARE = click.FloatRange(0, 100, max_open=True)


@click.command("gate")
@click.argument("current", nargs=-1, required=True, metavar="CURRENT...")
@click.option("--baseline", "baselines", multiple=True, required=True, metavar="PATH",
              help="What it is judged by: a results CSV, a run's folder, a folder of CSVs or a glob.")  # fmt: skip
@click.option("--max-regression", metavar="PERCENT",
              help="Limit of every figure without one of its own.  [default: 3%]")  # fmt: skip
@click.option("--metric", "metrics", multiple=True, metavar="NAME",
              help="Figure to look at; may be given again.  [default: time]")  # fmt: skip
@click.option("--limit", "own", multiple=True, metavar="NAME=PERCENT",
              help="Limit of one figure, such as peak_bytes=1%; may be given again.")  # fmt: skip
@click.option("--limits", "file", metavar="FILE", help="YAML file with the limit of each figure.")
@click.option("--normalize-by", metavar="NAME",
              help="Workload or case of the same run whose change is taken off every other's.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Fail where a case of the baseline is not there now.")
@click.option("--between-processes", type=SHARE, default=1.0, show_default=True, metavar="PERCENT",
              help="Allowance for differences between processes, with fewer than 3 runs.")  # fmt: skip
@click.option("--between-chips", type=SHARE, default=5.0, show_default=True, metavar="PERCENT",
              help="Allowance for differences between chips, with fewer than 3.")  # fmt: skip
@click.option("--skip-bad", is_flag=True, help="Go on without files that cannot be trusted, and say so.")
@click.option("--markdown", is_flag=True, help="Print Markdown for a pull request.")
@json_option
def command(
    current: tuple[str, ...], baselines: tuple[str, ...], max_regression: str | None, metrics: tuple[str, ...],
    own: tuple[str, ...], file: str | None, normalize_by: str | None, strict: bool, between_processes: float,
    between_chips: float, skip_bad: bool, markdown: bool, as_json: bool,
) -> int:  # fmt: skip
    """Judge CURRENT by a baseline.

    A figure fails where the lower end of its regression's 95 % interval is beyond the limit, with Holm's correction
    over all cases. So does a row that was ok and is not now. Exit codes: 0 passed, 1 failed, 2 wrong input, 3 nothing
    matched.
    """
    from perwatt.analysis.gate import gate
    from perwatt.analysis.gate_limits import limits
    from perwatt.analysis.gate_result import GateOptions
    from perwatt.analysis.levels import Allowance
    from perwatt.analysis.sides import load

    options = GateOptions(
        limits=limits(usual=max_regression, metrics=metrics, own=own, file=file), normalize_by=normalize_by,
        strict=strict, allowance=Allowance(process=between_processes / 100, chip=between_chips / 100),
    )  # fmt: skip
    found = gate(load(*current, skip_bad=skip_bad), load(*baselines, skip_bad=skip_bad), options)
    if as_json:
        print_json(found.as_json())
        return found.exit_code
    from perwatt.report import comparison_formats as formats
    from perwatt.report import gate as report
    from perwatt.report.console import console

    if markdown:
        print(report.markdown(found), end="")
    else:
        formats.print_all(console(sys.stdout), report.sheets(found), [*report.lines(found), report.headline(found)])
    return found.exit_code

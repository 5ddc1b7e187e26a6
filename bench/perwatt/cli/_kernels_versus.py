"""``perwatt kernels versus``: an implementation against others of the same run, case by case and in the mean."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from perwatt.cli._app import debug_option
from perwatt.cli._output import json_option, print_json

if TYPE_CHECKING:
    from perwatt.analysis.versus import Ends, Versus
    from perwatt.report.sheet import Sheet

NOTHING = 3
HEAD = ("case", "peer", "ratio", "TFLOP/s", "FLOP floor", "byte floor", "gap", "path")
STATE = ("case", "MFU", "of ceiling", "W", "limit W", "SM MHz", "flags")
MEANS = ("workload", "pass", "precision", "cases", "geometric mean", "least", "of", "above 1")


@click.command("versus")
@click.argument("paths", nargs=-1, required=True, metavar="RESULTS...")
@click.option("--impl", required=True, metavar="NAME", help="The implementation that is looked at.")
@click.option("--peer", "peers", multiple=True, metavar="NAME",
              help="Whom it is to meet; of several the fastest in each case.  [default: all others]")  # fmt: skip
@click.option("--only", multiple=True, metavar="NAME",
              help="Only cases of this name, in which * stands for anything; may be given again.")  # fmt: skip
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@json_option
def versus(
    paths: tuple[str, ...], impl: str, peers: tuple[str, ...], only: tuple[str, ...], markdown: bool, as_json: bool
) -> int:
    """Show how fast an implementation is beside others that took turns with it.

    RESULTS is a results CSV, a run's folder, a folder of CSVs or a glob. A ratio above 1 says that the implementation
    is faster. Floors are what the chip's sheet allows by operations and by bytes; the gap is the time over the larger.
    Of each case there are also MFU, the share of the run's best product, power, its limit and the clock.
    Exits with 3 if nothing met.
    """
    from perwatt.analysis.breakdown.rows import read
    from perwatt.analysis.versus import versus as compared

    found = compared(read(paths), impl, peers, only)
    from perwatt.report.comparison_formats import markdown_of, print_all
    from perwatt.report.console import console

    tables, notes = (_meetings(found), _state(found), _means(found)), [f"{case}: {why}" for case, why in found.alone]
    if as_json:
        print_json(found.as_json())
    elif markdown:
        click.echo(markdown_of(tables, notes), nl=False)
    else:
        print_all(console(sys.stdout), tables, notes)
    return 0 if found.meetings else NOTHING


versus.params.append(debug_option())


def _meetings(found: Versus) -> Sheet:
    from perwatt.report.format import number, seconds
    from perwatt.report.sheet import Sheet

    rows = (
        (
            one.case, one.peer, _ends(one.ratio), number(one.tflops), seconds(one.flops_s), seconds(one.bytes_s),
            "" if one.gap is None else f"{one.gap:.2f}", one.path,
        )
        for one in found.meetings
    )  # fmt: skip
    title = f"{found.impl}: time of the peer over its own"
    return Sheet(title=title, head=HEAD, rows=tuple(rows), right=frozenset({3, 4, 5, 6}))


def _state(found: Versus) -> Sheet:
    from perwatt.report.format import number
    from perwatt.report.sheet import Sheet

    rows = (
        (
            one.case, _share(one.mfu), _share(one.ceiling_fraction), number(one.power_w), number(one.power_limit_w),
            number(one.sm_clock_mhz), " ".join(one.flags),
        )
        for one in found.meetings
    )  # fmt: skip
    return Sheet(title=f"{found.impl}: how it ran", head=STATE, rows=tuple(rows), right=frozenset({1, 2, 3, 4, 5}))


def _means(found: Versus) -> Sheet:
    from perwatt.report.sheet import Sheet

    rows = (
        (*one.group, str(one.cases), _ends(one.mean), f"{one.least:.3f}", one.where, f"{one.above:.0%}")
        for one in found.summaries
    )
    return Sheet(title="in the mean", head=MEANS, rows=tuple(rows), right=frozenset({3, 5, 7}))


def _share(found: float | None) -> str:
    return "" if found is None else f"{found:.1%}"


def _ends(found: Ends) -> str:
    ratio, lo, hi = found
    return f"{ratio:.3f}" if lo is None or hi is None else f"{ratio:.3f} [{lo:.3f}, {hi:.3f}]"

"""What a gate found as tables and lines, for a terminal and for a pull request; nothing is computed here but text."""

from __future__ import annotations

from collections.abc import Sequence

from perwatt.analysis.gate_result import NOTHING, PASSED, Change, Check, Gate, Outcome, Yardstick
from perwatt.report import comparison_formats as formats
from perwatt.report.comparison import FEW
from perwatt.report.sheet import Sheet, value

HEAD = ("case", "figure", "impl", "on", "baseline", "now", "worse by [95 %]", "limit", "outcome", "why")
RIGHT = frozenset({4, 5, 6, 7})
ORDER = (Outcome.FAILED, Outcome.UNCLEAR, Outcome.PASSED)


def headline(found: Gate) -> str:
    """The answer in one line."""
    counts = [f"{sum(c.outcome == kind for c in found.checks)} {kind}" for kind in ORDER]
    broken = f", {len(found.broken)} no longer ok" if found.broken else ""
    gone = f", {len(found.vanished)} vanished" if found.vanished else ""
    decided = any(check.outcome == Outcome.PASSED for check in found.checks)
    passed = "passed" if decided else "passed, with nothing decided"
    word = {PASSED: passed, NOTHING: "nothing was measured"}.get(found.exit_code, "failed")
    return f"gate: {word} ({len(found.checks)} checks: {', '.join(counts)}{broken}{gone})"


def sheets(found: Gate) -> list[Sheet]:
    """Checks with what failed on top, and the yardstick."""
    ordered = sorted(found.checks, key=lambda check: (ORDER.index(check.outcome), -check.worse))
    made = [_sheet("checks", ordered)] if ordered else []
    if found.yardstick:
        rows = tuple((one.case, one.impl, one.chip, _ratio(one)) for one in found.yardstick)
        head = ("case", "impl", "chip", "baseline / now [95 %]")
        title = "yardstick: its change is taken off every other time and rate"
        made.append(Sheet(title=title, head=head, rows=rows, right=frozenset({3})))
    return made


def _sheet(title: str, checks: Sequence[Check]) -> Sheet:
    return Sheet(title=title, head=HEAD, rows=tuple(map(_line, checks)), right=RIGHT)


def lines(found: Gate) -> list[str]:
    """All that is in no table."""
    made = [f"was ok and is not now: {_change(one)}" for one in found.broken]
    made += [f"note: {note}" for note in found.notes]
    made += [f"left out, cannot be read: {line}" for line in found.skipped]
    groups = {
        "vanished": found.vanished, "new": found.new, "recovered": found.recovered, "ok on neither side": found.failing,
        "not compared": found.not_compared,
    }  # fmt: skip
    for name, changes in groups.items():
        if changes:
            more = f"; and {len(changes) - FEW} more" if len(changes) > FEW else ""
            made.append(f"{name} ({len(changes)}): {'; '.join(map(_change, changes[:FEW]))}{more}")
    return made


def markdown(found: Gate) -> str:
    """For a pull request: the answer, what did not pass, and the rest folded away."""
    tables = sheets(found)
    loud = [check for check in found.checks if check.outcome != Outcome.PASSED]
    quiet = [check for check in found.checks if check.outcome == Outcome.PASSED]
    loud = sorted(loud, key=lambda check: (ORDER.index(check.outcome), -check.worse))
    shown = [_sheet("did not pass", loud)] if loud else []
    text = f"**{formats.escaped(headline(found))}**\n\n" + formats.markdown_of(
        [*shown, *(table for table in tables if table.head != HEAD)], lines(found)
    )
    if not quiet:
        return text
    summary = f"<details><summary>{len(quiet)} passed</summary>\n\n"
    return f"{text}\n{summary}{formats.markdown_of([_sheet('passed', quiet)], [])}\n</details>\n"


def percent(part: float) -> str:
    """``+3.2 %``."""
    return f"{100 * part:+.3g} %"


def _line(check: Check) -> tuple[str, ...]:
    ends = "" if check.worse_lo is None or check.worse_hi is None else (
        f" [{percent(check.worse_lo)}, {percent(check.worse_hi)}]"
    )  # fmt: skip
    worse = percent(check.worse) + ends + (" (normalized)" if check.normalized else "")
    figures = [value(one, check.unit) for one in (check.baseline, check.current)]
    limit = f"{100 * check.limit:.3g} %"
    case = check.case if check.case.startswith(check.workload) else f"{check.workload} {check.case}"
    return (
        case, check.metric, check.impl, f"{check.placement} {check.chip}", *figures, worse, limit, str(check.outcome),
        check.reason,
    )  # fmt: skip


def _change(one: Change) -> str:
    return f"{one.case} {one.impl} ({one.file}:{one.line}) {one.what}"


def _ratio(one: Yardstick) -> str:
    ends = "" if one.lo is None or one.hi is None else f" [{one.lo:.3f}, {one.hi:.3f}]"
    return f"{one.ratio:.3f}{ends}"

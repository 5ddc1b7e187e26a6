"""Documentation of the published rows: what was printed, how it was counted, and what we make of it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from perwatt.results.document import table as markdown
from perwatt.results.published.agreement import TOLERANCE, Check, checks, worked_out
from perwatt.results.published.conventions import CONVENTIONS, UNKNOWN
from perwatt.results.published.entry import Entry
from perwatt.results.published.rows import label, row
from perwatt.results.published.tables import Table

SPECIAL = re.compile(r"([\\`*_\[\]~])")
HEAD = """\
# Published results

What vendors and third parties print of training on chips, as rows of `results/published/*.csv` in the
[row schema](results.md). This page is made from `results/published/sources/*.yaml`, which hold only what is printed;
`python -m perwatt.results.published` writes page and CSVs anew.

- **Nothing here was measured by us**: `time_evidence` is `published`. Each row has its source, the source's date, and a
  grade: A the vendor's own, B a reputable third party, C an estimate or hearsay.
- **No row has a match key.** A key needs the whole work ([method](method.md)): layouts, data, optimizer, every format.
  No source says all of it, not even for a single product of matrices, so no row here is like one of a run.
- **MFU twice.** Sources count operations in their own ways. *By its convention* is the printed MFU or rate worked out
  anew as the source counts, from the other figures it prints, our shapes of the models, and the peaks of our sheets (or
  the peak that the source itself names). The residual compares that with what is printed. *Our MFU* is in one
  convention for all rows, that of [method](method.md), and always over the sheet's peak.
- **One format's peak.** An MFU in FP8 or FP4 is over the dense peak of that format, although attention and other parts
  run in BF16 in most of these rows; sources do not say which.
- An iteration is one sequence in rows of training, and one whole training in rows of MLPerf.
"""
MISSING = """\
## What is not there

- Tokens per second of training on Trn2 or Trn3 from AWS, and any MLPerf entry of a Trainium.
- Figures that are only arithmetic on printed ones do not stand in `printed`: rates of a chip, where a source prints
  those of a whole system, are worked out in other columns; times that follow from a printed ratio are left out.
- Products of matrices at their best shape on Trainium and TPU.
"""


def render(tables: Sequence[Table]) -> str:
    """The page, as Markdown."""
    parts = [HEAD, *_summary(tables), "", "## Conventions", ""]
    parts += ["N parameters, L layers, h heads times their width, S tokens of a sequence; operations of one token.", ""]
    parts += markdown(("convention", "operations of a token", "stated in"), _conventions())
    for table in tables:
        parts += _section(table)
    return "\n".join([*parts, MISSING]).rstrip("\n") + "\n"


def escape(text: str) -> str:
    """Text of a table as Markdown that shows it and does nothing else."""
    return SPECIAL.sub(r"\\\1", html.escape(text, quote=False))


def _conventions() -> Iterator[tuple[str, ...]]:
    return ((f"`{name}`", convention.formula, convention.stated) for name, convention in CONVENTIONS.items())


def _summary(tables: Sequence[Table]) -> Iterator[str]:
    """How many rows there are, and how many agree."""
    pairs = [(entry, next(checks(table, entry), None)) for table in tables for entry in table.rows]
    stated = [(entry, check) for entry, check in pairs if check and check.convention != UNKNOWN]
    kept = [check for entry, check in stated if not entry.differs]
    digits = [check for check in kept if abs(check.residual) > TOLERANCE]
    worst = max((abs(check.residual) for check in digits), default=0.0)
    yield f"Of {len(pairs)} rows, {len(stated)} can be worked out anew in a convention that is stated:"
    yield f"{len(kept) - len(digits)} agree within 1 % with what is printed, {len(digits)} more once the digits"
    yield f"that the source rounded away are allowed for (residuals up to {100 * worst:.1f} %),"
    yield f"and {len(stated) - len(kept)} do not; each table lists those with what is known of why. A row whose"
    yield "convention is `unknown` has its residual against our own count, where we can count it at all."


def _differing(table: Table) -> Iterator[str]:
    """Rows that their convention does not give, with what is known of why."""
    found = [(entry, next(checks(table, entry), None)) for entry in table.rows if entry.differs]
    if found:
        yield from ("Not given by the convention that their source states:", "")
        for entry, check in found:
            residual = f", {100 * check.residual:+.1f} %" if check else ""
            yield f"- {escape(label(entry))}{residual}: {escape(entry.differs or '')}"
        yield ""


def _section(table: Table) -> Iterator[str]:
    yield from (f"## {escape(table.name)}", "", escape(table.about), "")
    head = ("row", "printed", "source", "convention", "printed MFU", "by its convention", "residual", "our MFU")
    yield from markdown(head, (_line(table, entry) for entry in table.rows))
    yield from _differing(table)
    others = [(entry, check) for entry in table.rows for check in worked_out(table, entry)]
    if others:
        yield from ("MFU that others worked out from these rows, beside our figure in the same convention:", "")
        lines = ((escape(label(entry)), f"`{c.convention}`", f"{c.printed:g} %", _shown(c)) for entry, c in others)
        yield from markdown(("row", "convention", "theirs", "ours"), lines)
    sources = table.sources.items()
    lines = ((escape(key), escape(source.where), source.date, source.grade) for key, source in sources)
    yield from markdown(("source", "where", "date", "grade"), lines)
    if table.uncounted:
        yield from ("Not counted by us:", "")
        yield from (f"- {escape(model)}: {escape(why)}" for model, why in table.uncounted.items())
        yield ""


def _line(table: Table, entry: Entry) -> tuple[str, ...]:
    check = next(checks(table, entry), None)
    ours = row(table, entry).mfu
    return (
        escape(label(entry)), escape(entry.text), escape(entry.source),
        f"`{entry.convention}`" if entry.convention else "",
        f"{entry.printed.mfu:g} %" if entry.printed.mfu else "",
        _shown(check) if check and check.convention != UNKNOWN else "",
        f"{100 * check.residual:+.1f} %" if check else "",
        f"{100 * ours:.1f} %" if ours else "",
    )  # fmt: skip


def _shown(check: Check) -> str:
    return f"{check.computed:.1f} %" if check.unit == "% MFU" else f"{check.computed:.0f} {check.unit}"

"""What a person sees while a run goes on: a moving line on a terminal, plain lines elsewhere.

Nothing here refreshes by itself: a thread that draws would draw inside samples. The worker waits while a message of
its own is drawn.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from perwatt.report.format import interval, plain, seconds, span
from perwatt.results.merge import series
from perwatt.results.schema import Status
from perwatt.runner.part import Part
from perwatt.spec.case import Case
from perwatt.timing import statistics

PHASES = {
    "open": "making data", "compile": "first call", "gate": "checking accuracy", "warmup": "warming up",
    "sample": "sampling", "gate-after": "checking accuracy again", "window-open": "energy: making data",
    "window": "energy: steady load",
}  # fmt: skip
IMPL_WIDTH = 16  # of the column of impls in plain lines


class Lines:
    """One line for each case and one for each outcome.

    Args:
        console: where to.
        cases: of the suite.
    """

    def __init__(self, console: Console, cases: Sequence[Case]) -> None:
        self._console = console
        self._numbers = {case.identity: number for number, case in enumerate(cases, 1)}
        self._names = Counter(case.name for case in cases)
        self._head = ""
        self._timeout_s = 0.0
        self._phase, self._phase_at, self._slow = "", 0.0, False
        self._began: tuple[float, float] | None = None  # when, and how much of the sweep was over
        self._end: float | None = None  # when it will be over

    def visit(self, case: Case, process: int, done: float) -> None:
        """Remember the case; it is named when there is something to say of it."""
        now = time.monotonic()
        began, before = self._began = self._began or (now, done)
        self._end = now + (now - began) / (done - before) * (1.0 - done) if before < done < 1 else None
        self._phase, self._slow = "", False
        restart = f", restart {process}" if process else ""
        self._timeout_s = case.measure.timeout_s
        self._head = f"[{self._numbers[case.identity]}/{len(self._numbers)}] {plain(self._named(case))}{restart}"

    def _named(self, case: Case) -> str:
        """The case, with what it is done on and how where another has its name: ``..., chip fsdp``."""
        if self._names[case.name] == 1:
            return case.name
        how = "" if case.placement == "device" else f" {case.parallel or case.mode}"
        return f"{case.name}, {case.placement}{how}"

    def event(self, event: dict[str, Any]) -> None:
        """Lines are for what is over, and one for what takes so long that it seems to hang."""
        if event["event"] == "phase":
            self._phase, self._phase_at, self._slow = (
                PHASES.get(event["phase"], event["phase"]),
                time.monotonic(),
                False,
            )
        elif event["event"] == "quiet" and not self._slow:
            self._slow = True
            self._name_case()
            took = seconds(time.monotonic() - self._phase_at)
            waited = (
                f"slow here: {self._phase or 'at work'} for {took}; waited for up to timeout_s = {self._timeout_s:g}"
            )
            self._print(f"    {plain(event['impl']):<{IMPL_WIDTH}} {waited}", "yellow")

    def part(self, part: Part) -> None:
        """One line of outcome."""
        self._name_case()
        style = "" if part.status == Status.OK else "yellow"
        self._print(f"    {plain(part.impl):<{IMPL_WIDTH}} {_outcome(part)}", style)

    def _name_case(self) -> None:
        """Before the first line about it."""
        if self._head:
            left = self.left()
            self._print(self._head + (f" (about {left} left)" if left else ""))
            self._head = ""

    def note(self, text: str) -> None:
        """One line."""
        self._print(plain(text))

    def left(self) -> str:
        """Time left, by how long the sweep took so far; nothing as long as that says nothing."""
        left = 0.0 if self._end is None else self._end - time.monotonic()
        return span(left) if left >= 1.0 else ""  # a case that takes longer than others leaves nothing to go by

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)


class Moving(Lines):
    """The same lines above one that moves."""

    def __init__(self, console: Console, cases: Sequence[Case], live: Live) -> None:
        super().__init__(console, cases)
        self._live = live
        self._case = ""

    def visit(self, case: Case, process: int, done: float) -> None:
        """Name the case on the moving line too."""
        super().visit(case, process, done)
        self._case = self._head
        self._show()

    def event(self, event: dict[str, Any]) -> None:
        """Show what is going on."""
        super().event(event)
        if event["event"] != "quiet":
            self._show(plain(event["impl"]), _doing(event))

    def _show(self, *doing: str) -> None:
        left = self.left()
        words = [self._case, *doing, f"{left} left" if left else ""]
        self._live.update(Text(" · ".join(filter(None, words)), no_wrap=True, overflow="ellipsis"), refresh=True)


@contextmanager
def screen(console: Console, title: str, cases: Sequence[Case]) -> Iterator[Lines]:
    """The screen that suits the console, under a title; the moving line is gone afterwards."""
    console.print(Text(plain(title)), soft_wrap=True)
    if not console.is_terminal:
        yield Lines(console, cases)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield Moving(console, cases, live)


def _doing(event: dict[str, Any]) -> str:
    if event["event"] == "phase":
        return PHASES.get(event["phase"], str(event["phase"]))
    time_s = event["median_s"]
    return f"{seconds(time_s)} {interval(time_s, event['lo_s'], event['hi_s'])} · {event['samples']} samples"


def _outcome(part: Part) -> str:
    if part.status != Status.OK:
        return f"{part.status}: {plain(part.error)}"
    values = series(part)
    found = statistics.estimate(values)
    shown = f"{seconds(found.median)} {interval(found.median, found.lo, found.hi)}"
    again = f", round {part.round}" if part.round else ""
    return f"{shown:<20} {len(values)} samples in {part.elapsed_s:.1f} s{again}"

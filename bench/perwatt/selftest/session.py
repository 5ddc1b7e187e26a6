"""Going through the tests: a child for as long as it lives, another one after a hang, a crash or a poisoned device."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perwatt.selftest.plan import Test
from perwatt.selftest.process import Child, Gone

MOST_STARTS = 2  # in a row that fail after a hang or a crash; then the device counts as lost
COMPILERS = "compilers"  # folder that children work in, where compilers leave what they say
IDLE = ("refused", "skipped")  # statuses of tests in which nothing ran
FINE = ("ok", *IDLE)  # and that are no failure
STATUSES = {
    "ok": "as accurate as it has to be",
    "inaccurate": "its error is beyond the bound",
    "refused": "the kernel says beforehand that it does not take this",
    "failed": "an error was raised",
    "gone": "the process hung or died",
    "skipped": "the time was over",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What came of a test.

    Attributes:
        test: which.
        status: one of :data:`STATUSES`.
        error: why it is not ok, in one line.
        facts: ``rel_err``, ``bound``, ``first_s``, ``time_s``, ``path``, as far as it came.
        fallback: what the implementation in its place did: ``impl`` and the same; empty where none was asked.
    """

    test: Test
    status: str
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    fallback: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it is a failure."""
        return self.status not in FINE

    @property
    def ran(self) -> bool:
        """Whether the kernel was launched."""
        return self.status not in IDLE

    def message(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "kernel": self.test.kernel, "label": self.test.label, "impl": self.test.impl, "case": self.test.case,
            "status": self.status, "error": self.error, **self.facts, "fallback": self.fallback or None,
        }  # fmt: skip


class Session:
    """One self-test of a device.

    Args:
        start: starts a child.
        timeout_s: for a test, its compilation included.
        budget_s: for all; tests that do not start in it are skipped. None sets no limit.
    """

    def __init__(self, start: Callable[[], Child], timeout_s: float, budget_s: float | None = None) -> None:
        self._start, self._timeout_s = start, timeout_s
        self._ends = None if budget_s is None else time.monotonic() + budget_s
        self._child: Child | None = None
        self._began, self._lost, self._why = False, 0, ""
        self.environment: dict[str, Any] = {}

    def run(self, tests: list[Test]) -> Generator[Result, None, None]:
        """Results in order. Where one fails, its fallback is done as well.

        A device that does not come back after a hang or a crash costs what was to be done on it, and nothing before.

        Raises:
            Gone: the first child does not start.
        """
        try:
            for test in tests:
                if self._ends is not None and time.monotonic() > self._ends:
                    yield Result(test=test, status="skipped", error="the time was over")
                else:
                    yield self._one(test)
        finally:
            self._end()

    def _one(self, test: Test) -> Result:
        found = self._asked(test, test.impl)
        status, error = found.pop("status"), found.pop("error")
        result = Result(test=test, status=status, error=error, facts=found)
        if not result.failed or test.fallback == test.impl or self._lost >= MOST_STARTS:
            return result
        return Result(
            test=test, status=status, error=error, facts=found,
            fallback={"impl": test.fallback, **self._asked(test, test.fallback)},
        )  # fmt: skip

    def _asked(self, test: Test, impl: str) -> dict[str, Any]:
        child = self._child or self._another()
        if child is None:
            return {"status": "gone", "error": f"after a hang or a crash the device did not come back: {self._why}"}
        try:
            found = child.ask(test.case, impl, self._timeout_s, compiled=test.compiled and impl == test.impl)
        except Gone as gone:
            self._child = None
            return {"status": "gone", "error": str(gone)}
        if found.pop("poisoned", False):
            self._end()
        return found

    def _another(self) -> Child | None:
        """A child that was started, or None where none starts any more.

        Raises:
            Gone: it would have been the first.
        """
        if self._lost >= MOST_STARTS:
            return None
        try:
            self._child = self._start()
        except Gone as gone:
            if not self._began:
                raise
            self._lost, self._why = self._lost + 1, str(gone)
            return None
        self._began, self._lost = True, 0
        self.environment = self._child.environment
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            with contextlib.suppress(OSError):
                self._child.close()
            self._child = None


def child(address: str, target: str | None, lnc: int, folder: Path) -> Callable[[], Child]:
    """What starts a child, its output in ``folder/log.txt`` and its compilers' files in ``folder/compilers``."""
    work = folder / COMPILERS
    work.mkdir(parents=True, exist_ok=True)
    return lambda: Child(address, target, lnc, work, folder / "log.txt")

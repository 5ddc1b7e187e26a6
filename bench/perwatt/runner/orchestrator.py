"""Runs a suite: case after case through a worker. A failure costs one row, never the sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from perwatt.backends.base import Backend
from perwatt.errors import MissingHardware
from perwatt.power.settings import Settings
from perwatt.results.schema import TIMED, Status
from perwatt.runner import preflight
from perwatt.runner.attempt import Attempt
from perwatt.runner.budget import Budget, Need, neediest
from perwatt.runner.crew import Crew
from perwatt.runner.ledger import case_event
from perwatt.runner.part import Part
from perwatt.runner.recorder import Recorder
from perwatt.runner.supervisor import WorkerLost
from perwatt.runner.windows import Windows
from perwatt.spec.case import Case
from perwatt.spec.suite import Energy
from perwatt_kernels.choices import store

QUIET_S = 20.0  # without a word from the worker, after which a person wants to know what it is at
OFF = Energy(mode="off")
ENERGY_SHARE = 0.5  # of a budget, at most, that is kept for energy windows


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the user chose for a run beyond the suite.

    Attributes:
        seed: of the input data and of the order of impls.
        processes: process restarts; None leaves it to the suite, and that to the backend.
        aa: time every impl against itself too.
        isolation: a new worker for each restart (``run``) or for each case of it (``case``).
        budget_s: seconds that the whole run may take.
        energy: how it is measured.
    """

    seed: int = 0
    processes: int | None = None
    aa: bool = False
    isolation: Literal["run", "case"] = "run"
    budget_s: float | None = None
    energy: Settings = field(default_factory=Settings)


class Screen(Protocol):
    """What a person sees while a run goes on."""

    def visit(self, case: Case, process: int, done: float) -> None:
        """A case begins in a process restart, when ``done`` of the sweep is over."""

    def event(self, event: dict[str, Any]) -> None:
        """A phase, or the progress of sampling."""

    def part(self, part: Part) -> None:
        """An outcome."""

    def note(self, text: str) -> None:
        """Something else that a person should know, in one line."""


class Orchestrator:
    """One run, or what is left of one.

    Args:
        cases: of the suite, in its order.
        backend: the device; this process asks it for facts and never starts it.
        options: the user's choices.
        recorder: where events go.
        screen: where progress goes.
        log: file for what workers print.
        energy: what the suite says of it.
    """

    def __init__(
        self, cases: Sequence[Case], backend: Backend, options: Options, recorder: Recorder, screen: Screen, log: Path,
        energy: Energy = OFF,
    ) -> None:  # fmt: skip
        self._cases, self._backend, self._options = cases, backend, options
        self._recorder, self._ledger, self._screen = recorder, recorder.ledger, screen
        left = lambda errors: recorder.add({"event": "left", "errors": errors})  # noqa: E731 - only Crew calls it
        self._crew = Crew(backend, log, recorder.ledger.run["run_id"], recorder.note_environment, left)
        self._sessions = 2 if options.aa else 1
        self._windows = Windows(cases, backend, energy, options.energy, options.seed, self._crew, recorder, screen)
        self._budget: Budget | None = None
        self._no_team: dict[int, str] = {}  # why there is none, by its number of ranks

    def run(self) -> None:
        """Do all that the journal does not have yet.

        Raises:
            InputError: something cannot be written, or the run began in another environment.
            MissingHardware: no worker comes up.
        """
        total = self._options.budget_s
        with self._crew:
            windows_s = self._windows.begin()
            if total:  # windows get what they need, up to half
                self._budget = Budget(total - min(windows_s, ENERGY_SHARE * total))
            self._sweep()
            self._windows.run(None if total is None else total - self._recorder.spent_s)
            self._rounds()
            self._windows.finish()
        if not self._ledger.ended:
            self._recorder.add({"event": "end"})

    def _sweep(self) -> None:
        """Every case once in every process restart, the whole suite in one before the next begins."""
        most = max(map(self._processes, self._cases))
        visits = [(process, case) for process in range(most) for case in self._cases if process < self._processes(case)]
        ahead = total = sum(len(case.impls) for _, case in visits)
        before = 0
        for process, case in visits:
            if process != before or self._options.isolation == "case":
                self._crew.relieve()
            before = process
            self._screen.visit(case, process, 1.0 - ahead / total)
            self._visit(case, process, ahead)
            self._recorder.project()
            ahead -= len(case.impls)

    def _processes(self, case: Case) -> int:
        return self._options.processes or case.measure.processes or self._backend.processes

    def _visit(self, case: Case, process: int, ahead: int) -> None:
        """What a case still lacks in one process restart, with a fair share of the budget."""
        if case.identity not in self._ledger.cases:
            self._recorder.add(case_event(case, preflight.world(case, self._backend)))
        wanted = [impl for impl in case.impls if self._ledger.wants(case.identity, impl, process)]
        able = [impl for impl in wanted if not self._refused(case, impl, process)]
        together = preflight.fitting(case, self._backend, self._sessions) if able else 1
        for start in range(0, len(able), together):
            seconds = case.measure.max_time_s
            if self._budget:
                seconds = min(seconds, self._budget.share(self._recorder.spent_s, ahead - start))
            if seconds > 0:
                self._measure(case, able[start : start + together], process, 0, seconds)
            else:
                self._skip(case, able[start : start + together])

    def _refused(self, case: Case, impl: str, process: int) -> bool:
        """Whether the impl cannot do the case here, which is then its outcome."""
        try:
            reason, status = preflight.unsupported(case, impl, self._backend, self._sessions), Status.UNSUPPORTED
        except Exception as error:  # a workload of somebody else's, and a result about it
            reason, status = f"{type(error).__name__}: {error}", Status.CRASHED
        if reason:
            self._failed(case, impl, process, 0, status, reason)
        return bool(reason)

    def _skip(self, case: Case, impls: Sequence[str]) -> None:
        """No time is left. What an earlier process restart measured stays an outcome."""
        assert self._budget
        reason = f"the budget of {self._budget.total_s:g} s was spent"
        for impl in impls:
            key = case.identity, impl
            if key not in self._ledger.parts and key not in self._ledger.skipped:
                self._recorder.add({"event": "skipped", "case": case.identity, "impl": impl, "reason": reason})

    def _measure(self, case: Case, impls: Sequence[str], process: int, round_: int, seconds: float) -> None:
        """Have impls measured together; whichever costs the worker its life is left out when it is tried again.

        If it was at a choice, among tiles say, nothing is left out but the candidate, by the choice itself.

        A team that does not come up costs the cases of its size. Without a worker by itself there is no run.
        """
        attempt, world, deaths = Attempt(list(impls)), preflight.world(case, self._backend), store.deaths()
        while attempt.waiting:
            if world in self._no_team:
                for one in attempt.waiting:
                    self._failed(case, one, process, round_, Status.RANK_FAILED, self._no_team[world])
                return
            request = {
                "case": case.message(), "impls": attempt.waiting, "seed": self._options.seed, "process": process,
                "round": round_, "aa": self._options.aa, "max_time_s": seconds,
            }  # fmt: skip
            try:
                worker = self._crew.worker(world)
                for event in worker.ask(request, self._limit_s(case), max(QUIET_S, case.measure.max_time_s)):
                    self._heard(event, attempt)
                attempt.complete()
            except MissingHardware as error:
                if world == 1:
                    raise
                self._no_team[world] = str(error)
            except WorkerLost as lost:
                self._crew.discharge()
                if lost.status == Status.TIMEOUT and self._budget and self._budget.over(self._recorder.spent_s):
                    self._skip(case, attempt.waiting)
                    return
                before, deaths = deaths, store.deaths()
                if deaths > before and lost.status != Status.TIMEOUT:
                    self._screen.note(f"{attempt.busy} is tried again: a choice of its own failed: {lost.reason}")
                elif impl := attempt.blame():
                    self._failed(case, impl, process, round_, lost.status, lost.reason)

    def _limit_s(self, case: Case) -> float:
        """Seconds after which a worker is not waited for any more."""
        timeout_s = case.measure.timeout_s
        return self._budget.limit(self._recorder.spent_s, timeout_s) if self._budget else timeout_s

    def _heard(self, event: dict[str, Any], attempt: Attempt) -> None:
        """One message of the worker, which waits until this returns."""
        match event["event"]:
            case "part":
                part = Part.from_message(event["part"])
                self._measured(part)
                attempt.settle(part.impl)
            case "failed":
                raise WorkerLost(Status(event["status"]), event["error"])
            case "turn":
                attempt.busy = event["impl"]
            case "quiet":  # it is still at what its last message named
                self._screen.event({**event, "impl": attempt.busy})
            case _:
                attempt.busy = event["impl"]
                self._screen.event(event)

    def _measured(self, part: Part) -> None:
        self._recorder.add_part(part)
        self._screen.part(part)
        if self._budget and part.samples:
            self._budget.learn(part.elapsed_s, sampled_s(part))

    def _failed(self, case: Case, impl: str, process: int, round_: int, status: Status, reason: str) -> None:
        error = " ".join(reason.split())
        self._measured(Part(case=case.identity, impl=impl, process=process, round=round_, status=status, error=error))

    def _rounds(self) -> None:
        """What is left of the budget, to whatever is furthest from its target, in the last process restart."""
        cases = {case.identity: case for case in self._cases}
        full: set[tuple[str, str]] = set()  # what could not be finished in the time left
        while self._budget and (need := neediest(n for n in self._needs() if (n.case, n.impl) not in full)):
            case, last = cases[need.case], self._ledger.parts[need.case, need.impl][-1]
            overhead = max(0.0, last.elapsed_s - sampled_s(last))
            seconds = self._budget.again(self._recorder.spent_s, overhead, case.measure.max_time_s)
            if seconds <= 0:
                full.add((need.case, need.impl))
                continue
            self._screen.visit(case, last.process, 1.0)
            round_ = self._ledger.rounds(need.case, need.impl, last.process)
            self._measure(case, [need.impl], last.process, round_, seconds)
            self._recorder.project()

    def _needs(self) -> list[Need]:
        """How far every row that has a time is from its target."""
        found = []
        for (case, impl), row in self._recorder.rows().items():
            if row.status in TIMED and row.time_s and row.time_s_lo is not None and row.time_s_hi is not None:
                half = max(row.time_s - row.time_s_lo, row.time_s_hi - row.time_s)
                found.append(Need(half / row.time_s / self._ledger.cases[case]["target_ci"], case, impl))
        return found


def sampled_s(part: Part) -> float:
    """Seconds that went into samples of a part, about."""
    return (sum(part.samples) + sum(part.minus) + sum(part.twin)) * part.iters_per_sample

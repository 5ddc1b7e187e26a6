"""The order of things, with workers that exist only on paper."""

from __future__ import annotations

import itertools
import random

import pytest

from perwatt import backends
from perwatt.errors import MissingHardware
from perwatt.results.schema import Status
from perwatt.runner import budget, orchestrator
from perwatt.runner.folder import Folder
from perwatt.runner.journal import Journal
from perwatt.runner.ledger import Ledger, run_event
from perwatt.runner.orchestrator import Options, Orchestrator
from perwatt.runner.part import Part
from perwatt.runner.recorder import Recorder
from perwatt.runner.supervisor import WorkerLost
from perwatt.spec.case import build

pytestmark = pytest.mark.usefixtures("faulty")


class Clock:
    """Stands still unless something takes time."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("perwatt.runner.recorder.time.monotonic", lambda: self.now)


class PaperWorker:
    """Takes ``cost_s`` for each impl besides the samples, and does what its script says to some."""

    def __init__(self, crew):
        self.crew = crew

    def ask(self, request, timeout_s, quiet_s):
        for impl in list(request["impls"]):
            self.crew.asked.append((request["case"]["params"]["n"], impl, request["process"], request["round"]))
            self.crew.seconds.append(request["max_time_s"])
            yield {"event": "phase", "impl": impl, "phase": "open"}
            if fault := self.crew.faults.get(impl):
                raise WorkerLost(*fault)
            yield {"event": "part", "part": self.part(request, impl).message()}

    def part(self, request, impl):
        sampled = request["max_time_s"]
        self.crew.clock.now += sampled + self.crew.cost_s
        spread = self.crew.spread.get(impl, 0.0)
        samples = [1.0 + spread * self.crew.noise.uniform(-1, 1) for _ in range(30)]
        return Part(
            case=build(request["case"]).identity, impl=impl, process=request["process"], round=request["round"],
            samples=samples, blocks=[0] * 30, iters_per_sample=1,
            elapsed_s=30.0 + self.crew.cost_s,
        )  # fmt: skip


class PaperCrew:
    def __init__(self, clock):
        self.clock, self.cost_s, self.noise = clock, 0.0, random.Random(0)
        self.faults, self.spread = {}, {}
        self.asked, self.seconds, self.worlds, self.lost, self.relieved = [], [], [], 0, 0

    def __call__(self, *_):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def worker(self, world=1):
        self.worlds.append(world)
        return PaperWorker(self)

    def relieve(self):
        self.relieved += 1

    def discharge(self):
        self.lost += 1


class Blind:
    def visit(self, *_):
        pass

    event = part = note = visit


@pytest.fixture
def crew(monkeypatch):
    crew = PaperCrew(Clock(monkeypatch))
    monkeypatch.setattr(orchestrator, "Crew", crew)
    return crew


@pytest.fixture
def run(crew, tmp_path):
    def run(impls_by_case, events=(), measure=None, **options):
        usual = {"workload": "faulty", "measure": {"max_time_s": 10, **(measure or {})}}
        cases = [build(usual | {"params": {"n": n}, "impl": impls}) for n, impls in enumerate(impls_by_case)]
        folder = Folder(tmp_path)
        begin = run_event("id", "2026-01-01T00:00:00+00:00", {"name": "s"}, {"seed": 0}, backends.available()["cpu"])
        ledger = Ledger.of([begin, *events])
        recorder = Recorder(folder, Journal(folder.journal, 0), ledger)
        Orchestrator(cases, backends.available()["cpu"], Options(**options), recorder, Blind(), folder.log).run()
        return recorder

    return run


def statuses(recorder):
    return {impl: str(row.status) for (_, impl), row in recorder.rows().items()}


def test_the_whole_suite_in_one_process_before_the_next(run, crew):
    run([["good"], ["good", "good2"]], processes=2)
    once = [(0, "good"), (1, "good"), (1, "good2")]
    assert crew.asked == [(*item, process, 0) for process in (0, 1) for item in once]
    assert crew.relieved == 1


def test_a_new_worker_for_each_case(run, crew):
    run([["good"], ["good"], ["good"]], isolation="case")
    assert crew.relieved == 3


def test_processes_of_the_option_go_before_those_of_the_suite(run, crew):
    run([["good"]], measure={"processes": 3})
    assert len(crew.asked) == 3
    crew.asked.clear()
    run([["good"]], measure={"processes": 3}, processes=1)
    assert len(crew.asked) == 1


def test_a_lost_worker_costs_one_row(run, crew):
    crew.faults = {"hang": (Status.TIMEOUT, "no result"), "segfault": (Status.CRASHED, "SIGSEGV\nin two lines")}
    recorder = run([["good", "hang", "segfault", "good2"], ["good"]], processes=2)
    assert statuses(recorder) == {"good": "ok", "hang": "timeout", "segfault": "crashed", "good2": "ok"}
    assert crew.lost == 2  # once each: what failed is not tried again in the second process
    errors = [row.error for row in recorder.rows().values() if row.error]
    assert errors == ["no result", "SIGSEGV in two lines"]
    assert recorder.ledger.ended


def test_a_worker_that_is_lost_at_a_choice_costs_no_row(run, crew, monkeypatch):
    """What it tried is passed over by the next one."""
    deaths = itertools.chain([0, 1, 2], itertools.repeat(2))
    monkeypatch.setattr(orchestrator.store, "deaths", lambda: next(deaths))
    crew.faults = {"hang": (Status.CRASHED, "exit code 70")}
    ask = PaperWorker.ask

    def mended(self, request, timeout_s, quiet_s):
        if crew.lost == 2:
            crew.faults = {}
        return ask(self, request, timeout_s, quiet_s)

    monkeypatch.setattr(PaperWorker, "ask", mended)
    assert statuses(run([["good", "hang"]])) == {"good": "ok", "hang": "ok"}
    assert [impl for _, impl, *_ in crew.asked] == ["good", "hang", "hang", "hang"]


def test_a_team_that_does_not_come_up_costs_its_own_cases(run, crew, monkeypatch):
    """It is waited for once, and cases on one device go on."""
    worker, asked = PaperCrew.worker, []

    def lame(self, world=1):
        asked.append(world)
        if world == 2:
            raise MissingHardware("the cpu worker does not start: rank 1 killed by SIGKILL")
        return worker(self, world)

    monkeypatch.setattr(PaperCrew, "worker", lame)
    monkeypatch.setattr("perwatt.runner.preflight.world", lambda case, backend: 1 + case.params.n % 2)
    recorder = run([["good"], ["good2", "nan"], ["good"], ["good2"]])
    assert [(str(row.status), row.error) for row in recorder.rows().values()] == [
        ("ok", None), *[("rank_failed", "the cpu worker does not start: rank 1 killed by SIGKILL")] * 2,
        ("ok", None), ("rank_failed", "the cpu worker does not start: rank 1 killed by SIGKILL"),
    ]  # fmt: skip
    assert asked == [1, 2, 1]
    assert recorder.ledger.ended


def test_without_a_worker_by_itself_there_is_no_run(run, crew, monkeypatch):
    def lame(self, world=1):
        raise MissingHardware("gone")

    monkeypatch.setattr(PaperCrew, "worker", lame)
    with pytest.raises(MissingHardware):
        run([["good"]])


def test_a_worker_that_cannot_go_on_costs_what_it_says(run, crew, monkeypatch):
    """What a fault left unusable is replaced, and the fault's own outcome need not be a crash."""
    ask = PaperWorker.ask

    def refusing(self, request, timeout_s, quiet_s):
        for event in ask(self, request, timeout_s, quiet_s):
            yield event
            if event["event"] == "phase" and event["impl"] == "good2":
                yield {"event": "failed", "status": "unsupported", "error": "no graph can hold it"}

    monkeypatch.setattr(PaperWorker, "ask", refusing)
    recorder = run([["good", "good2", "nan"]])
    assert statuses(recorder) == {"good": "ok", "good2": "unsupported", "nan": "ok"}
    assert crew.lost == 1


def test_what_cannot_be_done_never_reaches_a_worker(run, crew):
    recorder = run([["refuses", "good"]])
    assert crew.asked == [(0, "good", 0, 0)]
    assert statuses(recorder) == {"refuses": "unsupported", "good": "ok"}


def test_a_plugin_that_raises_before_the_worker_is_a_crash(run, crew, monkeypatch):
    import faulty

    def broken(self, case):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(faulty.Faulty, "memory", broken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perwatt.runner.preflight.fitting", lambda *_: 1)
        assert statuses(run([["good"]])) == {"good": "crashed"}


def test_impls_that_do_not_fit_together_are_asked_for_in_turn(run, crew, monkeypatch):
    monkeypatch.setattr("perwatt.runner.preflight.fitting", lambda *_: 2)
    requests = []
    ask = PaperWorker.ask
    monkeypatch.setattr(PaperWorker, "ask", lambda self, r, *s: requests.append(list(r["impls"])) or ask(self, r, *s))
    run([["good", "good2", "nan"]])
    assert requests == [["good", "good2"], ["nan"]]


def test_what_the_journal_has_is_not_done_again(run, crew):
    first = run([["good", "good2"], ["good"]], processes=2)
    parts = [part for parts in first.ledger.parts.values() for part in parts][:-2]
    events = [*first.ledger.cases.values(), *({"event": "part", "part": part.message()} for part in parts)]
    crew.asked.clear()
    again = run([["good", "good2"], ["good"]], events=events, processes=2)
    assert crew.asked == [(1, "good", 0, 0), (1, "good", 1, 0)]
    assert again.rows().keys() == first.rows().keys()


def test_a_budget_is_shared_fairly(run, crew):
    run([["good"]] * 5, budget_s=30.0)
    assert crew.seconds[:5] == pytest.approx([6.0] * 5)


def test_nobody_gets_more_than_the_suite_allows(run, crew):
    run([["good"], ["good2"]], budget_s=1000.0, measure={"target_ci": 1.0})
    assert crew.seconds == [10.0, 10.0]


def test_what_cannot_be_begun_in_time_is_skipped(run, crew):
    crew.cost_s = 20.0
    recorder = run([["good"], ["good2"], ["nan"]], budget_s=30.0)
    assert statuses(recorder)["good"] == "ok"
    assert statuses(recorder)["nan"] == "skipped"
    assert [row.error for row in recorder.rows().values()][-1] == "the budget of 30 s was spent"


def test_a_visit_that_outlasts_the_budget_is_ended(run, crew, monkeypatch):
    limits = []

    def endless(self, request, timeout_s, quiet_s):
        limits.append(timeout_s)
        self.crew.clock.now += timeout_s
        yield {"event": "phase", "impl": request["impls"][0], "phase": "compile"}
        raise WorkerLost(Status.TIMEOUT, "no result")

    monkeypatch.setattr(PaperWorker, "ask", endless)
    recorder = run([["good", "good2"], ["nan"]], budget_s=20.0, measure={"timeout_s": 600})
    assert limits == [20.0 + budget.GRACE_S]
    assert set(statuses(recorder).values()) == {"skipped"}
    limits.clear()
    crew.clock.now = 0.0
    recorder = run([["good"]], budget_s=2000.0, measure={"timeout_s": 600})
    assert limits == [600]
    assert statuses(recorder) == {"good": "timeout"}, "its own limit, within the budget"


def test_what_is_left_goes_to_the_widest_interval_relative_to_its_target(run, crew):
    crew.spread = {"good": 0.001, "good2": 0.4}
    run([["good"], ["good2"]], budget_s=50.0, measure={"target_ci": 0.01, "max_time_s": 5.0})
    assert [(n, round_) for n, _, _, round_ in crew.asked] == [(0, 0), (1, 0), *((1, i) for i in range(1, 9))]
    assert crew.clock.now == pytest.approx(50.0)


def test_rounds_end_when_every_target_is_reached(run, crew):
    crew.spread = {"good": 0.1}
    recorder = run([["good"]], budget_s=1e6, measure={"target_ci": 0.01})
    assert len(crew.asked) > 1
    row = next(iter(recorder.rows().values()))
    assert crew.clock.now < 1e5
    assert max(row.time_s_hi - row.time_s, row.time_s - row.time_s_lo) / row.time_s <= 0.01
    assert row.samples == 30 * len(crew.asked)


def test_time_of_before_counts_against_the_budget(run, crew):
    crew.clock.now = 100.0
    recorder = run([["good"]], events=[{"event": "unknown", "t_s": 31.0}], budget_s=30.0)
    assert statuses(recorder) == {"good": "skipped"}


def test_no_worker_ends_the_run(run, crew, monkeypatch):
    def none(world):
        raise MissingHardware("none")

    monkeypatch.setattr(crew, "worker", none)
    with pytest.raises(MissingHardware):
        run([["good"]])


def test_a_worker_that_forgets_an_impl(run, crew, monkeypatch):
    monkeypatch.setattr(PaperWorker, "ask", lambda *_: iter(()))
    assert statuses(run([["good", "good2"]])) == {"good": "crashed", "good2": "crashed"}


def test_journal_and_rows_agree(run, crew, tmp_path):
    from perwatt.results import csvfile
    from perwatt.runner import journal

    recorder = run([["good"], ["good2"]], processes=3)
    rows = recorder.project(now=True)
    assert csvfile.read(tmp_path / "results.csv") == rows
    events = journal.read(tmp_path / "journal.jsonl")[0]
    kinds = [kind for kind, _ in itertools.groupby(event["event"] for event in events)]
    assert kinds == ["sensors", "case", "part", "case", "part", "end"]
    assert [row.processes for row in rows] == [3, 3]

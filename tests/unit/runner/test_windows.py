"""Energy windows of a run, with workers that exist only on paper and sensors that do what a test wants."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.stepped import Stepped
from perwatt.backends.base import Device
from perwatt.backends.cpu import Cpu
from perwatt.errors import InputError, MissingHardware
from perwatt.power import choice, refusals, selftest
from perwatt.power.base import Lost, Reading, Target
from perwatt.power.plan import LEAD_S
from perwatt.power.settings import Settings
from perwatt.results.schema import Status
from perwatt.runner import journal
from perwatt.runner.folder import Folder
from perwatt.runner.journal import Journal
from perwatt.runner.ledger import Ledger, case_event, run_event
from perwatt.runner.part import Part
from perwatt.runner.recorder import Recorder
from perwatt.runner.supervisor import WorkerLost
from perwatt.runner.windows import Windows
from perwatt.spec.case import build
from perwatt.spec.suite import Energy
from support.power import PaperProbe, PaperSensor, facts

pytestmark = pytest.mark.usefixtures("faulty")
BUSY_W, IDLE_W, ITERATION_S, BATCH = 500.0, 70.0, 0.01, 20


class Paper(Cpu):
    """A device that exists only on paper."""

    name = "paper"

    def __init__(self, clock: Stepped, chip: str) -> None:
        self.clock, self.chip, self.partial = clock, chip, ""  # type: ignore[misc]

    def describe(self) -> Device:
        return Device(chip=self.chip, devices_per_chip=1, memory_bytes=1e9, cache_bytes=None, driver="d1")

    def target(self, devices: int = 1) -> Target:
        return Target(backend=self.name, chip=self.chip, partial=self.partial)


class PaperCrew:
    """Has a worker that loads the device as long as it is asked to, and remembers what was done with it."""

    def __init__(self, clock: Stepped) -> None:
        self.clock, self.watts = clock, IDLE_W
        self.faults: dict[str, tuple[Status, str]] = {}
        self.ended: dict[str, str] = {}
        self.done: list[str] = []

    def worker(self, world: int = 1) -> PaperCrew:
        self.done.append("worker")
        return self

    def relieve(self) -> None:
        self.done.append("relieve")

    def discharge(self) -> None:
        self.done.append("discharge")

    def ask(self, request: Any, timeout_s: float) -> Iterator[dict[str, Any]]:
        impl = request["impl"]
        self.done.append(f"{request['case']['params']['n']} {impl}")
        assert timeout_s > request["window_s"]
        yield {"event": "phase", "impl": impl, "phase": "window-open"}
        yield {"event": "window", "impl": impl}
        marks, self.watts = [(self.clock.now, 0)], BUSY_W
        while marks[-1][0] < marks[0][0] + request["window_s"]:
            self.clock.sleep(BATCH * ITERATION_S)
            marks.append((self.clock.now, marks[-1][1] + BATCH))
            if impl in self.faults:
                self.watts = IDLE_W
                raise WorkerLost(*self.faults[impl])
        self.watts = IDLE_W
        yield {"event": "load", "marks": marks, "ended": self.ended.get(impl, ""), "others": None}


class Screen:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.phases: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def event(self, event: dict[str, Any]) -> None:
        self.phases.append(event["phase"])


class Scene:
    """A run with its fakes; made again on the same folder it is the run resumed."""

    def __init__(self, folder: Path, sensors: list[PaperSensor], clock: Stepped, *, chip: str = "x") -> None:
        self.folder, self.sensors, self.clock = Folder(folder), sensors, clock
        self.backend, self.crew, self.screen = Paper(clock, chip), PaperCrew(clock), Screen()

    def probe(self, **said: Any) -> PaperProbe:
        """A probe that reads what the device draws."""
        own = facts(**({"window_s": 10.0} | said))
        return PaperProbe(
            own, lambda: Reading(values=(self.crew.watts + 0.1 * math.sin(37.0 * self.clock.now),) * len(own.channels))
        )

    def recorder(self, impls: list[list[str]], timed: bool = True) -> Recorder:
        events, length = journal.read(self.folder.journal)
        recorder = Recorder(self.folder, Journal(self.folder.journal, length), Ledger.of(events))
        self.cases = [build({"workload": "faulty", "params": {"n": n}, "impl": one}) for n, one in enumerate(impls)]
        if not events:
            run = run_event("id", "2026-01-01T00:00:00+00:00", {"name": "s"}, {"seed": 7}, self.backend)
            recorder.add(run)
            for case in self.cases:
                recorder.add(case_event(case))
                for impl in case.impls if timed else ():
                    recorder.add_part(Part(case=case.identity, impl=impl, samples=[ITERATION_S] * 30, blocks=[0] * 30,
                                           iters_per_sample=1, elapsed_s=3.0))  # fmt: skip
        return recorder

    def windows(self, recorder: Recorder, asked: Energy = Energy(mode="all"), **settings: Any) -> Windows:  # noqa: B008
        crew: Any = self.crew
        return Windows(self.cases, self.backend, asked, Settings(**settings), 7, crew, recorder, self.screen)

    def run(self, impls: list[list[str]], left_s: float | None = None, **settings: Any) -> Recorder:
        """All of it."""
        recorder = self.recorder(impls)
        found = self.windows(recorder, **settings)
        self.total_s = found.begin()
        found.run(left_s)
        found.finish()
        recorder.project(now=True)
        return recorder

    def kinds(self) -> list[str]:
        return [
            event["event"] for event in journal.read(self.folder.journal)[0] if event["event"] not in ("case", "part")
        ]


Make = Callable[..., Scene]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clock = Stepped()

    def scene(*sensors: PaperSensor, **options: Any) -> Scene:
        monkeypatch.setattr(choice, "sensors", lambda: {sensor.name: sensor for sensor in sensors})
        return Scene(tmp_path, list(sensors), clock, **options)

    return scene


def sighted(make: Make, **said: Any) -> Scene:
    """A run whose chips have one sensor."""
    sensor = PaperSensor("fake")
    scene = make(sensor)
    sensor.opens.append(scene.probe(**said))
    return scene


def row(recorder: Recorder, impl: str) -> Any:
    return next(row for (_, name), row in recorder.rows().items() if name == impl)


def test_every_row_gets_a_window_between_two_looks_at_rest(make: Make) -> None:
    scene = sighted(make)
    recorder = scene.run([["good", "good2"], ["good"]])
    assert scene.kinds() == ["run", "sensors", "idle", "window", "window", "window", "idle"]
    assert [event["when"] for event in recorder.ledger.idles] == ["start", "end"]
    for one in recorder.rows().values():
        assert (one.energy_evidence, one.power_source) == ("measured", "sampled")
        assert one.power_w == pytest.approx(BUSY_W, rel=0.002)
        assert one.idle_w == pytest.approx(IDLE_W, rel=0.01)
        assert one.energy_time_s == pytest.approx(ITERATION_S)
    assert scene.screen.phases == ["window-open", "window"] * 3
    assert scene.folder.power.exists()


def test_rows_of_another_placement_than_the_sensors_look_at_say_so(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = sighted(make)
    looked: list[int] = []
    monkeypatch.setattr(Paper, "world_of", lambda self, placement: {"device": 1, "chip": 4}[placement])
    monkeypatch.setattr(Paper, "count", lambda self: 4)
    monkeypatch.setattr(
        Paper, "target", lambda self, devices=1: looked.append(devices) or Target(backend="p", chip="x")
    )
    recorder = scene.recorder([["good"]])
    alone, chip = scene.cases[0], replace(scene.cases[0], placement="chip")
    recorder.add(case_event(chip, 4))
    recorder.add_part(Part(case=chip.identity, impl="good", samples=[ITERATION_S] * 30, blocks=[0] * 30,
                           iters_per_sample=1, elapsed_s=3.0))  # fmt: skip
    scene.cases = [alone, chip]
    windows = scene.windows(recorder)
    windows.begin()
    windows.run(None)
    found = {row.placement: row for row in recorder.rows().values()}
    assert looked == [4]
    assert found["chip"].energy_j is not None
    assert (found["device"].energy_j, "the chips of 4 devices" in found["device"].energy_note) == (None, True)
    assert scene.crew.done.count("worker") == 1


def test_what_is_to_come_is_told_before_it_does(make: Make) -> None:
    scene = sighted(make)
    found = scene.windows(scene.recorder([["good", "good2"], ["good"]]))
    total = found.begin()
    assert scene.screen.notes == [f"energy: up to 3 windows of 11 s by fake, about {total:.0f} s more"]
    begun = scene.clock.now
    found.run(None)
    found.finish()
    assert 0.5 * total < scene.clock.now - begun < total


def test_the_window_has_quiet_and_readings_on_both_sides(make: Make) -> None:
    recorder = sighted(make).run([["good"]])
    (event,) = recorder.ledger.windows.values()
    times, marks = event["traces"][0]["times"], event["marks"]
    assert times[0] <= marks[0][0] - 0.9
    assert times[-1] >= marks[-1][0] + 0.9
    assert marks[-1][0] - marks[0][0] == pytest.approx(11.0, abs=0.2)
    monotonic, unix = event["clocks"]
    assert unix - monotonic == pytest.approx(1_760_000_000.0)


def test_a_window_of_buckets_begins_where_the_wall_clock_wants_it(make: Make) -> None:
    scene = sighted(make, kind="buckets", window_s=60.0, quantity="%")
    recorder = scene.run([["good"]])
    (event,) = recorder.ledger.windows.values()
    late_s = (1_760_000_000.0 + event["marks"][0][0] + event["ramp_s"] + LEAD_S + 30.0) % 60.0 - 30.0
    assert -2.0 < late_s < LEAD_S, "a little early does no harm, and late would cost the minute"


def test_a_worker_that_is_lost_costs_one_energy(make: Make) -> None:
    scene = sighted(make)
    scene.crew.faults = {"good": (Status.CRASHED, "worker killed\nby SIGSEGV")}
    recorder = scene.run([["good", "good2"]])
    assert scene.crew.done.count("discharge") == 1
    lost, kept = row(recorder, "good"), row(recorder, "good2")
    assert (lost.status, lost.time_s, lost.energy_j) == ("ok", ITERATION_S, None)
    assert lost.energy_note == "worker killed by SIGSEGV"
    assert kept.energy_j == pytest.approx(BUSY_W * ITERATION_S, rel=0.002)
    assert [note for note in scene.screen.notes if "no energy" in note] == [
        f"no energy of {scene.cases[0].name}, good: worker killed by SIGSEGV"
    ]


def test_a_load_that_ended_early_says_why(make: Make) -> None:
    scene = sighted(make)
    scene.crew.ended = {"good": "the load is not steady"}
    assert row(scene.run([["good"]]), "good").energy_note == "the load is not steady"
    assert "the load is not steady" in scene.screen.notes[-1]


def test_a_worker_that_reports_an_error_is_discharged(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = sighted(make)
    monkeypatch.setattr(
        PaperCrew, "ask", lambda *_: iter([{"event": "failed", "status": "oom", "error": "MemoryError: bwd"}])
    )
    assert row(scene.run([["good"]]), "good").energy_note == "MemoryError: bwd"
    assert "discharge" in scene.crew.done


# Resuming


def test_what_was_measured_is_not_measured_again(make: Make) -> None:
    first = sighted(make)
    rows = first.run([["good", "good2"]]).rows()
    before = first.folder.journal.read_bytes()
    again = sighted(make)
    assert again.run([["good", "good2"]]).rows() == rows
    assert again.folder.journal.read_bytes() == before
    assert (again.total_s, again.screen.notes, again.crew.done) == (0.0, [], [])


def test_a_window_that_failed_is_not_tried_again_but_one_that_is_missing_is(make: Make) -> None:
    first = sighted(make)
    first.crew.faults = {"good": (Status.TIMEOUT, "no result")}
    first.run([["good", "good2"]])
    events = journal.read(first.folder.journal)[0]
    last = max(at for at, event in enumerate(events) if event["event"] == "window")
    lines = first.folder.journal.read_text().splitlines(keepends=True)
    first.folder.journal.write_text("".join(lines[:last]))  # as if it had been killed then
    again = sighted(make)
    recorder = again.run([["good", "good2"]])
    assert [done for done in again.crew.done if "good" in done] == ["0 good2"]
    assert again.screen.notes[0].startswith("energy: up to 1 window of")
    assert (row(recorder, "good").energy_j, row(recorder, "good").energy_note) == (None, "no result")
    assert row(recorder, "good2").energy_j is not None


@pytest.mark.parametrize("settings", [{"mode": "off"}, {}])
def test_percentages_outlive_their_sensor(make: Make, settings: dict[str, Any]) -> None:
    sensor = PaperSensor("percents")
    first = make(sensor, chip="trainium2")
    sensor.opens.append(first.probe(quantity="%", source="none"))
    first.crew.watts = 40.0
    probe: Any = first.probe(quantity="%", source="none")
    probe.values = lambda: Reading(values=(40.0 + math.sin(first.clock.now),))
    sensor.opens[:] = [probe]
    before = row(first.run([["good"]]), "good")
    assert before.power_util_avg_pct == pytest.approx(40.0, abs=0.5)
    again = make(PaperSensor("percents", state="absent"), chip="trainium2")
    after = row(again.run([["good"]], **settings), "good")
    assert after == before


# Budget


@pytest.mark.parametrize(("left_s", "count"), [(0.0, 0), (20.0, 0), (22.0, 1), (36.0, 2), (None, 3)])
def test_windows_end_with_the_budget(make: Make, left_s: float | None, count: int) -> None:
    scene = sighted(make)  # a window takes 11 + 2 x 1 s of quiet, planned with 5 s more, and 3 s to open it again
    recorder = scene.run([["good", "good2"], ["good"]], left_s=left_s)
    assert len(recorder.ledger.windows) == count
    assert ("energy: no time is left of the budget for more windows" in scene.screen.notes) == (count < 3)
    assert len(recorder.ledger.idles) == (2 if count else 1), "without a window nothing is to be compared"
    missing = [one for one in recorder.rows().values() if one.energy_j is None]
    assert {one.energy_note for one in missing} <= {"its window was not reached: the run ended, or its budget"}


# At rest


@pytest.mark.parametrize(
    ("idle", "done", "seconds"),
    [("no_context", "relieve", 0.0), ("context_30s", "worker", 30.0), ("after_60s", "worker", 60.0)],
)
def test_what_rest_is(make: Make, idle: str, done: str, seconds: float) -> None:
    scene = sighted(make)
    found = scene.windows(scene.recorder([["good"]]), idle=idle)
    found.begin()
    assert scene.crew.done == [done]
    event = journal.read(scene.folder.journal)[0][-1]
    assert (event["definition"], event["when"]) == (idle, "start")
    assert event["start"] == pytest.approx(seconds + 1.0), "the look begins after the wait and the quiet"
    assert event["end"] - event["start"] == pytest.approx(5.0)


# Sensors that come and go


def test_a_sensor_that_was_lost_is_opened_again(make: Make) -> None:
    sensor = PaperSensor("fake")
    scene = make(sensor)
    good, reads = scene.probe(), itertools.count()

    def once() -> Any:
        return Lost("it fell off the bus") if scene.crew.watts == BUSY_W and next(reads) > 20 else good.values()

    bad = PaperProbe(good.facts, once)
    sensor.opens = [bad, good]
    recorder = scene.run([["good"], ["good2"], ["nan"]])
    assert row(recorder, "good").energy_note == "fake: lost inside the window: it fell off the bus"
    assert row(recorder, "good").time_s == ITERATION_S
    assert row(recorder, "good2").energy_j == pytest.approx(BUSY_W * ITERATION_S, rel=0.002)
    assert (sensor.opened, bad.closed, good.closed) == (2, 1, 1)


def test_one_that_does_not_come_back_costs_every_energy_after_it_and_no_run(make: Make) -> None:
    sensor = PaperSensor("fake")
    scene = make(sensor)
    bad = scene.probe()
    bad.values, good = lambda: Lost("gone") if scene.crew.watts == BUSY_W else good(), bad.values
    sensor.opens = [bad, Lost("gone for ever")]
    recorder = scene.run([["good"], ["good2"]])
    assert [row(recorder, name).energy_j for name in ("good", "good2")] == [None, None]
    assert all("gone" in row(recorder, name).energy_note for name in ("good", "good2"))


def test_the_host_is_read_beside_the_chips(make: Make) -> None:
    chips, host, closed = PaperSensor("fake"), PaperSensor("board", use="host"), PaperSensor("shut", 9, use="host")
    scene = make(chips, host, closed)
    chips.opens.append(scene.probe())
    host.opens.append(scene.probe(sensor="board", channels=("a", "b")))
    closed.opens.append(Lost("locked"))
    selftest.remember("shut", "d1", "it is stuck")
    one = row(scene.run([["good"]]), "good")
    assert one.host_energy_j == pytest.approx(2 * one.energy_j, rel=0.002)
    assert closed.opened == 0
    assert "by fake and board" in scene.screen.notes[0]
    selftest.remember("shut", "d1", "")
    other = make(chips, closed)
    other.folder = Folder(scene.folder.path / "other")
    other.folder.path.mkdir()
    chips.opens[:] = [other.probe()]
    one = row(other.run([["good"]]), "good")
    assert (one.energy_evidence, one.host_energy_j, closed.opened) == ("measured", None, 1)


def test_without_a_sensor_every_row_has_the_reason(make: Make) -> None:
    scene = make(PaperSensor("fake", state="denied", detail="not for this user", remedy="ask root"))
    recorder = scene.run([["good"]])
    assert scene.kinds() == ["run", "sensors"]
    assert row(recorder, "good").energy_note == f"fake: not for this user; ask root; {choice.STAND_IN}"
    assert (scene.total_s, scene.crew.done) == (0.0, [])


def test_a_sensor_that_does_not_open_is_none(make: Make) -> None:
    scene = make(PaperSensor("fake", opens=[Lost("the driver hangs up")]))
    assert row(scene.run([["good"]]), "good").energy_note == "the driver hangs up"


def test_one_of_another_package_that_raises_what_it_likes_costs_no_run(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(sensor: PaperSensor, target: Target) -> Any:
        raise AttributeError("no handle\nat all")

    monkeypatch.setattr(PaperSensor, "open", broken)
    one = row(make(PaperSensor("fake")).run([["good"]]), "good")
    assert (one.status, one.energy_note) == ("ok", "fake: AttributeError: no handle at all")


def test_a_worker_that_comes_up_no_more_ends_the_windows_and_not_the_run(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = sighted(make)
    real = PaperCrew.worker

    def gone(crew: PaperCrew, world: int = 1) -> PaperCrew:
        if any(done.endswith("good") for done in crew.done):
            raise MissingHardware("the device fell off the bus")
        return real(crew)

    monkeypatch.setattr(PaperCrew, "worker", gone)
    recorder = scene.run([["good"], ["good2"]], idle="after_60s")
    assert row(recorder, "good").energy_j is not None
    assert (row(recorder, "good2").time_s, row(recorder, "good2").energy_j) == (ITERATION_S, None)
    assert "not reached" in row(recorder, "good2").energy_note
    assert scene.screen.notes[-2:] == [
        "energy: no more windows: the device fell off the bus",
        "energy: no look at the idle device at the end: the device fell off the bus",
    ]
    monkeypatch.undo()


def test_one_that_failed_its_self_test_is_not_read_unless_forced(make: Make) -> None:
    scene = sighted(make)
    selftest.remember("fake", "d1", "it is stuck")
    assert row(scene.run([["good"]]), "good").energy_note == f"fake: it is stuck; {choice.STAND_IN}"
    again = sighted(make)
    assert row(again.run([["good"]], sensor="fake"), "good").energy_evidence == "measured"


def test_declared_watts_and_no_energy_need_no_window(make: Make) -> None:
    scene = sighted(make)
    assert row(scene.run([["good"]], power_w=650.0), "good").energy_j == pytest.approx(6.5)
    assert row(scene.run([["good"]], mode="off"), "good").energy_note == "energy is off"
    assert scene.kinds() == ["run", "sensors", "sensors"]
    assert scene.sensors[0].opened == 0


# Refusals


def checked(scene: Scene, settings: Settings) -> None:
    refusals.check(scene.backend.target(), settings, settings.mode or "all")


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"power_w": -1.0}, "--power-w: found -1"),
        ({"sensor": "fke"}, r"--sensor: found 'fke', expected one of fake, tdp \(did you mean 'fake'\?\)"),
        ({"sensor": "tdp"}, r"--sensor tdp: x has no rated watts on a sheet"),
        ({"assumption": "trainium2-900w"}, "--power-assumption: "),
        ({"calibration": "nowhere.yaml"}, "nowhere.yaml: "),
        ({"sensor": "tdp", "trace": "meter.csv", "meter_class": 1.0}, "--sensor tdp: states what would be measured"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_written(
    make: Make, settings: dict[str, Any], refusal: str
) -> None:
    with pytest.raises(InputError, match=f"^{refusal}"):
        checked(sighted(make), Settings(**settings))


def test_a_meter_of_a_chip_of_which_a_part_worked_is_refused(make: Make) -> None:
    scene = sighted(make)
    scene.backend.partial = "7 of its 8 devices idled"
    meter: dict[str, Any] = {"trace": "meter.csv", "meter_class": 1.0}
    with pytest.raises(InputError, match=r"^--power-scope: .*7 of its 8 devices idled; state what it is of, such as"):
        checked(scene, Settings(**meter))
    checked(scene, Settings(**meter, power_scope="node"))


def test_a_sensor_that_is_asked_for_has_to_be_here(make: Make) -> None:
    scene = make(PaperSensor("fake", state="absent", detail="no driver"))
    with pytest.raises(MissingHardware, match="--sensor fake: no driver"):
        checked(scene, Settings(sensor="fake"))
    checked(scene, Settings(sensor="fake", mode="off"))
    checked(scene, Settings())

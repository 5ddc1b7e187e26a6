"""A steady load on a device that exists only on paper: asynchronous, with a queue that is looked at."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from fakes.hurried import Hurried
from perwatt.backends.base import Health, Timing
from perwatt.backends.cpu import Cpu
from perwatt.backends.together import Together
from perwatt.timing import load as module
from perwatt.timing.load import AHEAD, BATCH_S, LEAST_BATCHES, Load, load, unsteady
from perwatt.workloads.base import Session


class Device(Cpu):
    """Does iterations in order, each in ``each_s(now)`` seconds; what is handed over returns at once."""

    asynchronous = True

    def __init__(self, each_s: Callable[[float], float] = lambda now: 0.001) -> None:
        self.clock = Hurried()  # type: ignore[misc]
        self.each_s, self.free_at, self.busy_s = each_s, 0.0, 0.0
        self.ends: list[float] = []
        self.most, self.dry, self.orders = 0, 0, []  # type: ignore[var-annotated]
        self.prepared, self.released = 0, 0

    def prepare(self, precision: Any) -> None:
        self.prepared += 1

    def release(self) -> None:
        self.released += 1

    def time(self, run: Callable[[int], object], iterations: int, first: int, ring: list[Any]) -> Timing:
        begun = self.clock.now
        self.clock.sleep(iterations * self.each_s(begun))
        return Timing(total_s=self.clock.now - begun, enqueue_s=0.0)

    def submit(self, run: Callable[[int], object], iterations: int, first: int, ring: list[Any]) -> None:
        now = self.clock.now
        self.dry += self.free_at < now
        begun = max(now, self.free_at)
        taken = sum(self.each_s(begun) for _ in range(iterations))
        self.free_at, self.busy_s = begun + taken, self.busy_s + taken
        self.ends.append(self.free_at)
        self.orders.append((first, iterations, len(ring)))
        self.most = max(self.most, sum(end > now for end in self.ends))

    def flag(self) -> Callable[[], object]:
        end = self.free_at
        return lambda: self.clock.sleep(end - self.clock.now)


class Paper(Session):
    slots = 3
    closed = 0

    def run(self, slot: int) -> object:
        return None

    def check(self, generation: int) -> Any:
        raise AssertionError("a load checks nothing")

    def path(self) -> str:
        return "paper"

    def close(self) -> None:
        self.closed += 1


class Case:
    """A case of one session."""

    pass_ = "bwd"
    precision = None

    def __init__(self, session: Session) -> None:
        self.workload = self
        self.session = session

    def impls(self) -> dict[str, str]:
        return {"torch": "impl"}

    def open(self, case: Any, impl: str, backend: Any, seed: int) -> Session:
        assert (impl, seed) == ("impl", 5)
        return self.session


def loaded(device: Device, seconds: float = 10.0, session: Session | None = None, duty: float = 1.0) -> Load:
    heard: list[Any] = []
    case: Any = Case(session or Paper())
    done = load(case, impl="torch", backend=device, seed=5, seconds=seconds, report=heard.append, duty=duty)
    assert [event.get("phase", event["event"]) for event in heard] == ["window-open", "window"]
    return done


def test_the_load_lasts_as_long_as_the_window_and_every_iteration_is_counted() -> None:
    device, session = Device(), Paper()
    done = loaded(device, session=session)
    times, counts = zip(*done.marks, strict=True)
    assert done.ended == ""
    assert counts[0] == 0
    assert counts[-1] == sum(iterations for _, iterations, _ in device.orders)
    assert 10.0 <= times[-1] - times[0] <= 10.0 + (AHEAD + 1) * BATCH_S + 1e-6
    assert (counts[-1] - counts[0]) / (times[-1] - times[0]) == pytest.approx(1000.0)
    assert (session.closed, device.prepared, device.released) == (1, 1, 1)


def test_faults_of_the_device_in_the_window_are_told() -> None:
    device = Device()
    device.health = lambda during: Health(ecc=2, device_errors=1, temp_c=60.0, others=0.5)  # type: ignore[method-assign]
    done = loaded(device)
    assert (done.faults, done.others) == ({"ecc": 2, "device_errors": 1, "unhealthy": None}, 0.5)


class Slower(Together):
    """A second rank that decides by a clock of its own, and is always a little later."""

    def __init__(self) -> None:
        self.decided: list[bool] = []

    def gather(self, value: Any) -> list[Any]:
        if isinstance(value, bool):
            self.decided.append(value)
            return [value, not value]
        if isinstance(value, str):
            return [value, "not steady, says the other"]
        return [value, [at + 0.25 for at in value] if isinstance(value, list) else value]


def test_of_several_ranks_the_first_decides_and_the_last_to_finish_counts() -> None:
    alone, device = loaded(Device()), Device()
    device.together = Slower()
    done = loaded(device)
    assert [count for _, count in done.marks] == [count for _, count in alone.marks]
    later = [b[0] - a[0] for a, b in zip(alone.marks, done.marks, strict=True)]
    assert later == pytest.approx([0.25] * len(later))
    assert device.together.decided[-1] is False
    assert done.ended == ""


def test_a_batch_is_of_the_length_that_was_meant_and_operands_take_turns() -> None:
    device = Device()
    done = loaded(device)
    size = device.orders[0][1]
    lengths = [b[0] - a[0] for a, b in pairwise(done.marks)]
    assert lengths == pytest.approx([size * 0.001] * len(lengths))
    assert size * 0.001 == pytest.approx(BATCH_S, abs=0.0011)
    assert all((b[0] - a[0] - size) % 3 == 0 for a, b in pairwise(device.orders))
    assert {ring for *_, ring in device.orders} == {3}


def test_the_queue_never_runs_dry_and_never_far_ahead() -> None:
    device = Device()
    loaded(device)
    assert device.most == AHEAD + 1
    assert device.dry == 1, "only before the first batch"


@pytest.mark.parametrize("duty", [0.25, 0.5, 0.8])
def test_a_duty_is_the_share_of_time_with_work(duty: float) -> None:
    device = Device()
    done = loaded(device, duty=duty)
    assert device.busy_s / (done.marks[-1][0] - done.marks[0][0]) == pytest.approx(duty, rel=0.02)
    assert device.most == 1
    assert done.ended == ""


@pytest.mark.parametrize("duty", [0.5, 1.0])
def test_a_slow_case_does_a_few_batches_at_least(duty: float) -> None:
    done = loaded(Device(lambda now: 30.0), seconds=1.0, duty=duty)
    assert [count for _, count in done.marks] == list(range(LEAST_BATCHES + 1))


def test_a_load_that_changes_ends_early_and_says_why() -> None:
    device = Device()
    device.each_s = lambda now: 0.001 if device.clock.now < 4.0 else 0.0014
    done = loaded(device)
    assert done.ended.startswith("the load is not steady: 7")
    assert done.ended.endswith("to 1000 iterations/s in its thirds")
    span = done.marks[-1][0] - done.marks[0][0]
    assert module.JUDGED * 10.0 <= span < 7.0, "half of the window is waited for, not all of it"
    assert done.marks[-1][1] == sum(iterations for _, iterations, _ in device.orders), "what was begun is waited for"


def test_a_change_late_in_the_window_is_seen_too() -> None:
    device = Device()
    device.each_s = lambda now: 0.001 if device.clock.now < 7.0 else 0.002
    done = loaded(device)
    assert "not steady" in done.ended
    assert done.marks[-1][0] - done.marks[0][0] < 9.8, "it is looked at again and again"


def test_a_change_at_the_beginning_is_not_judged_before_half_of_the_window() -> None:
    device = Device()
    device.each_s = lambda now: 0.001 if device.clock.now < 2.0 else 0.002
    done = loaded(device)
    assert "not steady" in done.ended
    assert done.marks[-1][0] - done.marks[0][0] >= module.JUDGED * 10.0


def test_a_little_drift_is_no_reason_to_end() -> None:
    device = Device()
    device.each_s = lambda now: 0.001 * (1.0 + 0.02 * device.clock.now)
    assert loaded(device).ended == ""


@pytest.mark.parametrize(("attribute", "value"), [("bracketed", True), ("part", lambda slot: None)])
def test_a_pass_that_runs_only_with_another_is_refused(attribute: str, value: object) -> None:
    device, session = Device(), Paper()
    setattr(session, attribute, value)
    case: Any = Case(session)
    done = load(case, impl="torch", backend=device, seed=5, seconds=1.0, report=lambda event: None)
    assert done.marks == []
    assert done.ended == "pass bwd runs only together with another one, and their energy cannot be told apart"
    assert (session.closed, device.released, device.orders) == (1, 1, [])


def test_a_session_that_fails_is_closed() -> None:
    device, session = Device(), Paper()
    device.submit = lambda *_: 1 / 0  # type: ignore[method-assign,assignment]
    with pytest.raises(ZeroDivisionError):
        loaded(device, session=session)
    assert (session.closed, device.released) == (1, 1)


@pytest.mark.parametrize("rate", [0.7, 0.81, 1.0, 1.24, 1.5])
def test_thirds_may_differ_by_a_quarter(rate: float) -> None:
    marks, now = [(100.0, 0)], 100.0
    for count in range(1, 31):
        now += 1.0 if count <= 20 else 1.0 / rate
        marks.append((now, count))
    assert bool(unsteady(marks)) == (rate in (0.7, 1.5))


def test_few_batches_are_not_judged() -> None:
    marks = [(float(at * at), at) for at in range(3 * LEAST_BATCHES)]
    assert unsteady(marks) == ""
    assert unsteady([*marks, (1e6, 9)]) != ""

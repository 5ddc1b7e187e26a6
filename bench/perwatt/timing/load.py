"""A steady load in the worker: the timed body of one impl, over and over, while somebody else reads sensors.

The device's queue holds a few batches at most, so that it never runs dry and the clock never runs ahead of the work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from perwatt.backends.base import FAULTS, Backend
from perwatt.spec.case import Case
from perwatt.timing import whole
from perwatt.timing.body import Body

BATCH_S = 0.05  # of work between two marks
AHEAD = 2  # batches in the queue beside the one that the device is at
WARM_S = 1.0  # of load before the window, so that what is still to be compiled or loaded is
LEAST_BATCHES = 3
JUDGED = 0.5  # share of the window after which its steadiness is looked at
UNSTEADY = 0.25  # by how much the rates of its thirds may differ

Report = Callable[[dict[str, Any]], None]
Mark = tuple[float, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What was done in a window.

    Attributes:
        marks: monotonic seconds at which the device had finished so many iterations; the first is the start, with 0.
        ended: why it ended early; empty where it did not.
        others: share of the device, 0 to 1, that other processes used meanwhile; None where nobody knows.
        faults: what of the device's health is a fault, :data:`perwatt.backends.base.FAULTS`, by name.
    """

    marks: list[Mark]
    ended: str = ""
    others: float | None = None
    faults: dict[str, Any] = field(default_factory=dict)


def load(
    case: Case, *, impl: str, backend: Backend, seed: int, seconds: float, report: Report, duty: float = 1.0
) -> Load:
    """Load the device with one impl of a case.

    Args:
        case: what is run.
        impl: name of the impl.
        backend: device, already started.
        seed: of the input data.
        seconds: length of the window.
        report: told of phases; the load begins when ``{"event": "window"}`` has been heard.
        duty: share of the time in which the device has work; under 1 it rests after each batch.

    Returns:
        The marks of the load; none where the pass cannot run without another one between, whose energy would be in it.
    """
    backend.prepare(case.precision)
    report({"event": "phase", "impl": impl, "phase": "window-open"})
    session = case.workload.open(case, case.workload.impls()[impl], backend, seed)
    body = Body(session, backend)
    try:
        if session.bracketed or session.part is not None:
            reason = f"pass {case.pass_} runs only together with another one, and their energy cannot be told apart"
            return Load(marks=[], ended=reason)
        _warm(body, backend)
        report({"event": "window", "impl": impl})
        with backend.watched():
            done = _run(body, backend, seconds, duty)
        health = whole.health(backend, [(done.marks[0][0], done.marks[-1][0])])
        return replace(done, others=health["others"], faults={name: health[name] for name in FAULTS})
    finally:
        body.close()
        backend.release()


def _warm(body: Body, backend: Backend) -> None:
    """Warm up, and let a batch be long enough."""
    end = backend.clock.monotonic() + WARM_S
    body.batch(1)
    while True:
        timing = body.batch()
        body.calibrate(timing.total_s / body.iterations, BATCH_S)
        if _decided(backend, backend.clock.monotonic() >= end):
            return


def _decided(backend: Backend, decision: bool) -> bool:
    """What rank 0 decides by its clock, on all ranks."""
    return backend.together.gather(decision)[0]


def _run(body: Body, backend: Backend, seconds: float, duty: float) -> Load:
    queue: deque[Callable[[], object]] = deque()
    now = backend.clock.monotonic
    marks: list[Mark] = [(now(), 0)]
    end, judge_at = marks[0][0] + seconds, marks[0][0] + JUDGED * seconds

    def wait() -> None:
        queue.popleft()()
        marks.append((now(), marks[-1][1] + body.iterations))

    submitted, rested, ended = 0, 0.0, ""
    while _decided(backend, not ended and (now() < end or submitted < LEAST_BATCHES)):
        body.submit()
        queue.append(backend.flag())
        submitted += 1
        if duty < 1.0:
            wait()
            backend.clock.sleep((marks[-1][0] - marks[-2][0] - rested) * (1.0 / duty - 1.0))
            rested = now() - marks[-1][0]
        elif len(queue) > AHEAD:
            wait()
        if marks[-1][0] > judge_at:
            judge_at = marks[-1][0] + 0.1 * seconds
            ended = unsteady(marks)
    while queue:
        wait()
    times = backend.together.gather([at for at, _ in marks])  # done is what all ranks have done
    done = [(max(of_ranks), count) for (_, count), of_ranks in zip(marks, zip(*times, strict=True), strict=True)]
    return Load(marks=done, ended=backend.together.gather(ended)[0])


def unsteady(marks: list[Mark]) -> str:
    """Why a load is not steady so far, by the rates of its thirds; empty where it is, or where nobody can tell yet."""
    if len(marks) < 3 * LEAST_BATCHES + 1:
        return ""
    cuts = [marks[len(marks) * third // 3] for third in range(3)] + [marks[-1]]
    rates = [(b[1] - a[1]) / max(b[0] - a[0], 1e-9) for a, b in pairwise(cuts)]
    if max(rates) <= (1.0 + UNSTEADY) * min(rates):
        return ""
    return f"the load is not steady: {min(rates):.4g} to {max(rates):.4g} iterations/s in its thirds"

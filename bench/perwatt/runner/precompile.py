"""Compiling a suite ahead of time: every impl that is compiled, of every case that can run here.

Where compiled programs stay on the disk, operations of eager mode are programs too, so there every impl is called.
A compilation that fails may leave a process in which the next one fails too, so its worker is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any, NamedTuple

from perwatt.backends.base import Backend
from perwatt.finding import said
from perwatt.results.schema import Status
from perwatt.runner import preflight
from perwatt.runner.crew import Crew
from perwatt.runner.supervisor import Worker, WorkerLost
from perwatt.spec.case import Case

NOTHING = "nothing to compile"
FAILED = frozenset({Status.CRASHED, Status.OOM, Status.TIMEOUT, Status.RANK_FAILED})


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one impl of one case.

    Attributes:
        case: its name.
        placement: on how much hardware.
        impl: name of the impl.
        status: of a row, or :data:`NOTHING`.
        seconds: of the first call with what it compiled; None where there was none, or it failed.
        graphs: compilations, by the compiler's own count.
        error: why it failed, or cannot be done here.
    """

    case: str
    placement: str
    impl: str
    status: str
    seconds: float | None = None
    graphs: int | None = None
    error: str = ""

    def message(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def compiled(
    cases: Sequence[Case], backends: Sequence[Backend], folder: Path, run_id: str, *, seed: int = 0,
    timeout_s: float | None = None, report: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:  # fmt: skip
    """Compile all that is compiled: on one device as many at once as there are backends, then what takes several.

    Args:
        cases: of a suite, in its order.
        backends: the device of each worker; one device may be named more than once.
        folder: where a log for each worker goes, so that the last words of one are not another's.
        run_id: names the workers' temporary folders.
        seed: of the input data.
        timeout_s: for one compilation; None leaves it to the case.
        report: told of each outcome as it comes.

    Returns:
        One outcome for each impl of each case, in the suite's order.

    Raises:
        MissingHardware: no worker comes up.
    """
    tasks = [(case, impl) for case in cases for impl in case.impls]
    found = {at: known for at, (case, impl) in enumerate(tasks) if (known := _foregone(case, impl, backends[0]))}
    for known in found.values():
        report(known)
    waiting = {at: task for at, task in enumerate(tasks) if at not in found}
    crews = [
        Crew(backend, folder / f"worker-{at}.log", f"{run_id}-{at}")
        for at, backend in enumerate(backends[: len(waiting)], 1)
    ]
    worlds = {at: preflight.world(case, backends[0]) for at, (case, _) in waiting.items()}
    alone = {at: Task(*task, 1) for at, task in waiting.items() if worlds[at] == 1}
    several = {at: Task(*task, worlds[at]) for at, task in waiting.items() if worlds[at] > 1}
    for at, done in chain(_together(crews, alone, seed, timeout_s), _together(crews[:1], several, seed, timeout_s)):
        found[at] = done
        report(done)
    return [found[at] for at in range(len(tasks))]


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 all that can be compiled here was, 1 some failed, 3 nothing was compiled."""
    statuses = {one.status for one in outcomes}
    return 1 if statuses & FAILED else 0 if Status.OK in statuses else 3


def _foregone(case: Case, impl: str, backend: Backend) -> Outcome | None:
    """An outcome for which no worker is needed."""
    if case.workload.impls()[impl].impl_class == "eager" and not backend.keeps_compiled:
        return _outcome(case, impl, status=NOTHING)
    try:
        reason, status = preflight.unsupported(case, impl, backend, sessions=1), Status.UNSUPPORTED
    except Exception as error:  # a workload of somebody else's, and a result about it
        reason, status = said(error), Status.CRASHED
    return _outcome(case, impl, status=status, error=reason) if reason else None


def _outcome(case: Case, impl: str, **fields: Any) -> Outcome:
    return Outcome(case=case.name, placement=case.placement, impl=impl, **fields)


class Task(NamedTuple):
    """What a crew is to do, on how many devices."""

    case: Case
    impl: str
    world: int


def _together(
    crews: Sequence[Crew], tasks: dict[int, Task], seed: int, timeout_s: float | None
) -> Iterator[tuple[int, Outcome]]:  # fmt: skip
    """Outcomes as they come, each task with whichever crew is free."""
    free: SimpleQueue[Crew] = SimpleQueue()
    over = Event()
    for crew in crews:
        free.put(crew)

    def one(at: int, task: Task) -> tuple[int, Outcome]:
        crew = free.get()
        try:
            worker = crew.worker(task.world)
            if over.is_set():  # it came up when the others had been sent home
                crew.discharge()
                raise CancelledError
            return at, _compile(crew, worker, task, seed, timeout_s)
        finally:
            free.put(crew)

    pool = ThreadPoolExecutor(max_workers=max(1, len(crews)))
    try:
        for done in as_completed([pool.submit(one, at, task) for at, task in tasks.items()]):
            yield done.result()
        for crew in crews:
            crew.relieve()
    finally:
        over.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for crew in crews:
            crew.discharge()


def _compile(crew: Crew, worker: Worker, task: Task, seed: int, timeout_s: float | None) -> Outcome:
    """Ask a worker; one that is lost, or in which a compilation failed, is replaced."""
    case, impl = task.case, task.impl
    request = {"case": case.message(), "compile": impl, "seed": seed}
    fields: dict[str, Any] = {"status": Status.CRASHED, "error": "the worker sent no outcome"}
    try:
        for event in worker.ask(request, timeout_s or case.measure.timeout_s):
            fields = {name: value for name, value in event.items() if name != "event"}
    except WorkerLost as lost:
        fields = {"status": lost.status, "error": lost.reason}
    if fields["status"] != Status.OK:
        crew.discharge()
    fields["error"] = " ".join(fields["error"].split())
    return _outcome(case, impl, **fields)

"""The first call of one impl, which compiles it, and nothing else of measuring: no gate, no samples, no row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

from perwatt.backends.base import Backend
from perwatt.backends.together import Abandoned
from perwatt.results.schema import Status
from perwatt.spec.case import Case
from perwatt.timing import whole
from perwatt.timing.body import Body
from perwatt.timing.measure import outcome
from perwatt.workloads.base import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """What became of it.

    Attributes:
        status: ``ok``, or what the exception means.
        seconds: of the first call with what it compiled, by the wall clock; None where it failed.
        graphs: compilations that it took, by the compiler's own count; 0 for what was captured or is a kernel.
        error: why it failed; empty where it did not.
    """

    status: Status
    seconds: float | None = None
    graphs: int | None = None
    error: str = ""


def first_call(case: Case, *, impl: str, seed: int, backend: Backend) -> Compiled:
    """Open an impl and call it once, as :func:`perwatt.timing.measure.measure` does before it checks anything.

    Where the compiler's cache outlives the process (:attr:`Backend.keeps_compiled`) it is used and filled; elsewhere
    it is emptied first, so that the seconds are those of a cold compilation. Ranks of a placement do so together.

    Args:
        case: whose data and shapes are meant.
        impl: one of the case's.
        seed: of the input data.
        backend: device, already started.
    """
    own, done, abandoned, launched = (Status.OK, ""), Compiled(status=Status.OK), False, False
    try:
        backend.prepare(case.precision)
        backend.empty_compiler_cache()
        found = case.workload.impls()[impl]
        chosen = found.chosen(case, backend)
        session = case.workload.open(case, found, backend, seed)
        launched = (chosen or found).impl_class == "kernel"
        done = _called(session, backend)
    except Exception as error:  # whatever an impl raises is a result about that impl
        own, abandoned = outcome(error, backend, launched=launched), isinstance(error, Abandoned)
    fate = whole.settled(
        backend, whole.Fate(status=own[0], error=own[1], rank=backend.rank, abandoned=abandoned)
    )  # fmt: skip
    if fate.status != Status.OK:
        return Compiled(status=fate.status, error=fate.error)
    return replace(done, seconds=whole.largest(backend, done.seconds))


def _called(session: Session, backend: Backend) -> Compiled:
    body = Body(session, backend)
    try:
        before, started = backend.guards()["compilations"], perf_counter()
        body.batch(1)
        if session.part is not None:  # a difference of two passes times this one too
            body.batch(1, run=session.part)
        backend.synchronize()
        seconds, graphs = perf_counter() - started, backend.guards()["compilations"] - before
        return Compiled(status=Status.OK, seconds=seconds, graphs=graphs)
    finally:
        body.close()
        backend.forget_compiled()
        backend.release()

"""Measuring one case in this process: every impl opened, checked, warmed up, then timed in interleaved blocks.

The order is fixed by method 4 and 6: data and compile first, the gate, warm-up until steady, samples in blocks whose
impls take turns in random order, the gate again on fresh inputs. An impl that fails gives a part with that status and
costs the others nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

from perwatt.backends.base import Backend
from perwatt.backends.together import Abandoned
from perwatt.results.schema import Status
from perwatt.runner.part import Part
from perwatt.spec.case import Case
from perwatt.timing import host, whole
from perwatt.timing.body import Body
from perwatt.timing.statistics import estimate
from perwatt.timing.stopping import Stop, StoppingRule
from perwatt.workloads.base import Accuracy, Impl, Session
from perwatt_kernels.registry import Refusal

BLOCK_SAMPLES = 5  # samples an impl takes before the next one has its turn
STEADY = 0.02  # warm-up ends when two successive medians of three batches differ by less
WARMUP_BATCHES, WARMUP_S = 10, 0.3  # at least so many batches and seconds: threads that fight for cores settle late
WARMUP_SHARE = 0.5  # at most this share of the sampling time
SHORT = 0.5  # a sample shorter than this share of `sample_time_s` shows that warm-up was not steady after all
RESTARTS = 3  # how often sampling may begin anew for that
REPORT_S = 0.2  # between two reports of progress

Report = Callable[[dict[str, Any]], None]


class Poisoned(Exception):
    """Nothing can be measured in this process any more.

    Attributes:
        status: outcome of the impl that did it.
        reason: why, in one line.
    """

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Subject:
    """One impl of a case on its way through opening, gate, warm-up, samples and gate again."""

    def __init__(self, impl: Impl, part: Part, rule: StoppingRule) -> None:
        self.impl, self.part, self.rule = impl, part, rule
        self.kind = impl.impl_class
        self.elapsed_s = 0.0
        self.report_at = 0.0
        self.restarts = 0
        self.sampled_s = 0.0
        self.spans: list[tuple[float, float]] = []
        self.enqueued: list[float] = []
        self.guards: dict[str, int] = {}
        self.stop: Stop | None = None
        self.session: Session
        self.body: Body

    def fail(self, status: Status, error: str) -> None:
        """Settle the outcome; nothing measured so far is kept."""
        kept = {"compile_cold_s", "compile_warm_s", "impl_class", "input_digest", "path"}
        known = {name: getattr(self.part, name) for name in kept}
        self.part = Part(case=self.part.case, impl=self.part.impl, process=self.part.process,
                         round=self.part.round, status=status, error=error, **known)  # fmt: skip

    @property
    def launched(self) -> bool:
        """Whether a kernel of its own is built, so that nothing it raises is a refusal."""
        return self.kind == "kernel" and hasattr(self, "body")

    def note(self, **fields: Any) -> None:
        """Write fields of the part."""
        self.part = replace(self.part, **fields)

    @property
    def failed(self) -> bool:
        """Whether the outcome is settled already."""
        return self.part.status != Status.OK


def measure(
    case: Case, *, impls: Sequence[str], backend: Backend, seed: int, process: int, round: int, aa: bool,
    max_time_s: float, report: Report,
) -> Iterator[Part]:  # fmt: skip
    """Measure the impls of one case, interleaved.

    Args:
        case: what is measured.
        impls: names of the impls, a choice of the case's.
        backend: device, already started.
        seed: of the input data and of the order of impls.
        process: number of this process restart.
        round: number of this visit to the case.
        aa: time every impl against itself too.
        max_time_s: seconds of sampling for each impl.
        report: told of phases and progress, never inside a sample.

    Yields:
        One part for each impl; failures as soon as they are known.
    """
    order = random.Random(f"{seed}/{process}/{round}/{case.identity}")
    backend.prepare(case.precision)
    subjects = [_subject(case, name, process, round, max_time_s) for name in order.sample(impls, len(impls))]
    for subject in subjects:
        _guarded(subject, backend, partial(_prepare, subject, case, backend, seed, aa, report))
        if subject.failed:
            yield _finished(subject, backend)
    running = [s for s in subjects if not s.failed]
    for subject in running:  # what was compiled for one impl may have made the process forget that of another
        _guarded(subject, backend, partial(_refresh, subject, report))
    with backend.watched():
        _sample_all([s for s in running if not s.failed], backend, order, case.measure.sample_time_s, report)
    for subject in running:
        if not subject.failed:
            _guarded(subject, backend, partial(_conclude, subject, case, backend, report))
        yield _finished(subject, backend)


def _subject(case: Case, name: str, process: int, round: int, max_time_s: float) -> Subject:
    limits = case.measure
    rule = StoppingRule(
        target_ci=limits.target_ci,
        min_samples=limits.min_samples,
        max_samples=limits.max_samples,
        max_time_s=max_time_s,
    )
    part = Part(case=case.identity, impl=name, process=process, round=round)
    return Subject(case.workload.impls()[name], part, rule)


def _guarded(subject: Subject, backend: Backend, step: Callable[[], None]) -> None:
    """Run a step of one subject; an exception settles its outcome instead of ending the sweep.

    Raises:
        Poisoned: it leaves a process in which nothing works; the orchestrator starts another one.
    """
    started, cause = perf_counter(), None
    try:
        step()
    except Exception as error:  # whatever an impl raises is a result about that impl
        subject.fail(*outcome(error, backend, launched=subject.launched))
        cause = error
    own = whole.Fate(
        status=Status(subject.part.status), error=subject.part.error, rank=backend.rank,
        poisoned=cause is not None and backend.poisoned(cause), abandoned=isinstance(cause, Abandoned),
    )  # fmt: skip
    fate = whole.settled(backend, own)
    if fate.status != Status.OK and not subject.failed:
        subject.fail(fate.status, fate.error)
    subject.note(status=fate.status, error=fate.error)
    if fate.poisoned:
        raise Poisoned(fate.status, fate.error) from cause
    subject.elapsed_s += perf_counter() - started


def outcome(error: Exception, backend: Backend, *, launched: bool = False) -> tuple[Status, str]:
    """What an exception says of an impl: no memory, nothing there that could do it, or a fault.

    A kernel of its own says what it cannot do before it is ``launched``; what it raises afterwards is a fault, as is
    what the dispatcher raises of an operation that its device has no code for.
    """
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if backend.is_out_of_memory(error):
        return Status.OOM, text
    refused = isinstance(error, Refusal) or (isinstance(error, NotImplementedError) and not launched)
    if refused and str(error):
        return Status.UNSUPPORTED, " ".join(str(error).split())[:300]
    return Status.CRASHED, text


def _prepare(subject: Subject, case: Case, backend: Backend, seed: int, aa: bool, report: Report) -> None:
    name, others_bytes = subject.impl.name, backend.held_memory()
    report({"event": "phase", "impl": name, "phase": "open"})
    chosen = subject.impl.chosen(case, backend)
    if chosen is not None and not subject.impl.captured:
        subject.kind = chosen.impl_class
        subject.note(impl_class=chosen.impl_class)
    subject.session = session = case.workload.open(case, subject.impl, backend, seed)
    subject.body = Body(session, backend, case.workload.open(case, subject.impl, backend, seed) if aa else None)
    report({"event": "phase", "impl": name, "phase": "compile"})
    first_s, again_s = _compile(subject, backend)
    report({"event": "phase", "impl": name, "phase": "gate"})
    _gate(subject, backend, session.check(0))
    if subject.failed:
        return
    path, flags = session.path(), [*subject.impl.flags, *session.flags, *backend.doubts()]
    if chosen is not None:
        path, flags = f"{path} ({chosen.why})", [*flags, *chosen.flags]
    subject.note(path=path, input_digest=session.input_digest, flags=flags)
    report({"event": "phase", "impl": name, "phase": "warmup"})
    iteration_s = _warm_up(subject, case, backend)
    if subject.kind != "eager":
        subject.note(compile_cold_s=None if first_s is None else max(0.0, first_s - iteration_s))
        subject.note(compile_warm_s=None if again_s is None else max(0.0, again_s - iteration_s))
    subject.note(peak_bytes=_peak(subject, backend, others_bytes))


def _refresh(subject: Subject, report: Report) -> None:
    report({"event": "phase", "impl": subject.impl.name, "phase": "warmup"})  # it is to blame if the process dies here
    subject.body.refresh()


def _peak(subject: Subject, backend: Backend, others_bytes: float) -> float | None:
    """Bytes that one iteration and its data need, without what impls that were opened before hold."""
    backend.reset_peak_memory()
    subject.body.batch(1)
    peak = backend.peak_memory()
    return whole.largest(backend, None if peak is None else max(0.0, peak - others_bytes))


def _compile(subject: Subject, backend: Backend) -> tuple[float | None, float | None]:
    """Seconds of the first call with the compiler's caches empty, and with those on disk filled.

    Where the cache outlives the process and had everything, the first call is the second kind. What was captured plays
    back code and constants of what was compiled, so that stays where it is.
    """
    if subject.kind == "graph":
        backend.empty_compiler_cache()
    first_s = subject.body.batch(1).total_s
    if subject.kind == "eager" or subject.impl.captured:
        return first_s, None
    if not any(backend.together.gather(backend.cold())):
        return None, first_s
    backend.forget_compiled()
    return first_s, subject.body.batch(1).total_s


def _gate(subject: Subject, backend: Backend, accuracy: Accuracy) -> None:
    """Keep the worst of all checks and ranks; a failed one settles the outcome."""
    accuracy = whole.worst(backend, accuracy)
    error, bound = accuracy.rel_err, accuracy.bound
    if not accuracy.ok:
        reason = accuracy.detail or "the error exceeds its bound"
        subject.fail(Status.INACCURATE, f"{reason} (error {error:.2e}, bound {bound:.2e})")
        subject.note(rel_err=error if math.isfinite(error) else None, rel_err_bound=bound)
    elif subject.part.rel_err is None or error * (subject.part.rel_err_bound or bound) > subject.part.rel_err * bound:
        subject.note(rel_err=error, rel_err_bound=bound)


def _warm_up(subject: Subject, case: Case, backend: Backend) -> float:
    """Run until batch times are steady, and set the batch size. Returns seconds of one iteration."""
    started, means = perf_counter(), list[float]()
    limit = WARMUP_SHARE * subject.rule.max_time_s
    spent = 0.0
    while len(means) < WARMUP_BATCHES or spent < WARMUP_S or not _steady(means):
        means.append(subject.body.batch().total_s / subject.body.iterations)
        spent = max(backend.together.gather(perf_counter() - started))
        subject.body.calibrate(means[-1], case.measure.sample_time_s)
        if spent > limit and len(means) >= 2:
            break
    subject.note(warmup_s=perf_counter() - started)
    return sorted(means[-3:])[len(means[-3:]) // 2]


def _steady(means: Sequence[float]) -> bool:
    before, now = sorted(means[-6:-3])[1], sorted(means[-3:])[1]
    return abs(now - before) <= STEADY * before


def _sample_all(
    subjects: list[Subject], backend: Backend, order: random.Random, sample_time_s: float, report: Report
) -> None:
    """Blocks of samples, the impls in random order within each, until every impl has stopped."""
    block, active, last = 0, list(subjects), None
    while active:
        for subject in order.sample(active, len(active)):
            if subject is not last:  # whoever is named last is to blame if the process dies
                report({"event": "phase", "impl": subject.impl.name, "phase": "sample"})
            switched = subject is not last and len(subjects) > 1
            _guarded(subject, backend, partial(_block, subject, backend, block, switched, sample_time_s, report))
            last = subject
        active = [s for s in active if s.stop is None and not s.failed]
        block += 1


def _block(
    subject: Subject, backend: Backend, block: int, switched: bool, sample_time_s: float, report: Report
) -> None:
    """One block of one impl. After another impl ran, one batch is not counted: it refills the caches."""
    if switched:
        subject.body.batch()
    before, had = backend.guards(), len(subject.part.samples)
    for _ in range(BLOCK_SAMPLES):
        started = perf_counter()
        subject.enqueued.append(subject.body.sample(subject.part))
        subject.part.blocks.append(block)
        ended = perf_counter()
        subject.spans.append((started, ended))
        subject.sampled_s += max(backend.together.gather(ended - started))
        if subject.sampled_s >= subject.rule.max_time_s:
            break
    if _too_short(subject, sample_time_s):
        return
    after = backend.guards()
    subject.guards = {name: subject.guards.get(name, 0) + after[name] - before[name] for name in after}
    subject.stop = subject.rule.decide(subject.body.series(subject.part), subject.sampled_s, before=had)
    _progress(subject, report)


def _too_short(subject: Subject, sample_time_s: float) -> bool:
    """Whether samples became so short that they have to be taken anew, in larger batches."""
    part, body = subject.part, subject.body
    iteration_s = min(part.samples[-BLOCK_SAMPLES:])
    if iteration_s * body.iterations >= SHORT * sample_time_s or subject.restarts == RESTARTS or body.full:
        return False
    body.calibrate(iteration_s, sample_time_s)
    kept = (part.samples, part.minus, part.twin, part.blocks, part.ranks)
    for series in (*kept, subject.enqueued, subject.spans, subject.guards):
        series.clear()
    body.wall.clear()
    subject.restarts += 1
    return True


def _progress(subject: Subject, report: Report) -> None:
    """Tell how it stands, but not so often that the telling takes noticeable time."""
    if perf_counter() < subject.report_at:
        return
    subject.report_at = perf_counter() + REPORT_S
    seen = estimate(subject.body.series(subject.part))
    report({
        "event": "progress", "impl": subject.impl.name, "samples": seen.n,
        "median_s": seen.median, "lo_s": seen.lo, "hi_s": seen.hi, "elapsed_s": subject.sampled_s,
    })  # fmt: skip


def _conclude(subject: Subject, case: Case, backend: Backend, report: Report) -> None:
    """Health and memory of the samples, then the gate once more on fresh inputs."""
    assert subject.stop is not None
    report({"event": "phase", "impl": subject.impl.name, "phase": "gate-after"})
    enqueued = sorted(subject.enqueued)
    by_wall = subject.body.settle(subject.part)
    direct = subject.session.part is None
    if direct:  # of a difference of two passes no host time is defined
        enqueue_s = enqueued[len(enqueued) // 2]
        subject.note(enqueue_s=enqueue_s)
        if backend.asynchronous and host.suspected(median(subject.part.samples), enqueue_s):
            subject.note(busy_s=whole.largest(backend, subject.body.busy_s()))
    subject.note(
        stop_reason=subject.stop.text + ("; times are by the wall clock" if by_wall else ""),
        iters_per_sample=subject.body.iterations, method="direct" if direct else "difference",
        timing_method="wall" if by_wall else backend.timing_method, guards=whole.summed(backend, subject.guards),
        health=whole.health(backend, subject.spans),
    )  # fmt: skip
    _gate(subject, backend, subject.session.check(1))


def _finished(subject: Subject, backend: Backend) -> Part:
    if hasattr(subject, "body"):
        subject.body.close()
    elif hasattr(subject, "session"):
        subject.session.close()
    backend.release()
    return replace(subject.part, elapsed_s=subject.elapsed_s)

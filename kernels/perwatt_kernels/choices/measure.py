"""Which of some candidates is the fastest, measured: all take turns, round after round."""

from __future__ import annotations

import os
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from statistics import median

from perwatt_kernels.choices import store
from perwatt_kernels.choices.answer import Answer
from perwatt_kernels.choices.question import Question

ROUNDS = 5
ROUND_S = 0.02  # a candidate's share of a round lasts at least so long
MOST_CALLS = 1000  # of one candidate in one round
HOPELESS = 10.0  # times the fastest: what is slower after one call takes no part in rounds

PATIENCE_S = 60.0  # for one call on a device that computes by itself: what takes longer hangs
HUNG = 70  # exit code of a process that ends itself for that (EX_SOFTWARE of sysexits.h)
NO_MEMORY = ("out of memory", "ALLOC_FAILED", "NRT_RESOURCE", "Failed to allocate", "DefaultCPUAllocator")
"""How drivers, runtimes and allocators say that memory ran out. Shared memory that is "out of resource" always is."""

Call = Callable[[], object]
Clock = Callable[[Call, int], float]
"""Seconds that a number of calls take on the device."""

_known: dict[str, Answer] = {}


class Lost(RuntimeError):
    """A candidate left a device on which nothing works in this process any more; the next one passes it over."""


def chosen(
    question: Question, candidates: Mapping[str, Callable[[], Call]], clock: Clock,
    agrees: Callable[[str, object], str | None] = lambda name, result: None, patience_s: float | None = None,
) -> Answer:  # fmt: skip
    """The answer to a question, measured where nobody has it.

    Args:
        question: what it holds for.
        candidates: what to choose from; each makes the call that is timed.
        clock: times calls.
        agrees: looks at the result of a candidate's first call, in the candidates' order, and says what is wrong with
            it, or None.
        patience_s: after so long a call hangs, and ends the process: nothing else frees a device. None waits.

    Raises:
        NotImplementedError: every candidate failed.
        MemoryError: every candidate failed, and memory ran out.
        Lost: one failed in such a way that nothing else can be tried in this process.
    """
    for answer in (_known.get(question.text), store.look(question)):
        if answer is not None and answer.covers(candidates):
            _known[question.text] = answer
            return answer
    answer, lasting = _measured(question, candidates, clock, agrees, patience_s)
    if lasting:
        store.keep(question, answer)
    _known[question.text] = answer
    return answer


def forget() -> None:
    """Look answers up anew, as a new process does."""
    _known.clear()


def _measured(
    question: Question, candidates: Mapping[str, Callable[[], Call]], clock: Clock,
    agrees: Callable[[str, object], str | None], patience_s: float | None,
) -> tuple[Answer, bool]:  # fmt: skip
    """The answer, and whether it holds for later processes: there may be memory another time for what found none."""
    short = False
    failed = {name: why for name in candidates if (why := store.deadly(question, name))}
    calls: dict[str, Call] = {}
    for name, make in candidates.items():
        if name in failed:
            continue
        try:
            with store.trying(question, name), _survived(question, name, clock):
                call = make()
                result = call()  # compiles, too, and takes what that takes
                with _ended_after(patience_s, question, name):
                    wrong = agrees(name, result)
                    clock(call, 1)
        except Lost:
            raise
        except Exception as error:  # whatever a candidate raises says something about that candidate
            wrong = _one_line(error)  # and no more: its traceback would hold the candidate's tensors
            short = short or _no_memory(error)
        if wrong is None:
            calls[name] = call
        else:
            failed[name] = wrong
    for name, why in failed.items():
        warnings.warn(f"{question.about}: {name} is passed over: {why}", stacklevel=4)
    if not calls:
        reasons = "; ".join(f"{name}: {why}" for name, why in failed.items())
        kind = MemoryError if short else NotImplementedError
        raise kind(f"no implementation of {question.about} works here: {reasons}")
    seconds = _rounds(calls, clock)
    answer = Answer(
        chosen=min(seconds, key=lambda name: seconds[name]), seconds=seconds, failed=failed,
        when=datetime.now(UTC).date().isoformat(),
    )  # fmt: skip
    return answer, not short


@contextmanager
def _survived(question: Question, name: str, clock: Clock) -> Iterator[None]:
    """See after an exception whether the device still works: CUDA's is lost to the process by an illegal access, say.

    Raises:
        Lost: it does not.
    """
    try:
        yield
    except Lost:  # of a choice within this candidate, which took the blame
        raise
    except Exception as error:
        try:
            clock(lambda: None, 0)
        except Exception:
            reason = _one_line(error)
            store.condemn(question, name, reason)
            raise Lost(
                f"{question.about}: {name} is not tried again, it cost the process its device: {reason}"
            ) from error
        raise


@contextmanager
def _ended_after(patience_s: float | None, question: Question, name: str) -> Iterator[None]:
    """End the process if this takes longer."""
    if patience_s is None:
        yield
        return
    timer = threading.Timer(patience_s, _end, (patience_s, question, name))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(patience_s: float, question: Question, name: str) -> None:
    reason = f"a call was not over after {patience_s:g} s"
    store.condemn(question, name, reason)
    print(f"{question.about}: {name} is not tried again: {reason}; the process ends", file=sys.stderr, flush=True)
    os._exit(HUNG)


def _rounds(calls: Mapping[str, Call], clock: Clock) -> dict[str, float]:
    """Seconds of a call of each, by rounds in which all take turns in random order."""
    once = {name: clock(call, 1) for name, call in calls.items()}
    limit = HOPELESS * min(once.values())
    racing = [name for name in calls if once[name] <= limit]
    times = {name: max(1, min(MOST_CALLS, int(ROUND_S / max(once[name], 1e-9)))) for name in racing}
    seen: dict[str, list[float]] = {name: [] for name in racing}
    order = random.Random(0)
    for _ in range(ROUNDS):
        for name in _shuffled(racing, order):
            seen[name].append(clock(calls[name], times[name]) / times[name])
    return once | {name: median(found) for name, found in seen.items()}


def _shuffled(names: Sequence[str], order: random.Random) -> list[str]:
    return order.sample(names, len(names))


def _no_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]

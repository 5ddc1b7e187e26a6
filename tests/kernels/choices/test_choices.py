"""Choices by measurement: the fastest is taken, kept, and found again for the same question only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from perwatt_kernels.choices import measure, store
from perwatt_kernels.choices.answer import Answer
from perwatt_kernels.choices.question import Question

Seconds = dict[str, float]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PERWATT_CACHE", str(tmp_path))
    measure.forget()
    yield tmp_path
    measure.forget()


def question(**changes: Any) -> Question:
    fields = {"about": "op", "shape": {"m": 8, "cut": [1, 2]}, "device": "chip", "versions": {"torch": "2.13.0"}}
    return Question(**{**fields, **changes})


class Bench:
    """Candidates that take as long as is said, by a clock that adds it up."""

    def __init__(self, **seconds: float) -> None:
        self.seconds, self.calls = seconds, Counter[str]()

    def candidates(self) -> dict[str, Callable[[], Callable[[], object]]]:
        def make(name: str) -> Callable[[], Callable[[], object]]:
            def call() -> object:
                self.calls[name] += 1
                return name

            return lambda: call

        return {name: make(name) for name in self.seconds}

    def clock(self, call: Callable[[], object], count: int) -> float:
        return sum(self.seconds[str(call())] for _ in range(count))

    def chosen(self, asked: Question | None = None, **options: Any) -> Answer:
        return measure.chosen(asked or question(), self.candidates(), self.clock, **options)


def test_the_fastest_is_chosen_and_all_figures_are_kept() -> None:
    found = Bench(slow=3e-3, fast=1e-3, middle=2e-3).chosen()
    assert (found.chosen, found.origin, found.failed) == ("fast", "measured", {})
    assert found.seconds == pytest.approx({"slow": 3e-3, "fast": 1e-3, "middle": 2e-3})
    ((asked, kept),) = store.entries()
    assert asked == question()
    assert (kept.chosen, kept.seconds, kept.origin) == ("fast", found.seconds, "kept")


def test_it_is_measured_once_and_not_again_by_a_later_process() -> None:
    bench = Bench(slow=3e-3, fast=1e-3)
    bench.chosen()
    measured = bench.calls.total()
    assert bench.chosen().origin == "measured"  # as this process knows it
    measure.forget()
    assert bench.chosen().origin == "kept"
    assert bench.calls.total() == measured


@pytest.mark.parametrize(
    "changes",
    [
        {"about": "other"}, {"shape": {"m": 9}}, {"device": "another"}, {"versions": {"torch": "2.14.0"}},
        {"versions": {}},
    ],
)  # fmt: skip
def test_another_question_is_measured_anew(changes: dict[str, Any]) -> None:
    Bench(a=1e-3, b=2e-3).chosen()
    assert Bench(a=2e-3, b=1e-3).chosen(question(**changes)).chosen == "b"


def test_a_candidate_that_was_not_there_is_measured_with_the_others() -> None:
    Bench(a=1e-3, b=2e-3).chosen()
    measure.forget()
    assert Bench(a=1e-3, b=2e-3, newer=5e-4).chosen().chosen == "newer"
    measure.forget()
    assert Bench(b=2e-3).chosen().chosen == "b"  # what was chosen is not there any more
    measure.forget()
    assert Bench(b=2e-3).chosen().origin == "kept"


def test_what_fails_or_is_wrong_is_passed_over_with_a_warning() -> None:
    bench = Bench(good=3e-3, wrong=1e-3)

    def broken() -> Callable[[], object]:
        raise RuntimeError("no\nsuch kernel")

    def disagrees(name: str, result: object) -> str | None:
        assert result == name
        return "another result" if name == "wrong" else None

    with pytest.warns(UserWarning, match="is passed over") as warned:
        found = measure.chosen(question(), {"broken": broken, **bench.candidates()}, bench.clock, disagrees)
    assert found.chosen == "good"
    assert found.failed == {"broken": "RuntimeError: no such kernel", "wrong": "another result"}
    assert sorted(str(one.message) for one in warned) == [
        "op: broken is passed over: RuntimeError: no such kernel",
        "op: wrong is passed over: another result",
    ]
    measure.forget()
    assert measure.chosen(question(), {"broken": broken, **bench.candidates()}, bench.clock).origin == "kept"


def test_where_all_fail_the_reasons_are_named_and_nothing_is_kept() -> None:
    def broken() -> Callable[[], object]:
        raise RuntimeError("no memory")

    message = "op works here: a: RuntimeError: no mem"
    with pytest.warns(UserWarning, match="passed over"), pytest.raises(NotImplementedError, match=message):
        measure.chosen(question(), {"a": broken}, lambda call, count: 1.0)
    assert list(store.entries()) == []


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), MemoryError(),
    ],
)  # fmt: skip
def test_one_that_ran_out_of_memory_is_passed_over_by_this_process_only(error: Exception) -> None:
    bench = Bench(good=3e-3, large=1e-3)

    def large() -> Callable[[], object]:
        raise error

    candidates = {**bench.candidates(), "large": large}
    with pytest.warns(UserWarning, match=f"large is passed over: {type(error).__name__}"):
        found = measure.chosen(question(), candidates, bench.clock)
    assert (found.chosen, found.failed.keys()) == ("good", {"large"})
    assert measure.chosen(question(), candidates, bench.clock) == found  # one process has one answer
    assert list(store.entries()) == []
    measure.forget()
    assert bench.chosen().chosen == "large"  # another time there is memory
    assert [answer.chosen for _, answer in store.entries()] == ["large"]


@pytest.mark.parametrize("first", ["RuntimeError: CUDA out of memory", "OutOfResources: out of resource: shared mem"])
def test_where_none_works_and_memory_ran_out_that_is_the_error(first: str) -> None:
    def fails(text: str) -> Callable[[], object]:
        raise RuntimeError(text)

    makers = {"a": lambda: fails(first), "b": lambda: fails("CUDA out of memory")}
    with pytest.warns(UserWarning, match="passed over"), pytest.raises(MemoryError, match=r"op works .*; b: Runtime"):
        measure.chosen(question(), makers, lambda call, count: 1.0)
    with pytest.warns(UserWarning, match="passed over"), pytest.raises(NotImplementedError, match="out of resource"):
        measure.chosen(question(), {"a": lambda: fails("out of resource")}, lambda call, count: 1.0)
    assert list(store.entries()) == []


def test_a_hopeless_one_is_called_three_times_and_no_more() -> None:
    bench = Bench(fast=1e-3, hopeless=1.0)
    assert bench.chosen().seconds["hopeless"] == 1.0
    assert bench.calls["hopeless"] == 3  # for its result, for what loads at first, for its time


def test_a_process_that_dies_twice_in_a_candidate_has_it_passed_over(cache: Path) -> None:
    program = textwrap.dedent("""
        import os, sys
        from perwatt_kernels.choices import measure
        from perwatt_kernels.choices.question import Question
        asked = Question(about="op", shape={}, device="chip")
        makers = {"good": lambda: lambda: 1, "deadly": lambda: lambda: os._exit(7)}
        found = measure.chosen(asked, makers, lambda call, count: [call() for _ in range(count)] and 1e-3 * count)
        print(found.chosen, dict(found.failed))
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = [
        subprocess.run([sys.executable, "-W", "ignore", "-c", program], env=environment, capture_output=True, text=True)
        for _ in range(3)
    ]
    assert [one.returncode for one in ran] == [7, 7, 0], ran[-1].stderr
    assert ran[-1].stdout.strip() == "good {'deadly': 'the process ended while it was tried'}"
    assert not list(cache.rglob("*good*.trying"))


class Poisonable(Bench):
    """A device that is lost to its process by one candidate, as CUDA's by an illegal access."""

    lost = False

    def candidates(self) -> dict[str, Callable[[], Callable[[], object]]]:
        def poison() -> object:
            self.lost = True
            raise RuntimeError("an illegal memory access was encountered")

        return super().candidates() | {"poison": lambda: poison}

    def clock(self, call: Callable[[], object], count: int) -> float:
        if self.lost:
            raise RuntimeError("still that illegal memory access")
        return super().clock(call, count)


def test_a_candidate_that_costs_the_process_its_device_is_passed_over_by_the_next() -> None:
    with pytest.raises(measure.Lost, match=r"op: poison is not tried again, .*: RuntimeError: an illegal memory acc"):
        Poisonable(good=1e-3, poison=5e-4, later=2e-3).chosen()
    assert list(store.entries()) == []
    measure.forget()
    with pytest.warns(UserWarning, match="poison is passed over"):
        found = Poisonable(good=1e-3, poison=5e-4, later=2e-3).chosen()
    assert found.chosen == "good"
    assert found.failed == {"poison": "RuntimeError: an illegal memory access was encountered"}
    assert found.seconds.keys() == {"good", "later"}


def test_the_innermost_of_choices_within_choices_takes_the_blame() -> None:
    inner = Poisonable(tile=1e-3, poison=1e-3)

    def kernel() -> object:
        found = inner.chosen(question(about="kernel"))
        return "kernel" if found.failed else None

    outer = Bench(kernel=1e-3, library=2e-3)
    candidates = {**outer.candidates(), "kernel": lambda: kernel}
    with pytest.raises(measure.Lost, match="kernel: poison is not tried again"):
        measure.chosen(question(), candidates, inner.clock)
    inner.lost = False
    measure.forget()
    with pytest.warns(UserWarning, match="poison is passed over"):
        found = measure.chosen(question(), candidates, outer.clock)
    assert (found.chosen, found.failed) == ("kernel", {})


PROGRAM = """
import os, sys, time
from perwatt_kernels.choices import measure
from perwatt_kernels.choices.question import Question
def clock(call, count):
    return sum(call() or 1e-3 for _ in range(count))
def choose(about, makers, **own):
    found = measure.chosen(Question(about=about, shape={}, device="chip"), makers, clock, **own)
    print(about, found.chosen, dict(found.failed))
    return found
"""


def ended(program: str, times: int) -> tuple[list[int], str]:
    """Exit codes of a program that is run several times, and what it said the last time."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM + textwrap.dedent(program)]
    ran = [subprocess.run(command, env=environment, capture_output=True, text=True) for _ in range(times)]
    return [one.returncode for one in ran], ran[-1].stdout.strip()


def test_a_candidate_that_hangs_ends_the_process_and_is_not_tried_again() -> None:
    codes, said = ended(
        """
        calls = []
        def hang():
            calls.append(None)  # the first call hands over, and what hangs is to wait for it
            time.sleep(30 if len(calls) > 1 else 0)
        choose("op", {"good": lambda: lambda: None, "hangs": lambda: hang}, patience_s=0.3)
        """, 2,
    )  # fmt: skip
    assert codes == [measure.HUNG, 0]
    assert said == "op good {'hangs': 'a call was not over after 0.3 s'}"


def test_a_process_that_dies_in_a_choice_within_a_choice_condemns_the_innermost_only() -> None:
    codes, said = ended(
        """
        def kernel():
            choose("tile", {"good": lambda: lambda: None, "deadly": lambda: lambda: os._exit(7)})
        choose("op", {"kernel": lambda: kernel, "library": lambda: lambda: time.sleep(1e-2)})
        """, 3,
    )  # fmt: skip
    assert codes == [7, 7, 0]
    assert said.splitlines()[-1].startswith("op kernel {}")
    assert store.deaths() == store.DEATHS


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"question": 1, "answer": {}}', '{"answer": {"chosen": 3}}'])
def test_a_spoilt_file_is_measured_again(text: str) -> None:
    Bench(a=1e-3).chosen()
    (path,) = (file for file in store.folder().rglob("*.json"))
    whole = json.loads(path.read_text())
    path.write_text(text if text != "{}" else json.dumps({**whole, "answer": {"chosen": "a"}}))
    measure.forget()
    with pytest.warns(UserWarning, match="it is measured again") if text in ("", "{", "{}") else nullcontext():
        assert Bench(a=1e-3).chosen().origin == "measured"
    assert json.loads(path.read_text())["answer"]["chosen"] == "a"


def test_where_nothing_can_be_written_the_process_knows_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "file").write_text("")
    monkeypatch.setenv("PERWATT_CACHE", str(cache / "file"))
    bench = Bench(a=2e-3, b=1e-3)
    with pytest.warns(UserWarning, match="the choice cannot be kept"):
        assert bench.chosen().chosen == "b"
    measured = bench.calls.total()
    assert (bench.chosen().chosen, bench.calls.total()) == ("b", measured)


def test_shipped_answers_hold_for_the_very_same_question(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = cache / "shipped"
    shipped.mkdir()
    answer = Answer(chosen="b", seconds={"a": 2e-3, "b": 1e-3}, when="2026-01-01")
    entry = {"question": question().message(), "answer": answer.message()}
    (shipped / "op.chip.json").write_text(json.dumps([entry]))
    monkeypatch.setattr(store, "SHIPPED", shipped)
    store.shipped.cache_clear()
    try:
        bench = Bench(a=1e-3, b=2e-3)
        assert (bench.chosen().chosen, bench.chosen().origin, bench.calls.total()) == ("b", "shipped", 0)
        assert bench.chosen(question(device="another")).origin == "measured"
    finally:
        store.shipped.cache_clear()


def test_what_is_shipped_can_be_read() -> None:
    for text, answer in store.shipped().items():
        asked = Question(**json.loads(text))
        assert asked.device
        assert asked.versions
        assert answer.chosen in answer.seconds

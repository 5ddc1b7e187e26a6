"""Measuring a case on a device whose time is a script."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from fakes.clockwork import Clockwork, Scripted, ScriptedSession, case
from perwatt.backends.base import Timing
from perwatt.runner.part import Part
from perwatt.timing.ahead import first_call
from perwatt.timing.measure import Poisoned, measure
from perwatt.workloads.base import Accuracy
from perwatt_kernels.registry import Refusal


@pytest.fixture
def device() -> Clockwork:
    return Clockwork()


def noisy(mean: float, spread: float = 0.001, seed: int = 0) -> Callable[[int], float]:
    source = random.Random(seed)
    return lambda call: mean * (1 + spread * source.uniform(-1, 1))


def run(device: Clockwork, workload: Scripted, aa: bool = False, **fields: Any) -> tuple[dict[str, Part], list[Any]]:
    made, events = case(workload, **{"min_samples": 10, "target_ci": 0.01, "sample_time_s": 0.0, **fields}), []
    parts = measure(
        made, impls=made.impls, backend=device, seed=1, process=0, round=0, aa=aa, max_time_s=made.measure.max_time_s,
        report=events.append,
    )  # fmt: skip
    return {part.impl: part for part in parts}, events


def single(device: Clockwork, seconds: Callable[[int], float], **fields: Any) -> tuple[Part, ScriptedSession]:
    session = ScriptedSession(device, "a", seconds)
    parts, _ = run(device, Scripted({"a": lambda: session}, fields.pop("classes", None)), **fields)
    return parts["a"], session


def test_a_steady_body_is_measured_to_its_target(device: Clockwork) -> None:
    part, session = single(device, noisy(0.02))
    assert part.status == "ok"
    assert part.stop_reason is not None
    assert part.stop_reason.startswith("target")
    assert len(part.samples) == len(part.blocks) >= 10
    assert all(abs(s - 0.02) < 0.02 * 0.0011 for s in part.samples)
    assert session.closed


def test_short_iterations_are_batched_to_the_sample_time(device: Clockwork) -> None:
    part, _ = single(device, lambda call: 1e-4, sample_time_s=0.01)
    assert part.iters_per_sample in (100, 101)
    assert part.samples[0] == pytest.approx(1e-4)


def test_warm_up_goes_on_until_times_are_steady(device: Clockwork) -> None:
    part, _ = single(device, lambda call: 0.02 * (1 + 2 * 0.9**call))
    assert max(part.samples) < 0.02 * 1.1, "the first calls took three times as long"
    assert part.warmup_s is not None


def test_the_first_slow_call_of_a_graph_is_its_compile_time(device: Clockwork) -> None:
    times = {0: 5.0, 1: 1.5}
    part, _ = single(device, lambda call: times.get(call, 0.5), classes={"a": "graph"})
    assert part.compile_cold_s == pytest.approx(4.5)
    assert part.compile_warm_s == pytest.approx(1.0)
    assert device.forgotten == 1
    assert max(part.samples) == pytest.approx(0.5)


def test_what_was_found_on_the_disk_is_no_cold_compilation(device: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cold", lambda: False)
    part, _ = single(device, lambda call: {0: 5.0}.get(call, 0.5), classes={"a": "graph"})
    assert part.compile_cold_s is None
    assert part.compile_warm_s == pytest.approx(4.5)
    assert device.forgotten == 0


def test_what_a_device_is_known_to_be_slow_at_is_marked(device: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "doubts", lambda: ("slow_index",))
    part, _ = single(device, noisy(0.02))
    assert part.flags == ["slow_index"]


def test_eager_code_has_no_compile_time(device: Clockwork) -> None:
    part, _ = single(device, noisy(0.02))
    assert part.compile_cold_s is None
    assert device.forgotten == 0


def test_impls_take_turns_in_blocks_of_random_order(device: Clockwork) -> None:
    sessions = {n: ScriptedSession(device, n, noisy(0.02, 0.05, seed)) for seed, n in enumerate("abc")}
    parts, _ = run(device, Scripted({n: (lambda s=s: s) for n, s in sessions.items()}), target_ci=0.002)
    starts = [n for n, before in zip(device.log[1:], device.log, strict=False) if n != before and n in sessions]
    orders = {tuple(starts[i : i + 3]) for i in range(0, 60, 3)}
    assert len(orders) > 3, "the order changes from block to block"
    assert {len(set(part.blocks)) for part in parts.values()} != {1}


def test_the_gate_runs_before_warm_up_and_after_the_samples(device: Clockwork) -> None:
    single(device, noisy(0.02))
    log = device.log
    assert log.count("a check 0") == log.count("a check 1") == 1
    assert log.index("a check 0") <= 2
    assert log[-1] == "a check 1"


@pytest.mark.parametrize("generation", [0, 1])
@pytest.mark.parametrize("error", [3e-5, float("nan")])
def test_a_failed_gate_leaves_no_times(device: Clockwork, generation: int, error: float) -> None:
    session = ScriptedSession(device, "a", noisy(0.02))
    session.verdicts[generation] = Accuracy(rel_err=error, bound=1e-5)
    parts, _ = run(device, Scripted({"a": lambda: session}))
    assert parts["a"].status == "inaccurate"
    assert parts["a"].samples == []
    assert parts["a"].stop_reason is None
    assert "bound 1.00e-05" in parts["a"].error


def test_the_worse_of_two_checks_is_kept(device: Clockwork) -> None:
    part, _ = single(device, noisy(0.02))
    assert (part.rel_err, part.rel_err_bound) == (2e-7, 1e-5)


@pytest.mark.parametrize(("error", "status"), [(ValueError("no such\nthing"), "crashed"), (MemoryError("full"), "oom")])
@pytest.mark.parametrize("at", [0, 30])
def test_an_exception_costs_one_impl(device: Clockwork, error: Exception, status: str, at: int) -> None:
    def failing(call: int) -> float:
        if call >= at:
            raise error
        return 0.02 + 0.001 * (call % 7)

    sessions = {"bad": ScriptedSession(device, "bad", failing), "good": ScriptedSession(device, "good", noisy(0.02))}
    parts, _ = run(
        device, Scripted({n: (lambda s=s: s) for n, s in sessions.items()}), target_ci=0.0001, max_samples=200
    )
    assert parts["bad"].status == status
    assert parts["bad"].error == f"{type(error).__name__}: {' '.join(str(error).split())}"
    assert parts["bad"].samples == []
    assert parts["good"].status == "ok"
    assert sessions["bad"].closed


def test_a_compilation_inside_samples_is_counted(device: Clockwork) -> None:
    def recompiling(call: int) -> float:
        if device.watching:
            device.compilations = 1
        return 0.02

    part, _ = single(device, recompiling, min_samples=30, target_ci=0.5)
    assert part.guards["compilations"] == 1


def test_sampling_stops_when_time_runs_out(device: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perwatt.timing.measure.perf_counter", lambda: device.now)
    part, _ = single(device, noisy(0.1, 0.9), target_ci=0.0001, max_time_s=5.0)
    assert part.stop_reason is not None
    assert part.stop_reason.startswith("time")
    assert 5.0 <= sum(part.samples) <= 6.0


def test_a_difference_is_sampled_in_pairs_that_change_places(device: Clockwork) -> None:
    session = ScriptedSession(device, "whole", noisy(0.03))

    def part_body(slot: int) -> object:
        device.log.append("part")
        device.spend(0.01)
        return slot

    session.part = part_body
    parts, events = run(device, Scripted({"a": lambda: session}))
    part = parts["a"]
    assert part.method == "difference"
    assert len(part.minus) == len(part.samples)
    assert part.minus == pytest.approx([0.01] * len(part.samples))
    progress = [e for e in events if e["event"] == "progress"][-1]
    assert progress["median_s"] == pytest.approx(0.02, rel=0.01)
    sampled = device.log[device.log.index("watched") + 1 :]
    assert sampled[:8] == ["whole", "part", "part", "whole"] * 2


def test_a_bracketed_body_leaves_its_set_up_out(device: Clockwork) -> None:
    session = ScriptedSession(device, "a", noisy(0.02))
    session.bracketed = True
    session.before = lambda slot: device.spend(1.0)  # type: ignore[method-assign]
    parts, _ = run(device, Scripted({"a": lambda: session}))
    assert max(parts["a"].samples) < 0.03


def test_aa_times_the_case_against_itself(device: Clockwork) -> None:
    opened = []

    def open_() -> ScriptedSession:
        opened.append(ScriptedSession(device, "a", noisy(0.02, seed=len(opened))))
        return opened[-1]

    parts, _ = run(device, Scripted({"a": open_}), aa=True)
    assert len(opened) == 2
    assert len(parts["a"].twin) == len(parts["a"].samples)
    assert all(s.closed for s in opened)


def test_slots_rotate_and_their_results_are_kept(device: Clockwork) -> None:
    seen: list[int] = []
    session = ScriptedSession(device, "a", noisy(0.02), slots=3)
    original = session.run
    session.run = lambda slot: (seen.append(slot), original(slot))[1]  # type: ignore[method-assign]
    run(device, Scripted({"a": lambda: session}))
    assert seen[:7] == [0, 1, 2, 0, 1, 2, 0]


def test_reports_are_in_order_and_name_the_impl(device: Clockwork) -> None:
    session = ScriptedSession(device, "a", noisy(0.02))
    _, events = run(device, Scripted({"a": lambda: session}))
    phases = list(dict.fromkeys(e["phase"] for e in events if e["event"] == "phase"))
    assert phases == ["open", "compile", "gate", "warmup", "sample", "gate-after"]
    assert {e["impl"] for e in events} == {"a"}
    progress = [e for e in events if e["event"] == "progress"]
    assert progress[-1]["lo_s"] <= progress[-1]["median_s"] <= progress[-1]["hi_s"]


def test_samples_that_turn_out_short_are_taken_anew_in_larger_batches(device: Clockwork) -> None:
    sampled = []

    def settling(call: int) -> float:
        if device.watching:
            sampled.append(call)
        return 0.02 if len(sampled) < 3 else 1e-5

    part, _ = single(device, settling, sample_time_s=0.01)
    assert part.iters_per_sample >= 500
    assert max(part.samples) == pytest.approx(1e-5)
    assert len(part.samples) == len(part.blocks)


def test_every_side_is_run_once_before_samples(device: Clockwork) -> None:
    """A twin that compiles at its first call must not do so inside a sample."""
    opened = []

    def open_() -> ScriptedSession:
        opened.append(ScriptedSession(device, "a", lambda call: 5.0 if call == 0 else 0.02))
        return opened[-1]

    parts, _ = run(device, Scripted({"a": open_}), aa=True)
    assert max(parts["a"].twin) == pytest.approx(0.02)


def test_the_flags_of_a_session_are_in_the_part(device: Clockwork) -> None:
    session = ScriptedSession(device, "a", noisy(0.02))
    session.flags = ("gate_reduced",)
    parts, _ = run(device, Scripted({"a": lambda: session}))
    assert parts["a"].flags == ["gate_reduced"]


def test_health_memory_and_clock_are_in_the_part(device: Clockwork) -> None:
    part, _ = single(device, noisy(0.02))
    assert part.health["limiter"] == "none"
    assert part.peak_bytes == 123.0
    assert part.timing_method == "script"
    assert part.enqueue_s == pytest.approx(0.01, rel=0.01)


class Watched(Clockwork):
    """A device whose own clock sees a share of what the wall sees, and that counts what it is asked for."""

    def __init__(self, share: float = 1.0, enqueued: float = 0.5, busy: float | None = None) -> None:
        super().__init__()
        self.share, self.enqueued, self.busy, self.broken = share, enqueued, busy, False
        self.asked: list[str] = []

    def time(self, *arguments: Any) -> Timing:
        wall = super().time(*arguments).total_s
        return Timing(total_s=wall * self.share, enqueue_s=wall * self.enqueued, wall_s=wall)

    def busy_s(self, call: Callable[[], object]) -> float | None:
        self.asked.append("busy")
        return self.busy

    def prepare(self, precision: Any) -> None:
        self.asked.append(f"prepare {precision.name}")

    def release(self) -> None:
        self.asked.append("release")

    def poisoned(self, error: BaseException) -> bool:
        return self.broken


def test_a_clock_that_agrees_with_the_wall_within_a_hundredth_is_kept() -> None:
    part, _ = single(Watched(share=0.992), lambda call: 0.02)
    assert part.timing_method == "script"
    assert part.samples[0] == pytest.approx(0.02 * 0.992)


def test_a_clock_that_misses_work_gives_way_to_the_wall() -> None:
    part, _ = single(Watched(share=0.5), lambda call: 0.02)
    assert part.timing_method == "wall"
    assert part.samples == pytest.approx([0.02] * len(part.samples))


def test_the_wall_replaces_the_other_sides_of_a_pair_too() -> None:
    device = Watched(share=0.5)
    sessions = iter(ScriptedSession(device, name, lambda call: 0.02) for name in ("a", "its twin"))
    parts, _ = run(device, Scripted({"a": lambda: next(sessions)}), aa=True)
    assert parts["a"].twin == pytest.approx([0.02] * len(parts["a"].samples))


def test_the_device_is_asked_how_busy_it_was_only_where_the_host_took_the_time() -> None:
    device = Watched(enqueued=0.95, busy=0.019)
    assert single(device, lambda call: 0.02)[0].busy_s == 0.019
    assert device.asked.count("busy") == 1
    device = Watched(enqueued=0.5)
    assert single(device, lambda call: 0.02)[0].busy_s is None
    assert "busy" not in device.asked


def test_a_call_of_many_iterations_counts_as_so_many() -> None:
    """A graph holds as many as it takes to be long; that of the twin may hold another number."""
    device = Watched(enqueued=0.95, busy=0.04)

    def session(name: str, each: int) -> ScriptedSession:
        made = ScriptedSession(device, name, lambda call: 0.01 * each)
        made.each = each
        return made

    sessions = iter((session("a", 4), session("its twin", 2)))
    part = run(device, Scripted({"a": lambda: next(sessions)}), aa=True)[0]["a"]
    assert part.samples == pytest.approx([0.01] * len(part.samples))
    assert part.twin == pytest.approx(part.samples)
    assert part.iters_per_sample % 4 == 0
    assert (part.enqueue_s, part.busy_s) == (pytest.approx(0.0095), pytest.approx(0.01))


def test_the_device_is_prepared_for_the_policy_and_released_after_each_impl() -> None:
    device = Watched()
    run(device, Scripted({name: lambda: ScriptedSession(device, "s", lambda call: 0.02) for name in ("a", "b")}))
    assert device.asked[0] == "prepare fp32"
    assert device.asked.count("release") == 2


class Counted(Watched):
    """A device whose allocator counts: sessions hold what they say, and a call needs more for its while."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.peak = 0.0, 0.0

    def held_memory(self) -> float:
        return self.held

    def reset_peak_memory(self) -> None:
        self.peak = self.held

    def peak_memory(self) -> float:
        return self.peak


class Holding(ScriptedSession):
    """Holds memory while it is open, needs more in a call and most in the gate."""

    def __init__(self, device: Counted, holds: float, needs: float) -> None:
        super().__init__(device, "h", lambda call: 0.02)
        self.device, self.holds, self.needs = device, holds, needs
        device.held += holds

    def run(self, slot: int) -> object:
        self.device.peak = max(self.device.peak, self.device.held + self.needs)
        return super().run(slot)

    def check(self, generation: int) -> Accuracy:
        self.device.peak = max(self.device.peak, self.device.held + 999_999)
        return super().check(generation)

    def close(self) -> None:
        self.device.held -= self.holds
        super().close()


def test_the_peak_of_an_impl_is_its_own() -> None:
    """Neither what the others hold meanwhile, nor what the gate needs."""
    device = Counted()
    parts, _ = run(device, Scripted({"a": lambda: Holding(device, 10, 5), "b": lambda: Holding(device, 700, 300)}))
    assert {name: part.peak_bytes for name, part in parts.items()} == {"a": 15.0, "b": 1000.0}


def test_a_bracketed_body_is_profiled_without_what_comes_before() -> None:
    device = Watched(enqueued=1.0, busy=0.001)
    seen: list[str] = []
    device.busy_s = lambda call: (seen.append("profiled"), call(), seen.append("done"))[0]  # type: ignore[func-returns-value, method-assign]
    session = ScriptedSession(device, "a", lambda call: 0.02)
    session.bracketed = True
    session.before = lambda slot: seen.append("before")  # type: ignore[method-assign]
    device.time_bracketed = lambda before, run, count, first, ring: Timing(  # type: ignore[method-assign]
        total_s=0.02 * count, enqueue_s=0.02 * count
    )
    run(device, Scripted({"a": lambda: session}))
    assert seen == ["before", "profiled", "done"]


def test_of_a_difference_no_host_time_is_told() -> None:
    device = Watched(enqueued=0.99)
    session = ScriptedSession(device, "a", lambda call: 0.03)
    session.part = lambda slot: device.spend(0.01)
    part = run(device, Scripted({"a": lambda: session}))[0]["a"]
    assert (part.method, part.enqueue_s, part.busy_s) == ("difference", None, None)


def failing(error: Exception) -> Callable[[int], float]:
    def seconds(call: int) -> float:
        raise error

    return seconds


def test_what_cannot_be_done_here_is_unsupported() -> None:
    part, _ = single(Watched(), failing(NotImplementedError("no kernel\nfor this")))
    assert (part.status, part.error) == ("unsupported", "no kernel for this")


def test_a_kernel_that_was_built_does_not_refuse_any_more() -> None:
    """The dispatcher raises the same class for an operation that the device lacks."""
    error = NotImplementedError("Could not run 'perwatt::nki_matmul' with arguments from the 'neuron' backend")
    part, _ = single(Watched(), failing(error), classes={"a": "kernel"})
    assert (part.status, part.error) == ("crashed", f"NotImplementedError: {error}")

    def refuses() -> Any:
        raise NotImplementedError("no kernel for this")

    parts, _ = run(Watched(), Scripted({"a": refuses}, {"a": "kernel"}))
    assert (parts["a"].status, parts["a"].error) == ("unsupported", "no kernel for this")


def test_a_kernel_that_says_so_refuses_at_its_first_call_too() -> None:
    refusal = Refusal("this build has no backward")
    part, _ = single(Watched(), failing(refusal), classes={"a": "kernel"})
    assert (part.status, part.error) == ("unsupported", "this build has no backward")
    made = case(Scripted({"a": lambda: ScriptedSession(Clockwork(), "a", failing(refusal))}, {"a": "kernel"}))
    ahead = first_call(made, impl="a", seed=0, backend=Watched())
    assert (ahead.status, ahead.error) == ("unsupported", "this build has no backward")


def test_what_a_kernel_raises_ahead_of_a_run_is_a_fault_too() -> None:
    error = NotImplementedError("Could not run 'perwatt::nki_matmul' with arguments from the 'neuron' backend")
    for kind, status in (("kernel", "crashed"), ("eager", "unsupported")):
        made = case(Scripted({"a": lambda: ScriptedSession(Clockwork(), "a", failing(error))}, {"a": kind}))
        assert first_call(made, impl="a", seed=0, backend=Watched()).status == status


def test_whoever_runs_was_named_last() -> None:
    """Who was is to blame for a process that dies; one that goes on alone after the others stopped, too."""
    device, seen, named = Clockwork(), set[tuple[str, str]](), [""]

    class Seen(ScriptedSession):
        def run(self, slot: int) -> object:
            seen.add((self.name, named[-1]))
            return super().run(slot)

        def check(self, generation: int) -> Accuracy:
            seen.add((self.name, named[-1]))
            return super().check(generation)

    noisy_one = random.Random(1)
    sessions = {
        "quiet": lambda: Seen(device, "quiet", lambda call: 0.02),
        "noisy": lambda: Seen(device, "noisy", lambda call: 0.02 * noisy_one.uniform(0.5, 1.5)),
        "third": lambda: Seen(device, "third", lambda call: 0.03),
    }
    made = case(Scripted(sessions), min_samples=10, target_ci=0.02, sample_time_s=0.0)
    for seed in range(5):
        list(measure(
            made, impls=made.impls, backend=device, seed=seed, process=0, round=0, aa=False, max_time_s=5.0,
            report=lambda event: named.append(event["impl"]),
        ))  # fmt: skip
    assert seen == {(name, name) for name in sessions}


def test_a_fault_that_poisons_the_process_ends_it() -> None:
    device = Watched()
    assert single(device, failing(RuntimeError("a fault")))[0].status == "crashed"
    device.broken = True
    with pytest.raises(Poisoned, match="RuntimeError: a fault") as crashed:
        single(device, failing(RuntimeError("a fault")))
    assert crashed.value.status == "crashed"
    with pytest.raises(Poisoned, match="no graph can hold it") as refused:
        single(device, failing(NotImplementedError("no graph can hold it")))
    assert refused.value.status == "unsupported"

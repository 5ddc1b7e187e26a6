"""Implementations that follow from others: which there are, what they refuse, and graphs as strict as CUDA's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_map

from fakes.graphs import Graphs, Tape, storage, tensors
from perwatt import workloads
from perwatt.backends.base import Timing
from perwatt.backends.cpu import BACKEND
from perwatt.timing.body import Body
from perwatt.workloads import captured as captured_module
from perwatt.workloads.base import Impl
from perwatt.workloads.variants import AUTOTUNED, COMPILED, GRAPH, captured, plain
from support.sessions import case

OPERATIONS: dict[str, dict[str, Any]] = {
    "gemm": {"m": 96, "n": 80, "k": 64},
    "attention": {"batch": 2, "heads": 4, "kv_heads": 2, "seq": 96, "head_dim": 16},
    "rmsnorm": {"tokens": 300, "hidden": 96},
    "softmax": {"tokens": 300, "hidden": 96},
    "cross_entropy": {"tokens": 300, "vocab": 512},
    "lm_head_loss": {"tokens": 300, "hidden": 96, "vocab": 512},
    "rope": {"tokens": 300, "heads": 4, "head_dim": 32},
    "embedding": {"tokens": 300, "vocab": 128, "hidden": 96},
    "mlp": {"tokens": 300, "hidden": 96, "intermediate": 256},
    "grouped_gemm": {"groups": 3, "tokens": 300, "hidden": 96, "intermediate": 128},
    "transformer_layer": {"batch": 2, "seq": 48, "hidden": 64, "intermediate": 176, "heads": 4},
}
CAPTURED = [
    (name, impl) for name in OPERATIONS for impl, made in workloads.get(name).impls().items()
    if made.captured and workloads.get(name).impls()[plain(impl)].impl_class != "graph"  # no tape watches compilers
]  # fmt: skip


def opened(name: str, impl: str, backend: Graphs, cache: str = "hot", **fields: Any) -> Any:
    made = case(name, {**OPERATIONS[name], **fields.pop("params", {})}, measure={"cache": cache}, **fields)
    return made.workload.open(made, made.workload.impls()[impl], backend, 3)


def why_not(name: str, impl: str, backend: Any, **fields: Any) -> str:
    made = case(name, {**OPERATIONS.get(name, {}), **fields.pop("params", {})}, **fields)
    return made.workload.unsupported(made, made.workload.impls()[impl], backend) or ""


def built_in() -> list[Any]:
    return [w for w in workloads.available().values() if type(w).__module__.startswith("perwatt.workloads.")]


def test_every_implementation_of_an_operation_is_there_as_a_graph() -> None:
    for workload in built_in():
        impls = workload.impls()
        graphs = {name for name, impl in impls.items() if impl.captured}
        wanted = {name + GRAPH for name in impls if name not in graphs} if workload.name in OPERATIONS else set()
        assert graphs == wanted
        assert all(impls[name].impl_class == "graph" for name in graphs)
        assert all(name == impl.name for name, impl in impls.items())


def test_autotuning_is_there_wherever_the_compiler_is() -> None:
    for workload in built_in():
        assert (COMPILED in workload.impls()) == (COMPILED + AUTOTUNED in workload.impls())
    assert COMPILED + AUTOTUNED in workloads.get("train_step").impls()


def test_adding_to_what_is_complete_keeps_it_so() -> None:
    one, two = (Impl(name=name, impl_class="eager", build=lambda case, backend: None) for name in ("one", "two"))
    assert list(captured({**captured({"one": one}), "two": two})) == ["one", "two", "one+graph", "two+graph"]


@pytest.mark.parametrize("name", ["torch", "torch+graph"])
def test_plain_names_are_left_alone(name: str) -> None:
    assert plain(name) == "torch"
    assert plain(COMPILED + AUTOTUNED + GRAPH) == COMPILED
    assert plain("sdpa-cudnn") == "sdpa-cudnn"


PARAMS = {
    "train_step": {"model": "llama-tiny", "layers": 1, "batch": 1, "seq": 32},
    "optimizer_step": {"model": "llama-tiny", "layers": 1},
}


@pytest.mark.parametrize("name", ["gemm", "attention", "mlp", "transformer_layer", "train_step", "optimizer_step"])
@pytest.mark.parametrize("impl", [COMPILED, COMPILED + AUTOTUNED])
def test_the_compiler_is_asked_to_tune_or_not(name: str, impl: str) -> None:
    class Recording(Graphs):
        asked: list[bool]

        def compile(self, function: Callable[..., Any], *, autotune: bool = False) -> Callable[..., Any]:
            self.asked.append(autotune)
            return function

    backend = Recording()
    backend.asked = []
    made = case(name, OPERATIONS.get(name) or PARAMS[name])
    assert made.workload.unsupported(made, made.workload.impls()[impl], backend) is None
    made.workload.open(made, made.workload.impls()[impl], backend, 3).run(0)
    assert backend.asked
    assert set(backend.asked) == {impl != COMPILED}


def test_a_device_that_has_nothing_to_choose_or_capture_says_so() -> None:
    assert "choose" in why_not("gemm", "torch.compile-autotuned", BACKEND)
    assert "choose" in why_not("train_step", "torch.compile-autotuned", BACKEND, params=PARAMS["train_step"])
    assert "no graphs" in why_not("gemm", "torch+graph", BACKEND)
    assert "no graphs" in why_not("attention", "sdpa-cudnn+graph", BACKEND)


def test_what_no_graph_can_hold_says_so() -> None:
    assert why_not("gemm", "torch+graph", Graphs()) == ""
    assert why_not("gemm", "torch+graph", Graphs(), pass_="bwd") == "a graph holds a whole pass: use fwd or fwd+bwd"
    assert "use fwd+bwd" in why_not("gemm", "torch+graph", Graphs(), grad=True)
    assert "dropout" in why_not("attention", "sdpa+graph", Graphs(), params={"dropout": 0.5})
    assert "cuDNN" not in why_not("attention", "sdpa-cudnn+graph", Graphs())
    assert "CUDNN" in why_not("attention", "sdpa-cudnn+graph", Graphs())


def test_memory_of_a_variant_is_that_of_its_original() -> None:
    for name, impls in (("attention", ("torch", "sdpa")), ("lm_head_loss", ("torch", "chunked"))):
        for impl in impls:
            needed = {
                case(name, OPERATIONS[name], impl=[one]).workload.memory(case(name, OPERATIONS[name], impl=[one]))
                for one in (impl, impl + GRAPH)
            }
            assert len(needed) == 1


@pytest.mark.parametrize(("name", "impl"), CAPTURED)
@pytest.mark.parametrize("pass_", ["fwd", "fwd+bwd"])
def test_a_graph_passes_its_gate(name: str, impl: str, pass_: str) -> None:
    backend = Graphs()
    if why_not(name, impl, backend, precision="bf16", pass_=pass_):
        pytest.skip("the original cannot do it")
    session = opened(name, impl, backend, precision="bf16", pass_=pass_)
    before = session.check(0)
    first = session.run(0)
    after = session.check(1)
    assert before.ok, before
    assert after.ok, after
    assert backend.captures == 1
    assert backend.plays == 5, "two checks play twice each, to poison and to look"
    assert session.run(0) is first, "a graph gives the same tensors every time"


def test_a_documented_mask_is_made_without_the_host() -> None:
    session = opened("attention", "torch+graph", Graphs(), params={"varlen": [40, 55, 1]})
    assert session.check(0).ok
    assert session.check(1).ok


class Idle(Graphs):
    """Its graphs do nothing when they are played."""

    def replay(self, tape: Tape) -> None:
        pass


class Forgetful(Graphs):
    """Its graphs leave out the last operation."""

    def replay(self, tape: Tape) -> None:
        tape.steps = tape.steps[: len(tape.steps) - 1] if tape.steps else []
        tape.play()


class Elsewhere(Graphs):
    """Its graphs read copies of the operands, made when they are played first."""

    def replay(self, tape: Tape) -> None:
        if not hasattr(tape, "moved"):
            tape.moved = True  # type: ignore[attr-defined]
            outside = {storage(t) for _, args, _, _ in tape.steps for t in tensors(args)}
            outside -= {storage(t) for *_, found in tape.steps for t in tensors(found)}
            copies: dict[Any, torch.Tensor] = {}

            def moved(t: Any) -> Any:
                if not isinstance(t, torch.Tensor) or storage(t) not in outside:
                    return t
                return copies.setdefault((t.data_ptr(), t.shape, t.stride()), t.detach().clone())

            tape.steps = [(func, tree_map(moved, args), kwargs, found) for func, args, kwargs, found in tape.steps]
        tape.play()


@pytest.mark.parametrize("fault", [Idle, Forgetful, Elsewhere])
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("pass_", ["fwd", "fwd+bwd"])
def test_a_graph_that_does_something_else_fails(fault: type[Graphs], name: str, pass_: str) -> None:
    session = opened(name, "torch+graph", fault(), pass_=pass_)
    assert not (session.check(0).ok and session.check(1).ok)


def test_operands_bound_anew_are_not_seen() -> None:
    session = opened("gemm", "torch+graph", Graphs())
    assert session.check(0).ok
    session._sets[0] = [t.clone() for t in session._sets[0]]
    assert not session.check(1).ok


def test_a_graph_has_whole_turns_over_all_sets_of_operands() -> None:
    backend = Graphs()
    session = opened("gemm", "torch+graph", backend, cache="partial", params={"m": 512, "n": 512, "k": 512})
    held = len(session._sets)
    assert held > 2
    assert session.run(0) is session._body.results[0]
    assert (session.slots, backend.captures) == (1, 1)
    assert session.each % held == 0
    assert len({t.data_ptr() for t in session._body.results}) == held
    kept = session._body.results[1].clone()
    with torch.no_grad():
        session._sets[2][0].zero_()
    session.run(0)
    assert torch.equal(session._body.results[1], kept)
    assert not session._body.results[2].any()


class Timed(Graphs):
    """Every iteration takes so long."""

    def __init__(self, iteration_s: float) -> None:
        super().__init__()
        self.iteration_s = iteration_s

    def time(self, run: Any, iterations: int, first: int, ring: list[Any]) -> Timing:
        super().time(run, iterations, first, ring)
        return Timing(total_s=self.iteration_s * iterations, enqueue_s=0.0)


@pytest.mark.parametrize(("iteration_s", "each"), [(10e-6, 100), (0.3e-3, 4), (1.4e-3, 1), (1e-7, 1024)])
def test_a_graph_is_long_enough_for_what_lies_between_two_not_to_show(iteration_s: float, each: int) -> None:
    session = opened("gemm", "torch+graph", Timed(iteration_s))
    assert session.check(0).ok
    assert session.each == each
    body = Body(session, Timed(iteration_s))
    body.calibrate(iteration_s, 0.01)
    assert body.iterations % each == 0
    assert 0.0099 < body.iterations * iteration_s < 0.01 + iteration_s * each


def test_nothing_is_captured_before_the_first_call() -> None:
    backend = Graphs()
    session = opened("gemm", "torch+graph", backend)
    assert backend.captures == 0, "opening is not timed, and capturing is a part of what a first call costs"
    session.run(0)
    assert (backend.captures, backend.plays) == (1, 1)
    session.close()
    assert not hasattr(session, "_body"), "graphs keep the memory of all they touch"


def test_too_many_graphs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured_module, "MOST_CALLS", 3)
    with pytest.raises(NotImplementedError, match="at most 3 calls: use cache hot"):
        opened("gemm", "torch+graph", Graphs(), cache="cold")
    opened("gemm", "torch", Graphs(), cache="cold")


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("CUDA error: operation not permitted when stream\nis capturing"), NotImplementedError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), RuntimeError),
        (RuntimeError("DefaultCPUAllocator: can't allocate while capturing"), RuntimeError),
    ],
)
def test_only_what_cannot_be_captured_is_called_so(error: RuntimeError, raised: type[Exception]) -> None:
    class Refusing(Graphs):
        def capture(self, call: Callable[[], Any]) -> Callable[[], Any]:
            raise error

    session = opened("gemm", "torch+graph", Refusing())
    with pytest.raises(raised) as found:
        session.run(0)
    assert type(found.value) is raised
    assert "\n" not in str(found.value) or raised is RuntimeError


@pytest.mark.parametrize(
    ("first", "raised"),
    [
        (RuntimeError("CUDA error: operation not permitted when stream is capturing"), NotImplementedError),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), torch.OutOfMemoryError),
    ],
)
def test_what_spoilt_a_capture_is_told_and_not_that_its_end_failed(first: Exception, raised: type[Exception]) -> None:
    class Spoilt(Graphs):
        def capture(self, call: Callable[[], Any]) -> Callable[[], Any]:
            try:
                raise first
            finally:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

        def is_out_of_memory(self, error: BaseException) -> bool:
            return isinstance(error, torch.OutOfMemoryError)

    with pytest.raises(raised, match=str(first)):
        opened("gemm", "torch+graph", Spoilt()).run(0)

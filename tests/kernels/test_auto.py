"""``auto``: what it takes for a request, and what it says of it. The implementations here are made for the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from perwatt_kernels import automatic, registry
from perwatt_kernels.choices import measure, store
from perwatt_kernels.choices.answer import Answer
from perwatt_kernels.matmul.samples import samples
from perwatt_kernels.registry import Kernel, Request

PARAMS = {
    "m": 8, "n": 16, "k": 32, "batch": 1, "product": "fwd", "a_layout": None, "b_layout": None, "epilogue": "none",
}  # fmt: skip


class Clock:
    """Stands still but for what calls say that they take: machines that run tests are too busy to be timed."""

    now = 0.0

    @classmethod
    def seconds(cls, call: Callable[[], object], count: int) -> float:
        start = cls.now
        for _ in range(count):
            call()
            cls.now += 1e-6
        return cls.now - start


def request(**changes: Any) -> Request:
    fields: dict[str, Any] = {
        "device": "cpu", "compute": "fp32", "output": "fp32", "gradients": False, "params": PARAMS, "chip": "a chip",
        "compile": lambda function, **options: function, "time": Clock.seconds,
    }  # fmt: skip
    return Request(**{**fields, **changes})


def kernel(impl: str, function: Callable[..., Any], impl_class: str = "eager", **fields: Any) -> Kernel:
    return Kernel(operation="op", impl=impl, impl_class=impl_class, build=lambda request: function, **fields)


def after(delay_s: float, function: Callable[..., Tensor] = torch.matmul) -> Callable[..., Tensor]:
    def late(*operands: Tensor) -> Tensor:
        Clock.now += delay_s
        return function(*operands)

    return late


@pytest.fixture
def auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Kernel]]:
    """``auto`` among these implementations."""
    monkeypatch.setenv("PERWATT_CACHE", str(tmp_path))
    measure.forget()

    def among(*kernels: Kernel) -> Kernel:
        own = automatic.automatic("op", "own", "torch", samples)
        found = {one.impl: one for one in (*kernels, own)}
        monkeypatch.setattr(registry, "kernels", lambda operation: found)
        return own

    yield among
    measure.forget()


def test_the_fastest_that_is_right_is_taken_and_the_row_learns_why(auto: Callable[..., Kernel]) -> None:
    def wrong(a: Tensor, b: Tensor) -> Tensor:
        found = a @ b
        found[0] += 1
        return found

    def fails(a: Tensor, b: Tensor) -> Tensor:
        raise RuntimeError("no kernel image")

    def refuses(request: Request) -> str:
        return "it is Sunday"

    taken = auto(
        kernel("torch", after(4e-3)), kernel("own", after(1e-3), "kernel"), kernel("wrong", wrong),
        kernel("fails", fails), kernel("absent", torch.matmul, unsupported=refuses),
        kernel("elsewhere", torch.matmul, devices=("cuda",)), kernel("reference", torch.matmul),
        kernel("lifelike", torch.matmul, devices=("cuda",), emulated=lambda: True),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="is passed over"):
        found = taken.choose(request())
    assert (found.impl, found.impl_class, found.flags) == ("own", "kernel", ("auto_skipped",))
    assert found.why.startswith("own, fastest of 2 by ")
    assert "measured; failed: fails (RuntimeError: no kernel image), wrong (its result is " in found.why
    a, b = torch.randn(8, 32), torch.randn(32, 16)
    assert torch.equal(taken.build(request())(a, b), a @ b)
    measure.forget()
    assert ", kept; failed: fails" in taken.choose(request()).why  # a later process, which warns of nothing


def test_one_that_finds_no_memory_is_told_and_tried_again_another_time(auto: Callable[..., Kernel]) -> None:
    full = True

    def large(a: Tensor, b: Tensor) -> Tensor:
        if full:
            raise RuntimeError("CUDA out of memory")
        return a @ b

    taken = auto(kernel("torch", after(4e-3)), kernel("large", large))
    with pytest.warns(UserWarning, match="large is passed over"):
        found = taken.choose(request())
    assert (found.impl, found.flags) == ("torch", ("framework_path", "auto_skipped"))
    assert found.why.endswith("failed: large (RuntimeError: CUDA out of memory)")
    assert taken.choose(request()) == found
    measure.forget()
    alone = auto(kernel("torch", large))
    with pytest.warns(UserWarning, match="torch is passed over"), pytest.raises(MemoryError, match="CUDA out of mem"):
        alone.build(request())
    full = False
    taken = auto(kernel("torch", after(4e-3)), kernel("large", large))
    assert taken.choose(request()).impl == "large"


@pytest.mark.parametrize("operation", ["matmul", "linear", "attention"])
def test_an_answer_depends_on_perwatts_own_kernels(operation: str) -> None:
    versions = automatic.question_of(operation, request()).versions
    assert {"torch", "perwatt_kernels"} <= versions.keys()


@pytest.mark.parametrize("spoil", ["result", "gradient"])
def test_a_fast_one_with_wrong_gradients_is_passed_over(auto: Callable[..., Kernel], spoil: str) -> None:
    class Spoilt(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
            ctx.save_for_backward(a, b)
            return a @ b * (2 if spoil == "result" else 1)

        @staticmethod
        def backward(ctx: Any, *flowing: Any) -> Any:
            a, b = ctx.saved_tensors
            return flowing[0] @ b.T, (a.T @ flowing[0]) * (float("nan") if spoil == "gradient" else 1)

    taken = auto(kernel("torch", after(3e-3)), kernel("spoilt", Spoilt.apply, "kernel"))
    with pytest.warns(UserWarning, match="spoilt is passed over: its result is"):
        found = taken.choose(request(gradients=True))
    assert (found.impl, found.flags) == ("torch", ("framework_path", "auto_skipped"))
    if spoil == "gradient":
        assert taken.choose(request()).impl == "spoilt"  # without gradients nothing is wrong with it


def test_what_would_take_most_of_the_memory_is_not_tried(auto: Callable[..., Kernel]) -> None:
    def never(*operands: Tensor) -> Tensor:
        raise AssertionError("it was called")

    taken = auto(kernel("torch", torch.matmul), kernel("large", never, extra_bytes=lambda request: 51.0))
    found = taken.choose(request(memory_bytes=100.0))
    assert (found.impl, found.why, found.flags) == ("torch", "torch, the only one that works here", ("framework_path",))


def test_kernels_of_the_compilers_choice_are_candidates_where_it_has_some(auto: Callable[..., Kernel]) -> None:
    asked: list[dict[str, bool]] = []

    def compile(function: Callable[..., Any], **options: bool) -> Callable[..., Any]:
        asked.append(options)
        return after(0 if options else 2e-3)

    compiled = Kernel(
        operation="op", impl="torch.compile", impl_class="graph", build=lambda request: request.compile(torch.matmul)
    )
    taken = auto(kernel("torch", after(4e-3)), compiled)
    assert taken.choose(request(compile=compile)).impl == "torch.compile"
    assert asked == [{}]
    found = taken.choose(request(compile=compile, tunable=True))
    assert (found.impl, found.impl_class) == ("torch.compile-autotuned", "graph")
    assert taken.build(request(compile=compile, tunable=True)) is not None
    assert asked[1:] == [{}, {"autotune": True}, {"autotune": True}]


def test_where_nothing_is_measured_the_rule_is_named_and_what_was_kept_decides(auto: Callable[..., Kernel]) -> None:
    own, framework = kernel("own", torch.matmul, "kernel"), kernel("torch", torch.matmul)
    asked = request(time=None)
    found = auto(own, framework).choose(asked)
    assert (found.impl, found.why, found.flags) == ("own", "own, by rule", ("unmeasured_choice",))
    refusing = kernel("own", torch.matmul, "kernel", formats=("bf16",))
    taken = auto(refusing, framework)
    found = taken.choose(asked)
    assert (found.impl, found.why) == ("torch", "torch, as own refuses: own takes bf16, not fp32")
    assert found.flags == ("framework_path", "unmeasured_choice")
    taken = auto(own, framework)
    store.keep(automatic.question_of("op", asked), Answer(chosen="torch", seconds={"torch": 1.0, "own": 2.0}))
    assert taken.choose(asked).why == "torch, fastest of 2 by 2.00, kept"


def test_where_there_is_none_the_frameworks_reason_is_the_reason(auto: Callable[..., Kernel]) -> None:
    taken = auto(kernel("torch", torch.matmul, formats=("bf16",)))
    assert taken.refusal(request()) == "torch takes bf16, not fp32"


@pytest.mark.parametrize(
    ("declared", "asked", "reason"),
    [
        ({"devices": ("cuda", "neuron")}, {}, "own runs on cuda or neuron, not on cpu"),
        ({"formats": ("bf16", "fp16")}, {}, "own takes bf16, fp16, not fp32"),
        ({"gradients": False}, {"gradients": True}, "own gives no gradients: use pass fwd"),
        ({"since": (8, 0)}, {"device": "cuda", "capability": (7, 5)},
         "own needs compute capability 8.0, a chip has 7.5"),
        ({"until": (10, 0)}, {"device": "cuda", "capability": (10, 0)},
         "own needs a compute capability below 10.0, a chip has 10.0"),
        ({"module": "no_such_module", "install": "pip install it"}, {}, "own needs no_such_module: pip install it"),
        ({"module": "no_such.module"}, {}, "own needs no_such.module"),
        ({"devices": ("cpu",), "formats": ("fp32",), "module": "torch", "since": (9, 0)}, {}, None),
    ],
)  # fmt: skip
def test_what_a_kernel_declares_is_a_reason_to_refuse(
    declared: dict[str, Any], asked: dict[str, Any], reason: str | None
) -> None:
    assert kernel("own", torch.matmul, **declared).refusal(request(**asked)) == reason

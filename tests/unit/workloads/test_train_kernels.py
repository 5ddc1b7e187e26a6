"""train_step with kernels by name: which are taken, what the row says of them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes.families import FAMILIES
from perwatt.backends.cpu import BACKEND
from perwatt.errors import InputError
from perwatt.spec import suite
from perwatt.timing.measure import outcome
from perwatt_kernels.registry import Chosen, Kernel, Request
from support.planted import registered
from support.training import INLINE, WORKLOAD, case, session

pytestmark = pytest.mark.usefixtures("one_thread")
WINDOWS = INLINE | {"window": 5, "window_every": 2, "layers": 3}


class Counting:
    """A kernel of each operation that counts its calls, by what it was asked for."""

    def __init__(self, **declared: Any) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.calls = 0
        self._declared = declared

    def kernels(self, *operations: str) -> tuple[Kernel, ...]:
        return tuple(
            Kernel(operation=name, impl="counting", impl_class="kernel", build=self._build(name), **self._declared)
            for name in operations
        )

    def _build(self, operation: str) -> Callable[[Request], Callable[..., Tensor]]:
        def build(request: Request) -> Callable[..., Tensor]:
            self.asked.append((operation, dict(request.params)))

            def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                self.calls += 1
                window, scale = request.params["window"], request.params["scale"]
                near = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril().triu(1 - window) if window else None
                return torch.nn.functional.scaled_dot_product_attention(
                    q, k, v, attn_mask=near, is_causal=not window, scale=scale, enable_gqa=True
                )

            def linear(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
                self.calls += 1
                return torch.nn.functional.linear(x, w, bias)

            return {"attention": attention, "linear": linear}[operation]

        return build


def refusal(impl: str, params: dict[str, Any] | None = None, precision: str = "bf16_master") -> str:
    made = case(params, precision=precision)
    return WORKLOAD.impls()[impl].unsupported(made, BACKEND) or ""


@pytest.mark.parametrize("model", [INLINE, WINDOWS, FAMILIES["gpt2"]], ids=["grouped", "windows", "biases"])
def test_every_layer_calls_the_kernels_that_are_named(model: dict[str, Any]) -> None:
    counting = Counting()
    with registered(*counting.kernels("attention", "linear")):
        opened = session({"model": model}, impl="torch+counting", precision="bf16_master")
        shape = opened._trainer.params.shape
        counting.calls = 0
        opened.run(0)
        assert counting.calls == 5 * shape.layers
        found = opened.check(0)
        assert found.ok, found
        assert opened.path().endswith("attention:counting linear:counting")
    asked = [params for operation, params in counting.asked if operation == "attention"]
    assert {params["head_dim"] for params in asked} == {shape.head_dim, max(shape.head_dim, 16)}  # the twin's as well
    extents = {(one["m"], one["n"], one["k"]) for operation, one in counting.asked if operation == "linear"}
    assert (32, shape.hidden, shape.intermediate) in extents


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "bf16_master"])
def test_a_step_is_that_of_the_framework_in_every_policy(precision: str) -> None:
    params = {"optimizer": "sgd"} if precision == "fp16" else {}
    plain, named = (session(params, impl=impl, precision=precision) for impl in ("torch", "torch+sdpa-math+chunked"))
    assert float(named.run(0)) == pytest.approx(float(plain.run(0)), rel=1e-3)
    found = named.check(0)
    assert found.ok, found


def test_the_later_of_two_names_of_an_operation_has_it() -> None:
    impls = WORKLOAD.impls()
    plan = impls.plan("torch.compile+auto+sdpa-math+chunked")
    assert plan is not None
    assert {name: kernel.impl for name, kernel in plan.kernels.items()} == {"attention": "sdpa-math", "linear": "auto"}
    assert plan.chunked
    assert impls["torch.compile+auto+sdpa-math+chunked"].impl_class == "graph"
    assert "torch+auto" in list(impls)
    assert len(list(impls)) == len(impls)


@pytest.mark.parametrize(
    ("impl", "meant"),
    [
        ("torch.compile+auto+chunkd", "torch.compile+auto+chunked"),
        ("torch+sdpa-cudn", "torch+sdpa-cudnn"),
        ("torch.compil", "torch.compile"),
        ("torch+chunked+sdpa-flas", "torch+chunked+sdpa-flash"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_nearest(impl: str, meant: str) -> None:
    with pytest.raises(InputError, match=rf"did you mean '{meant}'".replace("+", r"\+")):
        case(impl=[impl])


@pytest.mark.parametrize(
    "impl",
    ["torch+", "torch+reference", "torch+torch", "torch+sdpa-flash+sdpa-math", "torch+chunked+chunked", "chunked", "+"],
)
def test_names_that_nothing_takes_are_refused(impl: str) -> None:
    with pytest.raises(InputError, match="expected"):
        case(impl=[impl])


def test_suites_take_such_names_as_defaults(tmp_path: Any) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "suite: s\ndefaults: {impl: [torch, torch.compile+auto+chunked]}\ncases:\n"
        "  - {workload: train_step, params: {model: llama-tiny, batch: 1, seq: 8}}\n"
        "  - {workload: gemm, params: {m: 8, n: 8, k: 8}}\n"
    )
    assert [made.impls for made in suite.load(str(file)).cases] == [("torch", "torch.compile+auto+chunked"), ("torch",)]


@pytest.mark.parametrize(
    ("impl", "params", "precision", "reason"),
    [
        ("torch+sdpa-cudnn", {}, "bf16_master", "has no CUDNN_ATTENTION backend on cpu"),
        ("torch+dequantize", {}, "bf16_master", "operands in bf16 have no scales"),
        ("torch+sdpa", {"model": INLINE | {"attention_softcap": 5.0}}, "bf16", "sdpa attends without soft caps"),
        ("torch+sdpa", {"model": FAMILIES["mpt"]}, "bf16", "sdpa attends without ALiBi"),
        ("torch+sdpa", {}, "bf16_autocast", "kernels by name need casts that the model writes out"),
        ("torch+chunked", {"model": INLINE | {"logit_softcap": 5.0}}, "bf16", "soft caps of logits is not there yet"),
        ("torch+chunked", {"model": INLINE | {"head_bias": True}}, "bf16", "a bias of the output projection is not"),
        ("torch+chunked", {"logits": "bf16"}, "fp32", "its logits in the format of products, fp32, not bf16"),
    ],
)
def test_what_a_kernel_refuses_the_row_refuses(impl: str, params: dict[str, Any], precision: str, reason: str) -> None:
    assert reason in refusal(impl, params, precision)
    if "model" not in params and precision != "fp32":
        assert refusal("torch", params, precision) == ""


def test_what_a_kernel_refuses_at_its_first_call_is_unsupported() -> None:
    def build(request: Request) -> Callable[..., Tensor]:
        def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            raise NotImplementedError("no plan for this")

        return attention

    kernel = Kernel(operation="attention", impl="late", impl_class="kernel", build=build)
    for impl in ("torch+late", "torch.compile+late"):
        with registered(kernel), pytest.raises(NotImplementedError, match="no plan for this") as raised:
            session(impl=impl, precision="bf16")
        assert outcome(raised.value, BACKEND)[0] == "unsupported"


def test_choices_of_all_layers_are_told_and_the_twin_takes_them() -> None:
    counting, asked = Counting(), []

    def choose(request: Request) -> Chosen:
        asked.append(request.params)
        name = "counting" if request.params["n"] == INLINE["hidden"] else "torch"
        return Chosen(impl=name, impl_class="kernel", why=f"{name}, by a test", flags=("unmeasured_choice",))

    picky = Kernel(operation="linear", impl="picky", impl_class="kernel", build=lambda r: None, choose=choose)  # type: ignore[arg-type, return-value]
    with registered(picky, *counting.kernels("linear")):
        made = case(precision="bf16_master")
        impl = WORKLOAD.impls()["torch+picky"]
        chosen = impl.chosen(made, BACKEND)
        assert chosen is not None
        assert (chosen.impl, chosen.impl_class, chosen.flags) == ("torch+counting", "eager", ("unmeasured_choice",))
        assert "linear qkv: torch, by a test; linear o: counting, by a test; linear up: torch" in chosen.why
        opened = session(impl="torch+picky", precision="bf16_master")
        assert opened.check(0).ok
        assert opened.path().endswith("linear:torch,counting")
    assert {params["m"] for params in asked} == {32}  # nothing is chosen anew for the twin
    assert sum(params["n"] == 64 for _, params in counting.asked) >= 2

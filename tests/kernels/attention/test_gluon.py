"""Attention in Gluon, in an emulator of the device: values, order of events, odd operands, planted mistakes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd

pytest.importorskip("triton.experimental.gluon")
from fakes.gluon import Deadlock, Hazard, emulated
from perwatt.accuracy import attention as gate
from perwatt_kernels import registry
from perwatt_kernels.attention.gluon_tiles import Tile
from perwatt_kernels.attention.mask import full
from perwatt_kernels.dtypes import dtype

pytestmark = pytest.mark.usefixtures("one_thread")
FLOOR = {"bf16": 1e-3, "fp16": 1.2e-4}  # half a unit in the last place
PLAIN, WITH_TURNS = Tile(columns=128, stages=2), Tile(columns=128, stages=2, turns=True)
SMALL = {
    "batch": 1, "heads": 2, "kv_heads": 1, "q_len": 150, "kv_len": 150, "head_dim": 64, "causal": True, "window": 0,
    "varlen": None, "scale": 0.2, "dropout": 0.0, "layout": "bshd",
}  # fmt: skip


def request(**changes: Any) -> registry.Request:
    compute = changes.pop("compute", "bf16")
    fields = {"device": "cuda", "capability": (9, 0), "chip": "H100", "compute": compute, "output": compute,
              "gradients": True}  # fmt: skip
    own = {name: changes.pop(name) for name in list(changes) if name in fields}
    assert not changes.keys() - SMALL
    return registry.Request(**{**fields, **own}, params={**SMALL, **changes}, compile=lambda function: function)


def operands(asked: registry.Request) -> list[Tensor]:
    """Fresh queries, keys and values."""
    p, form = asked.params, dtype(asked.compute)

    def made(heads: int, length: int) -> Tensor:
        if p["layout"] == "bhsd":
            return torch.randn(p["batch"], heads, length, p["head_dim"]).to(form)
        return torch.randn(p["batch"], length, heads, p["head_dim"]).to(form).transpose(1, 2)

    keys = [made(p["kv_heads"], p["kv_len"]) for _ in range(2)]
    return [made(p["heads"], p["q_len"]), *keys]


def scores(asked: registry.Request, q: Tensor, k: Tensor) -> Tensor:
    seen = full(q.shape[2], k.shape[2], asked.params, q.device)
    wide = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    return (q @ wide.mT * asked.params["scale"]).masked_fill(~seen, -torch.inf)


def attended(asked: registry.Request, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores(asked, q, k), -1) @ v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)


def gradients(attend: Callable[..., Tensor], given: list[Tensor], incoming: Tensor) -> tuple[Tensor, ...]:
    leaves = [one.detach().requires_grad_() for one in given]
    result = attend(*leaves)
    return torch.autograd.grad(result, leaves, incoming.to(result))


def off(found: Tensor, true: Tensor) -> float:
    return float((found.double() - true).norm() / true.norm().clamp_min(1.0))


def run(
    asked: registry.Request, given: list[Tensor], tile: Tile = PLAIN, seed: int = 0, lateness: float | None = None,
    version: str = "3.9", plant: Callable[[ModuleType], None] = lambda kernel: None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Result and log-sum-exp; what the kernel does not write is NaN."""
    with emulated(seed=seed, lateness=lateness, version=version), pytest.MonkeyPatch.context() as patch:
        ops = importlib.import_module("perwatt_kernels.attention.gluon_ops")
        patch.setattr(ops.gluon_launch.tiles, "forward", lambda width: (tile,))
        plant(importlib.import_module("perwatt_kernels.attention.gluon_forward"))
        torch.use_deterministic_algorithms(True)  # fills what is allocated
        try:
            return ops.attention(*given, asked.params["causal"], asked.params["scale"])
        finally:
            torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("changes", "tile", "how"),
    [
        ({}, PLAIN, {"seed": 1, "lateness": 1.0}),
        ({"q_len": 257, "kv_len": 257}, WITH_TURNS, {"seed": 2, "version": "3.6"}),
        ({"causal": False, "kv_len": 300, "batch": 2}, PLAIN, {"seed": 3, "version": "3.6", "lateness": 1.0}),
        ({"causal": False, "q_len": 1, "kv_len": 256, "compute": "fp16"}, WITH_TURNS, {"seed": 4, "lateness": 0.0}),
        ({"q_len": 300, "kv_len": 60, "layout": "bhsd"}, PLAIN, {"seed": 5, "version": "3.6", "lateness": 0.5}),
        ({"q_len": 70, "kv_len": 500, "heads": 4, "kv_heads": 2}, WITH_TURNS, {"seed": 6, "lateness": 1.0}),
        ({"head_dim": 128, "heads": 1}, Tile(columns=128, stages=3, turns=True), {"seed": 7}),
        ({"head_dim": 80, "heads": 1}, Tile(columns=64, stages=4, resident=False), {"seed": 8, "lateness": 1.0}),
        ({"head_dim": 256, "heads": 1}, Tile(columns=64, stages=2, turns=True), {"seed": 9, "version": "3.6"}),
        ({"q_len": 1, "kv_len": 1}, PLAIN, {"seed": 10}),
        ({"head_dim": 8, "q_len": 20, "kv_len": 20, "compute": "fp16"}, PLAIN, {"seed": 11}),
    ],
    ids=str,
)  # fmt: skip
def test_errors_are_at_most_twice_the_frameworks(changes: dict[str, Any], tile: Tile, how: dict[str, Any]) -> None:
    asked = request(**changes)
    given = operands(asked)
    wide = [one.double() for one in given]
    found, lse = run(asked, given, tile, **how)
    true = attended(asked, *wide)
    assert off(found, true) <= 2 * max(off(attended(asked, *given), true), FLOOR[asked.compute])
    torch.testing.assert_close(lse.double(), scores(asked, *wide[:2]).logsumexp(-1), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("triton_interpreter")  # for the sums that the backward begins with
@pytest.mark.parametrize("causal", [True, False])
def test_gradients_flow(causal: bool) -> None:
    asked = request(q_len=90, kv_len=90, heads=4, kv_heads=2, causal=causal)
    given = operands(asked)
    incoming = torch.randn_like(given[0])
    true = gradients(partial(attended, asked), [one.double() for one in given], incoming)
    framework = gradients(partial(attended, asked), given, incoming)
    with emulated(seed=5):
        found = gradients(registry.kernels("attention")["gluon"].build(asked), given, incoming)
    for one, other, exact in zip(found, framework, true, strict=True):
        assert off(one, exact) <= 2 * max(off(other, exact), FLOOR["bf16"])


@pytest.mark.parametrize("tile", [PLAIN, WITH_TURNS], ids=lambda tile: tile.name)
def test_no_order_of_events_changes_a_bit(tile: Tile) -> None:
    asked = request(q_len=290, kv_len=290)
    given = operands(asked)
    first = run(asked, given, tile, seed=100, lateness=1.0)
    for seed in range(6):
        for one, other in zip(run(asked, given, tile, seed=seed, lateness=seed / 5), first, strict=True):
            assert torch.equal(one, other)


def without(name: str) -> Callable[[ModuleType], None]:
    """The kernel with a call left out."""
    return lambda kernel: setattr(kernel, name, lambda *args, **kwargs: None)


def too_early(kernel: ModuleType) -> None:
    """Keys are given back while a product may still read them."""
    wait = kernel.warpgroup_mma_wait
    kernel.warpgroup_mma_wait = lambda count, deps: wait(2 if count == 1 else count, deps=deps)


@pytest.mark.parametrize(
    "plant", [without("fence_async_shared"), without("_free"), too_early],
    ids=["no fence", "nothing is freed", "no wait"],
)  # fmt: skip
def test_a_planted_mistake_is_caught(plant: Callable[[ModuleType], None]) -> None:
    asked = request(q_len=400, kv_len=400)
    given = operands(asked)
    with pytest.raises((Hazard, Deadlock)):
        run(asked, given, seed=1, lateness=1.0, plant=plant)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_finite_passes_through_as_in_torch(value: float, which: int) -> None:
    asked = request(q_len=140, kv_len=140)
    given = [one.clone() for one in operands(asked)]
    given[which][0, 0, 3 if which < 2 else 0, 5] = value
    found, _ = run(asked, given)
    torch.testing.assert_close(found, attended(asked, *given), rtol=3e-2, atol=3e-2, equal_nan=True)


@pytest.mark.parametrize("empty", ["batch", "q_len", "kv_len"])
def test_nothing_in_gives_nothing_out(empty: str) -> None:
    asked = request(**{empty: 0}, causal=False)
    given = operands(asked)
    found, lse = run(asked, given)
    assert found.shape == given[0].shape
    assert lse.shape == found.shape[:3]
    assert not found.count_nonzero()
    assert bool((lse == -torch.inf).all())


@pytest.mark.usefixtures("triton_interpreter")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("which", range(4), ids=["q", "k", "v", "incoming"])
def test_what_is_not_finite_passes_through_gradients_as_in_torch(value: float, which: int) -> None:
    asked = request(q_len=70, kv_len=70, causal=False)
    given = [one.clone() for one in operands(asked)]
    given.append(torch.randn_like(given[0]))
    given[which][0, 0, 3, 5] = value
    *given, incoming = given
    framework = gradients(partial(attended, asked), given, incoming)
    with emulated(seed=3):
        found = gradients(registry.kernels("attention")["gluon"].build(asked), given, incoming)
    assert any(not one.isfinite().all() for one in framework)
    for one, other in zip(found, framework, strict=True):
        if which == 3:  # by delta from the result, infinities are left where torch's sum of both signs is NaN
            finite = other.isfinite()
            assert torch.equal(one.isfinite(), finite)
            one, other = one[finite], other[finite]
        torch.testing.assert_close(one, other, rtol=3e-2, atol=3e-2, equal_nan=True)


@pytest.mark.parametrize("empty", ["batch", "q_len", "kv_len"])
def test_gradients_of_nothing_are_zero(empty: str) -> None:
    asked = request(**{empty: 0}, causal=False)
    given = operands(asked)
    with emulated():
        found = gradients(registry.kernels("attention")["gluon"].build(asked), given, torch.randn_like(given[0]))
    for one, like in zip(found, given, strict=True):
        assert one.shape == like.shape
        assert not one.count_nonzero()


@pytest.mark.usefixtures("triton_interpreter")
@pytest.mark.parametrize("wrong", ["scale", "lse", "keys", "nothing"])
def test_a_planted_wrong_kernel_is_caught_by_the_gate(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = request(q_len=140, kv_len=140)
    leaves = [one.requires_grad_() for one in operands(asked)]
    incoming = torch.randn_like(leaves[0])
    with emulated(seed=4):
        ops = importlib.import_module("perwatt_kernels.attention.gluon_ops")
        forward, backward = ops.gluon_launch.forward, ops.gluon_backward_launch.backward

        def planted_forward(work: Any, out: Tensor, lse: Tensor) -> None:
            forward(replace(work, scale=1.1 * work.scale) if wrong == "scale" else work, out, lse)
            lse += 0.1 * (wrong == "lse")

        def planted_backward(work: Any, out: Tensor, lse: Tensor, d_out: Tensor, *found: Tensor) -> None:
            backward(work, out, lse, d_out, *found)
            if wrong == "keys":  # of the last tile
                found[1][:, :, 128:] = 0

        monkeypatch.setattr(ops.gluon_launch, "forward", planted_forward)
        monkeypatch.setattr(ops.gluon_backward_launch, "backward", planted_backward)
        result = registry.kernels("attention")["gluon"].build(asked)(*leaves)
        found = torch.autograd.grad(result, leaves, incoming, retain_graph=True)
        passed = gate.check([one.detach() for one in leaves], incoming, result, found, asked.params, "bf16")
    assert passed.ok == (wrong == "nothing"), passed


def test_operands_that_no_descriptor_describes_are_refused() -> None:
    asked = request()
    q, k, v = operands(asked)
    with pytest.raises(registry.Refusal, match=r"v: found strides .*; triton takes any"):
        run(asked, [q, k, v.mT.contiguous().mT])
    shifted = torch.randn(q.numel() + 1).bfloat16()[1:].view(q.shape)
    with pytest.raises(registry.Refusal, match=r"q: found strides .* at 2 bytes beyond"):
        run(asked, [shifted, k, v])


def test_an_argument_that_does_not_fit_is_named() -> None:
    asked = request()
    q, k, v = operands(asked)
    with pytest.raises(ValueError, match="q: found float32, expected bfloat16 or float16"):
        run(asked, [one.float() for one in (q, k, v)])
    with pytest.raises(ValueError, match=r"v: found shape \[1, 1, 149, 64\], expected \[1, 1, 150, 64\]"):
        run(asked, [q, k, v[:, :, 1:]])


def test_registrations_agree_with_the_operation() -> None:
    with emulated():
        ops = importlib.import_module("perwatt_kernels.attention.gluon_ops")
        given = operands(request(q_len=20, kv_len=20))
        checks = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(ops.gluon_attention_forward, (*given, True, 0.25), test_utils=checks)


@pytest.mark.usefixtures("triton_interpreter")
def test_a_graph_keeps_both_operations_whole() -> None:
    asked, seen = request(q_len=20, kv_len=20), []
    leaves = [one.requires_grad_() for one in operands(asked)]

    def look(graph: Any, inputs: Any) -> Any:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    with emulated():
        attend = registry.kernels("attention")["gluon"].build(asked)
        torch._dynamo.reset()
        compiled = torch.compile(attend, backend=aot_autograd(fw_compiler=look, bw_compiler=look), fullgraph=True)
        result = compiled(*leaves)
        assert torch.equal(result, attend(*leaves))
        torch.autograd.grad(result.sum(), leaves)
        torch._dynamo.reset()
    ours = [name for name in seen if name.startswith("perwatt.")]
    assert ours == ["perwatt.gluon_attention_forward.default", "perwatt.gluon_attention_backward.default"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dropout": 0.1, "gradients": False}, "found dropout 0.1, expected 0: the kernel draws no numbers"),
        ({"window": 64}, "found a window of 64, expected none: triton has windows"),
        ({"varlen": (50, 100)}, "found packed documents, expected one a sequence: triton has tables of documents"),
        ({"head_dim": 192}, "found head_dim 192, expected with gradients a multiple of 8 up to 128"),
        ({"head_dim": 36, "gradients": False}, "found head_dim 36, expected a multiple of 8 up to 256"),
        ({"compute": "fp32"}, "gluon takes bf16, fp16, not fp32"),
        ({"output": "fp32"}, "found fp32 output, expected that of the operands, bf16"),
        ({"device": "cpu"}, "gluon runs on cuda, not on cpu"),
        ({"capability": (8, 0), "chip": "A100"}, "gluon needs compute capability 9.0, A100 has 8.0"),
    ],
)
def test_what_it_does_not_take_is_refused_beforehand(changes: dict[str, Any], reason: str) -> None:
    assert reason in (registry.kernels("attention")["gluon"].refusal(request(**changes)) or "")

"""Attention in Triton, in its interpreter: accuracy, gradients, odd operands, graphs, refusals, planted mistakes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd

from perwatt.accuracy import attention as gate
from perwatt_kernels import registry
from perwatt_kernels.attention.mask import full
from perwatt_kernels.attention.triton_tiles import Tile
from perwatt_kernels.dtypes import dtype

pytestmark = [
    pytest.mark.usefixtures("triton_interpreter", "one_thread"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton"),  # NumPy's, of what is not finite
]
FLOOR = {"fp32": 1e-7, "bf16": 1e-3, "fp16": 1.2e-4}  # half a unit in the last place


def tile(rows: int, columns: int, **how: Any) -> Tile:
    return Tile(rows=rows, columns=columns, warps=4, stages=1, **how)


@pytest.fixture(autouse=True)
def _poisoned() -> Iterator[None]:
    """What is allocated and not written is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[Tile], None]:
    """Has all kernels use a tile."""
    launch = importlib.import_module("perwatt_kernels.attention.triton_launch")
    return lambda chosen: monkeypatch.setattr(launch, "SMALL", chosen)


def request(**changes: Any) -> registry.Request:
    params = {
        "batch": 1, "heads": 2, "kv_heads": 1, "q_len": 70, "kv_len": 70, "head_dim": 16, "causal": True, "window": 0,
        "varlen": None, "scale": 0.25, "dropout": 0.0, "layout": "bshd",
    }  # fmt: skip
    compute = changes.pop("compute", "bf16")
    fields = {"device": "cpu", "compute": compute, "output": compute, "gradients": True, "params": params}
    own = {name: changes.pop(name) for name in list(changes) if name in (*fields, "capability", "chip")}
    if unknown := changes.keys() - params:
        raise KeyError(unknown)
    return registry.Request(**{**fields, **own, "params": {**params, **changes}}, compile=lambda function: function)


def impl(name: str) -> registry.Kernel:
    return registry.kernels("attention")[name]


@dataclass(frozen=True)
class Problem:
    """Operands and an incoming gradient, fresh each time."""

    asked: registry.Request
    operands: list[Tensor]
    incoming: Tensor

    @classmethod
    def of(cls, asked: registry.Request) -> Problem:
        p, form = asked.params, dtype(asked.compute)

        def made(heads: int, length: int) -> Tensor:
            if p["layout"] == "bhsd":
                return torch.randn(p["batch"], heads, length, p["head_dim"]).to(form)
            return torch.randn(p["batch"], length, heads, p["head_dim"]).to(form).transpose(1, 2)

        keys = [made(p["kv_heads"], p["kv_len"]) for _ in range(2)]
        return cls(asked, [made(p["heads"], p["q_len"]), *keys], made(p["heads"], p["q_len"]))

    def by(self, function: Callable[..., Tensor]) -> list[Tensor]:
        """The result, and gradients where they are asked for."""
        leaves = [one.detach().requires_grad_(self.asked.gradients) for one in self.operands]
        result = function(*leaves)
        given = torch.autograd.grad(result, leaves, self.incoming.to(result)) if self.asked.gradients else ()
        return [result.detach(), *given]

    def exact(self) -> list[Tensor]:
        """The same in float64."""
        wide = Problem(self.asked, [one.double() for one in self.operands], self.incoming.double())
        return wide.by(written_out(self.asked.params))


def written_out(params: Any) -> Callable[..., Tensor]:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = (one.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for one in (k, v))
        scores = (q @ k.mT * params["scale"]).masked_fill(~full(q.shape[2], k.shape[2], params, q.device), -torch.inf)
        return torch.softmax(scores, -1) @ v

    return attend


def off(found: Tensor, true: Tensor) -> float:
    return float((found.double() - true).norm() / true.norm().clamp_min(1.0))


def compare(problem: Problem, ours: str = "triton") -> None:
    """The kernel's errors are at most twice those of the framework's written-out path."""
    true, floor = problem.exact(), FLOOR[problem.asked.compute]
    found, framework = (problem.by(impl(name).build(problem.asked)) for name in (ours, "torch"))
    for name, one, other, exact in zip(("out", "dq", "dk", "dv"), found, framework, true, strict=False):
        assert one.shape == exact.shape
        assert off(one, exact) <= 2 * max(off(other, exact), floor), name


@pytest.mark.parametrize(
    ("changes", "cutting"),
    [
        ({}, tile(32, 16)),
        ({"causal": False, "q_len": 45, "kv_len": 90, "compute": "fp16", "head_dim": 24, "batch": 2}, tile(16, 64)),
        ({"q_len": 90, "kv_len": 33, "layout": "bhsd"}, tile(32, 32)),
        ({"q_len": 33, "kv_len": 90}, tile(64, 32)),
        ({"window": 20, "heads": 1}, tile(16, 16)),
        ({"window": 20, "causal": False, "compute": "fp16", "heads": 1}, tile(32, 16)),
        ({"varlen": (30, 1, 39)}, tile(16, 32)),
        ({"varlen": (17, 53), "causal": False, "window": 11, "heads": 1}, tile(16, 16)),
        ({"q_len": 33, "kv_len": 33, "head_dim": 128, "heads": 1}, tile(32, 32)),
        ({"q_len": 40, "kv_len": 40, "head_dim": 256, "heads": 1, "gradients": False}, tile(32, 32)),
        ({"compute": "fp32", "head_dim": 40}, tile(32, 32)),
        ({"q_len": 1, "kv_len": 1}, tile(16, 16)),
        ({"q_len": 1, "kv_len": 150, "causal": False}, tile(16, 64)),
        ({"q_len": 64, "kv_len": 64, "head_dim": 32}, tile(32, 32, tma=True)),
        ({"q_len": 50, "kv_len": 66, "causal": False}, tile(32, 32, tma=True)),
        ({"q_len": 50, "kv_len": 50, "window": 20, "gradients": False}, tile(32, 16, tma=True)),
        ({"heads": 4, "kv_heads": 2, "batch": 2, "q_len": 30, "kv_len": 30}, tile(32, 32, splits=2)),
    ],
    ids=str,
)  # fmt: skip
def test_errors_are_at_most_twice_the_frameworks(
    changes: dict[str, Any], cutting: Tile, cut: Callable[[Tile], None]
) -> None:
    cut(cutting)
    compare(Problem.of(request(**changes)))


@pytest.mark.parametrize(
    "changes",
    [{"heads": 4, "kv_heads": 2, "q_len": 40, "kv_len": 50}, {"varlen": (30, 40), "compute": "fp16", "head_dim": 24}],
    ids=str,
)
def test_gradients_of_queries_may_be_summed_by_atomics(changes: dict[str, Any], cut: Callable[[Tile], None]) -> None:
    cut(tile(16, 32))
    compare(Problem.of(request(**changes)), "triton-atomic")


def test_the_log_sum_exp_is_where_the_gate_looks_and_the_gate_passes() -> None:
    problem = Problem.of(request(heads=4, kv_heads=2, varlen=None))
    leaves = [one.requires_grad_() for one in problem.operands]
    result = impl("triton").build(problem.asked)(*leaves)
    gradients = torch.autograd.grad(result, leaves, problem.incoming, retain_graph=True)
    q, k = (one.detach().double() for one in leaves[:2])
    scores = (q @ k.repeat_interleave(2, dim=1).mT * 0.25).masked_fill(~torch.ones(70, 70).tril().bool(), -torch.inf)
    torch.testing.assert_close(result.grad_fn._saved_logsumexp.double(), scores.logsumexp(-1), rtol=0, atol=1e-5)
    operands = [one.detach() for one in leaves]
    found = gate.check(operands, problem.incoming, result, gradients, problem.asked.params, "bf16")
    assert found.ok, found


@pytest.mark.parametrize("wrong", ["scale", "lse", "keys", "nothing"])
def test_a_planted_wrong_kernel_is_caught_by_the_gate(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = importlib.import_module("perwatt_kernels.attention.triton_launch")
    forward, backward = launch.forward, launch.backward

    def planted_forward(work: Any, out: Tensor, lse: Tensor) -> None:
        forward(replace(work, scale=1.1 * work.scale) if wrong == "scale" else work, out, lse)
        lse += 0.1 * (wrong == "lse")

    def planted_backward(work: Any, out: Tensor, lse: Tensor, d_out: Tensor, *gradients: Tensor) -> None:
        backward(work, out, lse, d_out, *gradients)
        if wrong == "keys":  # of the last tile
            gradients[1][:, :, 64:] = 0

    monkeypatch.setattr(launch, "forward", planted_forward)
    monkeypatch.setattr(launch, "backward", planted_backward)
    problem = Problem.of(request())
    leaves = [one.requires_grad_() for one in problem.operands]
    result = impl("triton").build(problem.asked)(*leaves)
    gradients = torch.autograd.grad(result, leaves, problem.incoming, retain_graph=True)
    found = gate.check([x.detach() for x in leaves], problem.incoming, result, gradients, problem.asked.params, "bf16")
    assert found.ok == (wrong == "nothing"), found


def test_strides_offsets_and_expanded_gradients_are_taken_as_they_are() -> None:
    asked = request(q_len=40, kv_len=40)
    wide = [torch.randn(1, heads, 40, 33).bfloat16()[..., 1::2] for heads in (2, 1, 1)]
    assert all(one.stride(3) == 2 and one.storage_offset() == 1 for one in wide)
    compare(Problem(asked, wide, torch.ones((), dtype=torch.bfloat16).expand(1, 2, 40, 16)))
    shifted = [torch.randn(one.numel() + 1).bfloat16()[1:].view(one.shape) for one in wide]
    compare(Problem(asked, shifted, torch.randn(1, 2, 40, 16).bfloat16()))


@pytest.mark.parametrize("empty", ["batch", "q_len", "kv_len"])
def test_nothing_in_gives_nothing_out(empty: str) -> None:
    problem = Problem.of(request(q_len=20, kv_len=20, causal=False, batch=2))
    sizes = {"batch": [0, 0, 0], "q_len": [0, 20, 20], "kv_len": [20, 0, 0]}[empty]
    at = 0 if empty == "batch" else 2
    operands = [one.narrow(at, 0, size) for one, size in zip(problem.operands, sizes, strict=True)]
    some = Problem(problem.asked, operands, problem.incoming.narrow(at, 0, sizes[0]))
    for found, like in zip(some.by(impl("triton").build(some.asked)), (operands[0], *operands), strict=True):
        assert found.shape == like.shape
        assert not found.count_nonzero()


def test_results_and_gradients_are_the_same_bit_by_bit(cut: Callable[[Tile], None]) -> None:
    cut(tile(32, 32, splits=2))
    problem = Problem.of(request(q_len=40, kv_len=40))
    attend = impl("triton").build(problem.asked)
    for one, other in zip(problem.by(attend), problem.by(attend), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_passes_through_as_in_torch(value: float) -> None:
    problem = Problem.of(request(q_len=40, kv_len=40, gradients=False))
    q, k, v = problem.operands
    with_query = [q.clone(), k, v]
    with_query[0][0, 1, 7, 3] = value
    with_key = [q, k.clone(), v]
    with_key[1][0, 0, 9, 2] = value
    with_value = [q, k, v.clone()]
    with_value[2][0, 0, 0, 5] = value  # which every query sees
    for operands in (with_query, with_key, with_value):
        changed = Problem(problem.asked, operands, problem.incoming)
        found, wanted = (changed.by(impl(name).build(problem.asked))[0].float() for name in ("triton", "torch"))
        torch.testing.assert_close(found, wanted, rtol=3e-2, atol=3e-2, equal_nan=True)


def test_a_graph_keeps_both_operations_whole() -> None:
    problem, seen = Problem.of(request(q_len=20, kv_len=20)), []
    attend = impl("triton").build(problem.asked)

    def look(graph: Any, inputs: Any) -> Any:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(attend, backend=aot_autograd(fw_compiler=look, bw_compiler=look), fullgraph=True)
    for one, other in zip(problem.by(compiled), problem.by(attend), strict=True):
        assert torch.equal(one, other)
    ours = [name for name in seen if name.startswith("perwatt.")]
    assert ours == ["perwatt.triton_attention_forward.default", "perwatt.triton_attention_backward.default"]


def test_registrations_agree_with_the_operations() -> None:
    ops = importlib.import_module("perwatt_kernels.attention.triton_ops")
    q, k, v = (one.requires_grad_() for one in Problem.of(request(q_len=20, kv_len=20)).operands)
    torch.library.opcheck(ops.triton_attention_forward, (q, k, v, True, 0, [], 0.25, True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(2, 8, 16)}, r"q: found shape \[2, 8, 16\], expected \[any, any, any, any\]"),
        ({"k": torch.zeros(1, 2, 8, 8)}, r"k: found shape \[1, 2, 8, 8\], expected \[1, any, any, 16\]"),
        ({"v": torch.zeros(1, 2, 9, 16)}, r"v: found shape \[1, 2, 9, 16\], expected \[1, 2, 8, 16\]"),
        ({"k": torch.zeros(1, 2, 8, 16).double()}, "k: found float64, expected float32"),
        ({"q": torch.zeros(1, 3, 8, 16)}, "k: found 2 heads, expected a divisor of the 3 of q"),
        ({"v": torch.zeros(1, 2, 8, 16, device="meta")}, "v: found a tensor on meta, expected cpu"),
        ({"lengths": [3, 4]}, r"lengths: found \[3, 4\] of 8 queries and 8 keys, expected positive, with both as"),
        ({"window": -1}, "window: found -1, expected 0 or more"),
        ({"scale": 0.0}, "scale: found 0.0, expected a positive number"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    ops = importlib.import_module("perwatt_kernels.attention.triton_ops")
    q, k = torch.zeros(1, 4, 8, 16), torch.zeros(1, 2, 8, 16)
    given = {"q": q, "k": k, "v": k, "causal": True, "window": 0, "lengths": [], "scale": 1.0}
    with pytest.raises(ValueError, match=message):
        ops.attention(**{**given, **change})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dropout": 0.1, "gradients": False}, "found dropout 0.1, expected 0: the kernel draws no numbers"),
        ({"head_dim": 192}, "found head_dim 192, expected 1 to 128: with gradients"),
        ({"head_dim": 320, "gradients": False}, "found head_dim 320, expected 1 to 256"),
        ({"compute": "tf32"}, "triton takes bf16, fp16, fp32, not tf32"),
        ({"output": "fp32"}, "found fp32 output, expected that of the operands, bf16"),
        ({"device": "neuron"}, "triton runs on cuda, not on neuron"),
        ({"device": "cuda", "capability": (7, 5), "chip": "T4"}, "triton needs compute capability 8.0, T4 has 7.5"),
    ],
)
def test_what_it_does_not_take_is_refused_beforehand(changes: dict[str, Any], reason: str) -> None:
    assert reason in (impl("triton").refusal(request(**changes)) or "")

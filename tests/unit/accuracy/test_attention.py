"""The gate of attention: every impl torch has passes, planted faults do not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from perwatt.accuracy import attention as gate
from perwatt.workloads.attention import AttentionParams
from perwatt_kernels.attention.mask import full
from perwatt_kernels.attention.torch_impl import plain
from perwatt_kernels.registry import Request

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHAPE: dict[str, Any] = {"batch": 2, "heads": 4, "kv_heads": 2, "seq": 200, "head_dim": 32}


def problem(compute: str = "fp32", **changes: Any) -> tuple[list[Tensor], Tensor, dict[str, Any]]:
    params = AttentionParams(**{**SHAPE, **changes})
    source = torch.Generator().manual_seed(1)

    def draw(heads: int, length: int) -> Tensor:
        return (1.15 * torch.randn(params.batch, heads, length, params.head_dim, generator=source)).to(DTYPES[compute])

    q, k, v = (draw(params.heads, params.q_len), *(draw(params.kv_heads, params.kv_len) for _ in range(2)))
    return [q, k, v], draw(params.heads, params.q_len), params.model_dump()


def attend(q: Tensor, k: Tensor, v: Tensor, params: dict[str, Any], mask: Tensor | None = None) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    k, v = (t.repeat_interleave(groups, dim=1) for t in (k, v))
    mask = full(q.shape[2], k.shape[2], params, q.device) if mask is None else mask
    scores = ((q @ k.mT).float() * params["scale"]).masked_fill(~mask, float("-inf"))
    return torch.softmax(scores, -1).to(v.dtype) @ v


def judge(function: Callable[..., Tensor], compute: str = "fp32", backward: bool = True, **changes: Any):
    operands, incoming, params = problem(compute, **changes)
    if not backward:
        return gate.check(operands, None, function(*operands, params), None, params, compute)
    leaves = [t.requires_grad_() for t in operands]
    result = function(*leaves, params)
    gradients = torch.autograd.grad(result, leaves, incoming, retain_graph=True)
    return gate.check([t.detach() for t in leaves], incoming, result, gradients, params, compute)


@pytest.mark.parametrize("compute", DTYPES)
@pytest.mark.parametrize(
    "changes",
    [{}, {"causal": False}, {"window": 40}, {"varlen": (50, 149, 1)}, {"q_len": 120, "kv_len": 200}, {"scale": 0.4},
     {"kv_heads": 4}, {"seq": 1}],
    ids=str,
)  # fmt: skip
def test_honest_attention_passes(compute: str, changes: dict[str, Any]) -> None:
    result = judge(attend, compute, **changes)
    assert result.ok, result


@pytest.mark.parametrize("compute", ["fp32", "bf16"])
def test_fused_attention_passes_and_its_log_sum_exp_is_seen(compute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = gate._saved_lse
    monkeypatch.setattr(gate, "_saved_lse", lambda result: seen.append(original(result)) or seen[-1])

    def fused(q: Tensor, k: Tensor, v: Tensor, params: dict[str, Any]) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    assert judge(fused, compute).ok
    assert seen[0] is not None
    assert seen[0].shape == (2, 4, 200)


def test_a_wrong_log_sum_exp_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    original = gate._saved_lse

    def shifted(result: Tensor) -> Tensor | None:
        saved = original(result)
        assert saved is not None
        saved = saved.clone()
        saved[1, 3, 199] += 0.1
        return saved

    monkeypatch.setattr(gate, "_saved_lse", shifted)

    def fused(q: Tensor, k: Tensor, v: Tensor, params: dict[str, Any]) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    result = judge(fused)
    assert not result.ok
    assert "log-sum-exp" in result.detail


def sees_one_too_many(q: Tensor, k: Tensor, v: Tensor, params: dict[str, Any]) -> Tensor:
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(1)
    return attend(q, k, v, params, mask)


def misses_itself(q: Tensor, k: Tensor, v: Tensor, params: dict[str, Any]) -> Tensor:
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(-1)
    mask[0, 0] = True
    return attend(q, k, v, params, mask)


def wrong_at_a_tile_edge(q: Tensor, k: Tensor, v: Tensor, params: dict[str, Any]) -> Tensor:
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
    mask[127, 128] = True
    return attend(q, k, v, params, mask)


def swapped_kv_head(q: Tensor, k: Tensor, v: Tensor, params: dict[str, Any]) -> Tensor:
    return attend(q, k.flip(1), v.flip(1), params)


def interleaved_kv_heads(q: Tensor, k: Tensor, v: Tensor, params: dict[str, Any]) -> Tensor:
    return attend(q, k.repeat(1, 2, 1, 1), v.repeat(1, 2, 1, 1), params)


def wrong_scale(q: Tensor, k: Tensor, v: Tensor, params: dict[str, Any]) -> Tensor:
    return attend(q, k, v, {**params, "scale": params["scale"] * 1.02})


def bf16_inside(q: Tensor, k: Tensor, v: Tensor, params: dict[str, Any]) -> Tensor:
    return attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), params).to(q.dtype)


def nan_in_one_element(q: Tensor, k: Tensor, v: Tensor, params: dict[str, Any]) -> Tensor:
    poison = torch.zeros_like(q)
    poison[1, 2, 77, 5] = float("nan")
    return attend(q, k, v, params) + poison


def lost_rows(q: Tensor, k: Tensor, v: Tensor, params: dict[str, Any]) -> Tensor:
    keep = torch.ones_like(q)
    keep[0, 0, 192:] = 0
    return attend(q, k, v, params) * keep


FAULTS = [
    sees_one_too_many, misses_itself, wrong_at_a_tile_edge, swapped_kv_head, interleaved_kv_heads, wrong_scale,
    nan_in_one_element, lost_rows,
]  # fmt: skip


@pytest.mark.parametrize("compute", ["fp32", "bf16"])
@pytest.mark.parametrize("backward", [False, True], ids=["fwd", "fwd+bwd"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_planted_faults_fail(fault: Callable[..., Tensor], backward: bool, compute: str) -> None:
    result = judge(fault, compute, backward)
    assert not result.ok
    assert result.detail


def test_lowered_precision_fails() -> None:
    assert not judge(bf16_inside).ok


@pytest.mark.parametrize("compute", ["fp32", "bf16"])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["dq", "dk", "dv"])
@pytest.mark.parametrize("factor", [0.0, 0.9], ids=["dropped", "scaled"])
def test_faulty_gradients_fail(which: int, factor: float, compute: str) -> None:
    operands, incoming, params = problem(compute)
    leaves = [t.requires_grad_() for t in operands]
    result = attend(*leaves, params)
    gradients = list(torch.autograd.grad(result, leaves, incoming))
    gradients[which] = gradients[which].clone()
    gradients[which][1, 1] *= factor
    outcome = gate.check([t.detach() for t in leaves], incoming, result, gradients, params, compute)
    assert not outcome.ok
    assert ("dq", "dk", "dv")[which] in outcome.detail


def test_dropout_is_judged_by_its_statistics() -> None:
    operands, _, params = problem(dropout=0.3)
    request = Request(device="cpu", compute="fp32", output="fp32", gradients=False, params=params, compile=lambda f: f)
    assert gate.check(operands, None, plain(request)(*operands), None, params, "fp32").ok
    without = attend(*operands, params)
    assert not gate.check(operands, None, without, None, params, "fp32").ok
    unscaled = plain(request)(*operands) * 0.7
    assert not gate.check(operands, None, unscaled, None, params, "fp32").ok


def test_the_math_path_bound_is_taken_in_the_same_format() -> None:
    operands, incoming, params = problem("bf16")
    bounds = gate._bounds(operands, incoming, params, "bf16")
    operands, incoming, params = problem("fp32")
    assert all(
        wide > 100 * narrow
        for wide, narrow in zip(bounds, gate._bounds(operands, incoming, params, "fp32"), strict=True)
    )

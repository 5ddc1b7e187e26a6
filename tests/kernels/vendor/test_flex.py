"""``flex_attention``: its masks on this machine's CPU, compiled and written out, and what is refused."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex

from perwatt.backends.cpu import BACKEND
from perwatt_kernels import registry
from support.sessions import assert_passes, case

CASE = {"batch": 2, "heads": 4, "kv_heads": 2, "seq": 200, "head_dim": 16}
MASKS = [
    {}, {"causal": False}, {"window": 17}, {"window": 1}, {"causal": False, "window": 17}, {"varlen": (50, 149, 1)},
    {"varlen": (130, 70), "window": 9, "causal": False}, {"q_len": 100, "kv_len": 230}, {"q_len": 230, "kv_len": 100},
    {"causal": False, "q_len": 7, "kv_len": 130}, {"kv_heads": 4}, {"layout": "bhsd"},
]  # fmt: skip


def request(function: Any = lambda function: function, **changes: Any) -> registry.Request:
    params = {
        "batch": 2, "heads": 4, "kv_heads": 2, "q_len": 200, "kv_len": 200, "head_dim": 16, "causal": True,
        "window": 0, "varlen": None, "scale": 0.2, "dropout": 0.0, "layout": "bshd",
    }  # fmt: skip
    fields = {"device": "cpu", "compute": "fp32", "output": "fp32", "gradients": False, "capability": None}
    own = {name: changes.pop(name) for name in list(changes) if name in fields}
    return registry.Request(**{**fields, **own}, params={**params, **changes}, compile=function)


def kernel(impl: str = "flex") -> registry.Kernel:
    return registry.kernels("attention")[impl]


def operands(asked: registry.Request) -> list[Tensor]:
    p = asked.params
    shapes = ((p["heads"], p["q_len"]), (p["kv_heads"], p["kv_len"]), (p["kv_heads"], p["kv_len"]))
    return [torch.randn(p["batch"], length, heads, p["head_dim"]).transpose(1, 2) for heads, length in shapes]


@pytest.fixture
def _written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch computes it without a compiler, and without its warning that this is slow."""
    monkeypatch.setattr(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True, raising=False)


@pytest.mark.usefixtures("_written_out")
@pytest.mark.parametrize("changes", MASKS, ids=str)
def test_masks_are_those_of_the_reference(changes: dict[str, Any]) -> None:
    asked = request(**changes)
    assert kernel().refusal(asked) is None
    given = operands(asked)
    found, true = (kernel(impl).build(asked)(*given) for impl in ("flex", "reference"))
    seen = torch.isfinite(true)  # a query that sees nothing is not defined
    torch.testing.assert_close(found[seen], true[seen], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_written_out")
def test_the_mask_is_made_once_and_leaves_blocks_out(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[Any] = []
    real = flex.flex_attention

    def noted(*given: Any, block_mask: Any, **options: Any) -> Tensor:
        masks.append(block_mask)
        return real(*given, block_mask=block_mask, **options)

    monkeypatch.setattr(flex, "flex_attention", noted)
    asked = request(q_len=512, kv_len=512)
    attend, given = kernel().build(asked), operands(asked)
    attend(*given), attend(*given)
    assert masks[0] is masks[1]
    assert masks[0].sparsity() == pytest.approx(37.5)  # 10 of 16 blocks of 128 x 128 are seen in part


@pytest.mark.slow
@pytest.mark.skipif(BACKEND.uncompilable() is not None, reason="nothing can be compiled here")
@pytest.mark.parametrize(("params", "precision"), [({}, "fp32"), ({"varlen": [150, 50], "window": 9}, "bf16")])
def test_compiled_on_a_cpu_it_passes_the_gate(params: dict[str, Any], precision: str) -> None:
    assert_passes(case("attention", {**CASE, **params}, precision=precision), "flex")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gradients": True}, "no backward on cpu: use pass fwd"),
        ({"dropout": 0.1}, "found dropout 0.1, expected 0"),
        ({"output": "bf16"}, "result in the format of its operands, fp32"),
        ({"device": "neuron"}, "flex runs on cuda or cpu, not on neuron"),
        ({"device": "cuda", "capability": (7, 5)}, "flex needs compute capability 8.0"),
        ({"compute": "e4m3fn"}, "takes fp32, tf32, bf16, fp16, not e4m3fn"),
    ],
)
def test_what_it_does_not_take_is_refused(changes: dict[str, Any], words: str) -> None:
    assert words in (kernel().refusal(request(**changes)) or "")


def test_on_cuda_it_needs_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "triton" else real(name))
    asked = partial(request, device="cuda", capability=(9, 0), gradients=True)
    assert "flex_attention needs triton on cuda: pip install triton" in (kernel().refusal(asked()) or "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert kernel().refusal(asked()) is None

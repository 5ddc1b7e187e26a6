"""Linear layers: each implementation against float64, with its gradients, in the shapes that layers meet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from perwatt.backends.cpu import BACKEND
from perwatt_kernels import registry
from perwatt_kernels.dtypes import dtype

FORMATS = ["fp32", "bf16", "fp16"]
EIGHT = {"compute": "e4m3fn", "backward": "e5m2", "quantize": "inside", "output": "bf16"}
TWICE = 2.0  # times the error of the framework's own
LEAST = 1e-6


def request(**changes: Any) -> registry.Request:
    params = {"m": 12, "n": 32, "k": 48, "bias": False}
    fields = {"device": "cpu", "compute": "fp32", "output": "fp32", "gradients": True}
    fields |= {name: changes.pop(name) for name in list(changes) if name not in params}
    return registry.Request(**{"compile": BACKEND.compile, **fields, "params": params | changes})


def error(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm())


def answers(impl: str, asked: registry.Request, operands: list[Tensor], incoming: Tensor) -> list[Tensor]:
    """Result and gradients of one implementation."""
    leaves = [one.detach().requires_grad_() for one in operands]
    result = registry.kernels("linear")[impl].build(asked)(*leaves)
    return [result.detach(), *torch.autograd.grad(result, leaves, incoming.to(result.dtype))]


def operands_of(*lead: int, n: int = 32, k: int = 48, bias: bool = False, format: str = "bf16") -> list[Tensor]:
    made = [torch.randn(*lead, k), torch.randn(n, k), *([torch.randn(n)] if bias else [])]
    return [one.to(dtype(format)) for one in made]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("bias", [False, True])
def test_all_three_products_against_float64(format: str, bias: bool) -> None:
    asked = request(compute=format, output=format, bias=bias)
    operands = operands_of(3, 4, bias=bias, format=format)
    incoming = torch.randn(3, 4, 32).to(dtype(format))
    wide = [one.double() for one in operands]
    truth = answers("reference", request(compute="fp64", output="fp64", bias=bias), wide, incoming.double())
    for impl in ("torch", "reference"):
        found = answers(impl, asked, operands, incoming)
        rounding = {"fp32": 1e-6, "bf16": 3e-3, "fp16": 4e-4}[format]
        assert [one.dtype for one in found] == [dtype(format)] * (3 + bias)
        assert all(error(one, true) < rounding for one, true in zip(found, truth, strict=True))


@pytest.mark.parametrize("scaling", ["tensor", "row"])
@pytest.mark.parametrize("impl", ["torch", "dequantize"])
def test_layers_in_8_bits_are_what_the_written_out_rule_gives(scaling: str, impl: str) -> None:
    asked = request(**EIGHT, scaling=scaling, m=32, bias=True)
    operands, incoming = operands_of(2, 16, bias=True), torch.randn(2, 16, 32).bfloat16() * 1e-4
    if impl == "torch":
        try:
            registry.kernels("linear")[impl].build(asked)
        except NotImplementedError as reason:
            pytest.skip(str(reason))
    truth = answers("reference", request(**EIGHT | {"output": "fp64"}, scaling=scaling, bias=True), operands, incoming)
    found = answers(impl, asked, operands, incoming)
    for one, true in zip(found, truth, strict=True):
        assert error(one, true.double()) < 5e-3  # rounding to bf16


def test_gradients_in_8_bits_have_scales_of_their_own() -> None:
    """Gradients of 1e-9 are zero in e5m2 without a scale; the rule divides by one, so nothing of them is lost."""
    asked = request(**EIGHT, scaling="tensor")
    operands, incoming = operands_of(32), torch.randn(32, 32).bfloat16() * 1e-9
    plain = answers("torch", request(compute="bf16", output="bf16"), operands, incoming)
    found = answers("dequantize", asked, operands, incoming)
    assert all(0.01 < error(one, true.double()) < 0.15 for one, true in zip(found, plain, strict=True))


@pytest.mark.parametrize("lead", [(), (1,), (0,), (2, 3, 5)])
def test_any_leading_dimensions(lead: tuple[int, ...]) -> None:
    x, w = operands_of(*lead, format="fp32")
    for impl in ("torch", "reference"):
        found = registry.kernels("linear")[impl].build(request())(x, w)
        assert found.shape == (*lead, 32)
        torch.testing.assert_close(found, x @ w.mT)


def test_rows_may_lie_apart() -> None:
    x, w = torch.randn(16, 2, 48).transpose(0, 1), torch.randn(32, 48)
    for impl, own in (("torch", {}), ("dequantize", {**EIGHT, "scaling": "row", "m": 32})):
        build = registry.kernels("linear")[impl].build(request(**own))
        source = (x, w) if not own else (x.bfloat16(), w.bfloat16())
        torch.testing.assert_close(build(*source), build(source[0].contiguous(), source[1]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_passes_through(value: float) -> None:
    x, w = torch.ones(2, 48), torch.ones(32, 48)
    x[1, 5] = value
    for impl in ("torch", "reference"):
        found = registry.kernels("linear")[impl].build(request(gradients=False))(x, w)
        torch.testing.assert_close(found, x @ w.mT, equal_nan=True)


@pytest.mark.parametrize(
    ("impl", "changes", "reason"),
    [
        ("dequantize", {}, "operands in fp32 have no scales"),
        ("dequantize", {**EIGHT, "scaling": "tensor", "quantize": "outside"}, "a linear layer quantizes its operands"),
        ("torch", {**EIGHT, "scaling": "block32"}, "products with block scales are Blackwell's"),
        ("torch", {**EIGHT, "scaling": "tensor", "compute": "e4m3"}, "torch only stores the e4m3 that follows IEEE"),
        ("torch", {**EIGHT, "scaling": "row", "device": "cuda"}, "takes multiples of 16 for depth and columns, here m"),
        ("torch", {"compute": "bf16"}, "torch has no product of bf16 operands with fp32 output on cpu"),
    ],
)
def test_what_is_not_there_is_refused(impl: str, changes: dict[str, Any], reason: str) -> None:
    assert reason in (registry.kernels("linear")[impl].refusal(request(**changes)) or "")


def test_auto_is_the_frameworks_where_nothing_may_be_measured(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Neuron, where no kernel of perwatt's is a linear layer."""
    auto = registry.kernels("linear")["auto"]
    monkeypatch.setenv("PERWATT_CACHE", str(tmp_path))
    assert auto.choose is not None
    unmeasured = auto.choose(request(time=None))
    assert (unmeasured.impl, unmeasured.flags) == ("torch", ("framework_path", "unmeasured_choice"))
    assert "there is no kernel of linear by it" in unmeasured.why

"""The product in NKI as an operation of torch, in simulation: layouts, gradients, graphs, refusals, and ``auto``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from perwatt_kernels import registry
from perwatt_kernels.nki_torch import site

SIZES = {"m": 33, "n": 20, "k": 130}
NATURAL = {"fwd": ((33, 130), (20, 130)), "dgrad": ((33, 20), (20, 130)), "wgrad": ((33, 20), (33, 130))}


@pytest.fixture(autouse=True)
def _simulated() -> Iterator[None]:
    with site.simulated("trn2", 2):
        yield


def request(**changes: Any) -> registry.Request:
    params = {"batch": 1, "product": "fwd", "a_layout": None, "b_layout": None, "epilogue": "none", **SIZES}
    fields = {"device": "cpu", "compute": "fp32", "output": "fp32", "gradients": False, "params": params}
    own = {name: changes.pop(name) for name in list(changes) if name in (*fields, "scaling", "backward")}
    return registry.Request(**{**fields, **own, "params": {**params, **changes}}, compile=lambda function: function)


def nki() -> registry.Kernel:
    return registry.kernels("matmul")["nki"]


@pytest.mark.parametrize("product", NATURAL)
def test_each_product_takes_a_linear_layers_operands_as_they_lie(product: str) -> None:
    left, right = (torch.randn(*shape) for shape in NATURAL[product])
    a, b = {"fwd": (left, right.mT), "dgrad": (left, right), "wgrad": (left.mT, right)}[product]
    found = nki().build(request(product=product))(a, b)
    torch.testing.assert_close(found, a @ b, rtol=1e-5, atol=1e-4)


def test_gradients_are_those_of_the_framework_and_a_graph_keeps_the_product_whole() -> None:
    x, w = torch.randn(33, 130, requires_grad=True), torch.randn(20, 130, requires_grad=True)
    incoming = torch.randn(33, 20)
    wanted = torch.autograd.grad(x @ w.mT, (x, w), incoming)
    layer, seen = nki().build(request(gradients=True)), []

    def backend(graph: Any, inputs: Any) -> Any:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    for function in (layer, compiled):
        found = torch.autograd.grad(function(x, w.mT), (x, w), incoming)
        for one, true in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, true, rtol=1e-5, atol=1e-4)
    assert [name for name in seen if "nki" in name] == ["perwatt.nki_matmul.default"]


def test_what_follows_the_product_is_the_frameworks() -> None:
    a, b, bias = torch.randn(33, 130), torch.randn(20, 130).mT, torch.randn(20)
    found = nki().build(request(epilogue="bias_gelu_tanh"))(a, b, bias)
    wanted = torch.nn.functional.gelu(a @ b + bias, approximate="tanh")
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"batch": 3}, "found a batch of 3, expected 1"),
        ({"a_layout": "column"}, "found a_layout column, expected row"),
        ({"product": "wgrad", "b_layout": "column"}, "found b_layout column, expected row"),
        ({"compute": "tf32"}, "found tf32 operands, expected one of bf16, fp16, fp32"),
        ({"compute": "bf16", "output": "fp32"}, "found fp32 output of bf16 operands, expected bf16"),
    ],
)
def test_what_it_does_not_take_is_refused_and_auto_says_so(changes: dict[str, Any], reason: str) -> None:
    asked = request(**changes)
    assert reason in (nki().unsupported(asked) or "")
    auto = registry.kernels("matmul")["auto"]
    if auto.unsupported(asked) is None:
        found = auto.choose(asked)
        assert found.impl == "torch"
        assert found.why.startswith("torch, as nki refuses: ")


def test_auto_takes_the_kernel_where_it_can() -> None:
    auto = registry.kernels("matmul")["auto"]
    assert (auto.unsupported(request()), auto.choose(request()).impl) == (None, "nki")
    a, b = torch.randn(33, 130), torch.randn(20, 130).mT
    assert torch.equal(auto.build(request())(a, b), nki().build(request())(a, b))


@pytest.mark.parametrize("device", ["cuda", "meta"])
def test_other_devices_have_no_kernel(device: str) -> None:
    assert f"NKI kernels run on neuron devices, found {device}" in (nki().unsupported(request(device=device)) or "")


@pytest.mark.parametrize("scaling", ["tensor", "row"])
def test_products_of_8_bit_operands_and_their_gradients(scaling: str) -> None:
    asked = request(compute="e4m3fn", output="bf16", scaling=scaling, gradients=True, backward="e5m2", m=32, n=20, k=48)
    x, w = torch.randn(32, 48, requires_grad=True), torch.randn(20, 48, requires_grad=True)
    incoming = torch.randn(32, 20)
    assert "expected float8_e4m3 (precisions of e4m3 that follow IEEE 754), or gen4" in (nki().unsupported(asked) or "")
    with site.simulated("trn3", 2):
        assert nki().unsupported(asked) is None
        found = nki().build(asked)(x, w.mT)
        gradients = torch.autograd.grad(found, (x, w), incoming.to(found.dtype))
    emulated = registry.kernels("matmul")["dequantize"].build(asked)(x, w.mT)
    wanted = torch.autograd.grad(emulated, (x, w), incoming.to(emulated.dtype))
    for one, true in ((found, emulated), *zip(gradients, wanted, strict=True)):
        torch.testing.assert_close(one, true, rtol=1e-2, atol=1e-2)

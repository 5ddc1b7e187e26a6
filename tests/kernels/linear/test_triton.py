"""The linear layer in Triton, in Triton's interpreter: its three products and the gradient of its bias."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from perwatt_kernels import registry
from perwatt_kernels.matmul.quantize import Scheme
from perwatt_kernels.registry import Request

pytestmark = pytest.mark.usefixtures("triton_interpreter", "one_thread")

PARAMS = {"m": 70, "n": 48, "k": 80, "bias": True}
REQUEST = Request(device="cpu", compute="bf16", output="bf16", gradients=True, params=PARAMS, compile=torch.compile)
QUANTIZED = {"compute": "e4m3fn", "backward": "e5m2", "quantize": "inside"}


def built(**changes: Any) -> Callable[..., Tensor]:
    return registry.kernels("linear")["triton"].build(replace(REQUEST, **changes))


def normal(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.detach().double() - exact).norm() / exact.norm())


def three(function: Callable[..., Tensor], x: Tensor, w: Tensor, bias: Tensor | None, dy: Tensor) -> list[Tensor]:
    """Result and gradients of a layer, of leaves that share storage with nothing."""
    leaves = [t.detach().requires_grad_() for t in (x, w, bias) if t is not None]
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("leading", "dtype"), [((70,), torch.bfloat16), ((2, 5, 7), torch.bfloat16),
                                                 ((), torch.float16), ((33,), torch.float32)])  # fmt: skip
def test_all_products_are_as_accurate_as_the_framework_s(
    leading: tuple[int, ...], dtype: torch.dtype, biased: bool
) -> None:
    x, w, dy = normal(*leading, 80, dtype=dtype), normal(48, 80, dtype=dtype), normal(*leading, 48, dtype=dtype)
    bias = normal(48, dtype=dtype) if biased else None
    name = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[dtype]
    found = three(built(compute=name, output=name), x, w, bias, dy)
    framework = three(linear, x, w, bias, dy)
    exact = three(linear, x.double(), w.double(), None if bias is None else bias.double(), dy.double())
    for mine, torchs, right in zip(found, framework, exact, strict=True):
        assert (mine.shape, mine.dtype) == (torchs.shape, torchs.dtype)
        assert error(mine, right) <= 2 * max(error(torchs, right), error(right.to(dtype), right))


def test_rows_need_not_be_contiguous() -> None:
    x, w, dy = normal(7, 10, 80).transpose(0, 1), normal(80, 48).mT, normal(7, 10, 48).transpose(0, 1)
    exact = three(linear, x.double(), w.double(), None, dy.double())
    for mine, right in zip(three(built(), x, w, None, dy), exact, strict=True):
        assert error(mine, right) < 3e-3


def test_no_rows_give_no_rows() -> None:
    y, dx, dw = three(built(), normal(0, 80), normal(48, 80), None, normal(0, 48))
    assert (y.shape, dx.shape) == ((0, 48), (0, 80))
    assert torch.equal(dw, torch.zeros(48, 80, dtype=torch.bfloat16))


@pytest.mark.parametrize("scaling", ["tensor", "row"])
def test_quantized_products_are_those_of_the_written_out_rule(scaling: str) -> None:
    x, w, bias, dy = normal(70, 80), normal(48, 80), normal(48), normal(70, 48)
    found = three(built(scaling=scaling, **QUANTIZED), x, w, bias, dy)
    request = replace(REQUEST, scaling=scaling, params={"product": "fwd"}, **QUANTIZED)
    forward, (to_x, to_w) = Scheme.of(request), Scheme.of_gradients(request)

    def times(scheme: Scheme, a: Tensor, b: Tensor) -> Tensor:
        left, right = scheme.seen((a, b))
        return left.double() @ right.double()

    exact = [times(forward, x, w.mT) + bias, times(to_x, dy, w), times(to_w, x.mT, dy).mT, dy.double().sum(0)]
    assert len(found) == len(exact)
    for mine, right in zip(found, exact, strict=True):
        assert error(mine, right) < 1e-2


def test_a_compiled_layer_is_the_same() -> None:
    layer, x, w, bias = built(), normal(33, 80), normal(48, 80), normal(48)
    assert torch.equal(torch.compile(layer, backend="aot_eager", fullgraph=True)(x, w, bias), layer(x, w, bias))


@pytest.mark.parametrize(
    ("operands", "message"),
    [
        ((normal(3, 80), normal(48, 79)), r"w: found shape \[48, 79\], expected \[any, 80\]"),
        ((normal(3, 80).float(), normal(48, 80)), "x: found float32, expected bfloat16"),
        ((normal(3, 80), normal(48, 80), normal(47)), r"bias: found shape \[47\], expected \[48\]"),
        ((normal(3, 80)[0, 0], normal(48, 80)), r"x: found shape \[\], expected \[..., k\]"),
    ],
)
def test_wrong_operands_are_refused_by_name(operands: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built()(*operands)


def test_operands_that_arrive_in_8_bits_are_refused() -> None:
    asked = replace(REQUEST, gradients=False, scaling="row", **{**QUANTIZED, "quantize": "outside"})
    assert "use operation matmul" in (registry.kernels("linear")["triton"].refusal(asked) or "")

"""Quantization in Triton, in Triton's interpreter: the rule's elements and scales, whatever way a matrix lies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from perwatt_kernels.matmul import quantize, scaled_impl

pytestmark = [
    pytest.mark.usefixtures("triton_interpreter", "one_thread"),
    pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning"),
]


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2"])
@pytest.mark.parametrize("scaling", ["tensor", "row"])
@pytest.mark.parametrize("depth", [-1, -2])
@pytest.mark.parametrize("turned", [False, True])
def test_elements_and_scales_are_the_rule_s(name: str, scaling: str, depth: int, turned: bool) -> None:
    from perwatt_kernels.matmul.triton_quantize import cast

    x = (normal(37, 70) * torch.logspace(-8, 3, 70)).bfloat16()  # many elements are below the smallest normal one
    x[5], x[:, 7] = 0, 0
    x = x.mT.contiguous().mT if turned else x
    elements, scales = cast(x, name, scaling, depth)
    expected, of_rule = quantize.quantized(x, name, scaling, depth)
    assert elements.stride(depth) == 1
    assert scales.shape == of_rule.shape
    assert torch.equal(scales, of_rule)
    assert torch.equal(elements.float(), expected)


@pytest.mark.parametrize("scaling", ["tensor", "row"])
@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(scaling: str, strange: float) -> None:
    from perwatt_kernels.matmul.triton_quantize import cast

    x = normal(9, 33)
    x[3, 4] = strange
    for found, framework in zip(cast(x, "e5m2", scaling, -1), scaled_impl.cast(x, "e5m2", scaling, -1), strict=True):
        assert torch.equal(found.float().nan_to_num(7.0), framework.float().nan_to_num(7.0))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1)])
@pytest.mark.parametrize("scaling", ["tensor", "row"])
def test_little_or_nothing_has_scales_too(shape: tuple[int, int], scaling: str) -> None:
    from perwatt_kernels.matmul.triton_quantize import cast

    elements, scales = cast(torch.ones(shape), "e4m3fn", scaling, -1)
    assert elements.shape == shape
    assert scales.shape == ((shape[0], 1) if scaling == "row" else (1, 1))
    assert bool((scales > 0).all())


def test_torch_finds_nothing_amiss_with_the_operation() -> None:
    from perwatt_kernels.matmul.triton_quantize import quantize as operation

    tests = ("test_schema", "test_faketensor")  # values of 8 bits are not compared by the others
    for by_row in (False, True):
        torch.library.opcheck(operation, (normal(5, 8), "e4m3fn", by_row), test_utils=tests)

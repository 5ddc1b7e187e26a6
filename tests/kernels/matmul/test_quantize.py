"""Quantization, written out: formats by their every value, scales by hand, and the framework's casts against it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.matmul import scaled_impl
from perwatt_kernels.matmul.quantize import FORMATS, Scheme, power, quantized, rounded, scales, stored, widened


def every_bf16(largest: float) -> Tensor:
    values = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16).float()
    return values[values.isfinite() & (values.abs() <= largest)]


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2"])
def test_rounding_is_the_framework_s_for_every_bf16_number(name: str) -> None:
    x = every_bf16(FORMATS[name].largest)
    assert torch.equal(rounded(x, name), x.to(dtype(name)).float())


def test_e4m3_of_ieee_has_its_values_and_no_others() -> None:
    """Exponent field 0 to 14 (15 is for infinity and NaN), bias 7, three bits behind the point."""
    normal = [(1 + m / 8) * 2.0 ** (e - 7) for e in range(1, 15) for m in range(8)]
    values = torch.tensor([m / 8 * 2.0**-6 for m in range(8)] + normal)
    assert values.max() == 240
    assert torch.equal(rounded(values, "e4m3"), values)
    x = every_bf16(1e4).abs()
    nearest = values[(x[:, None] - values).abs().argmin(dim=1)]
    assert torch.equal((rounded(x, "e4m3") - x).abs(), (nearest - x).abs()), "the nearest, the largest beyond it"
    assert set(rounded(x, "e4m3").tolist()) == set(values.tolist())


def test_e4m3_of_ieee_is_stored_in_the_same_codes_of_ocp_s() -> None:
    """Every finite code, of Trainium2's format, means the same in the dtype that torch has."""
    codes = np.arange(256, dtype=np.uint8)
    ieee = codes.view(ml_dtypes.float8_e4m3).astype(np.float32)
    finite = np.isfinite(ieee)
    assert finite.sum() == 240
    assert np.abs(ieee[finite]).max() == FORMATS["e4m3"].largest
    values = torch.from_numpy(ieee[finite])
    assert dtype("e4m3") == torch.float8_e4m3fn
    assert torch.equal(torch.from_numpy(codes[finite]).view(dtype("e4m3")).float(), values)
    assert stored(values, "e4m3").view(torch.uint8).tolist() == codes[finite].tolist()
    assert torch.equal(widened(stored(values, "e4m3")), values)


@pytest.mark.parametrize(("name", "largest"), [("e4m3fn", 448.0), ("e4m3", 240.0), ("e5m2", 57344.0)])
def test_what_is_too_large_saturates(name: str, largest: float) -> None:
    assert rounded(torch.tensor([1e30, -1e30, largest * 1.2]), name).tolist() == [largest, -largest, largest]


def test_ties_go_to_even() -> None:
    assert rounded(torch.tensor([17.0, 19.0, 21.0, -17.0]), "e4m3fn").tolist() == [16.0, 20.0, 20.0, -16.0]


def test_powers_of_two_are_exact() -> None:
    exponents = torch.arange(-126, 128)
    assert power(exponents).tolist() == [2.0**e for e in exponents.tolist()]


@pytest.mark.parametrize(
    ("scaling", "depth", "shape"),
    [("tensor", -1, (1, 1)), ("row", -1, (3, 1)), ("row", -2, (1, 70)), ("block32", -1, (3, 3)),
     ("block32", -2, (1, 70))],
)  # fmt: skip
def test_each_scale_brings_its_largest_value_to_the_format_s(scaling: str, depth: int, shape: tuple[int, int]) -> None:
    x = torch.randn(3, 70, generator=torch.Generator().manual_seed(1)) * torch.tensor([1e-3, 1.0, 1e3])[:, None]
    elements, found = quantized(x, "e4m3fn", scaling, depth)
    assert found.shape == shape
    largest = elements.abs().amax(dim=(-1, -2) if scaling == "tensor" else depth)
    if scaling != "block32":
        assert set(largest.flatten().tolist()) == {448.0}
    error = elements * scaled_back(found, x, depth) - x
    assert error.norm() / x.norm() < (0.06 if scaling == "block32" else 0.04), "blocks may saturate by an eighth"
    assert error.norm() > 0


def scaled_back(scale: Tensor, like: Tensor, depth: int) -> Tensor:
    index = torch.arange(like.shape[depth]) // (1 if scale.shape[depth] == like.shape[depth] else 32)
    return scale.index_select(depth, index.clamp_max(scale.shape[depth] - 1))


@pytest.mark.parametrize(
    ("largest", "exponent"), [(1.0, -8), (1.99, -8), (5.0, -6), (0.4, -10), (448.0, 0), (511.0, 0)]
)
def test_block_scales_follow_the_ocp_rule(largest: float, exponent: int) -> None:
    x = torch.full((1, 32), largest / 3)
    x[0, 7] = -largest
    elements, scale = quantized(x, "e4m3fn", "block32", -1)
    assert scale.item() == 2.0**exponent
    assert elements.abs().max() == min(rounded(torch.tensor(largest / 2.0**exponent), "e4m3fn").item(), 448.0)


@pytest.mark.parametrize("scaling", ["tensor", "row", "block32"])
def test_zeros_stay_zeros(scaling: str) -> None:
    elements, scale = quantized(torch.zeros(4, 64), "e4m3fn", scaling, -1)
    assert not elements.any()
    assert (scale > 0).all()


@pytest.mark.parametrize("source", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2"])
@pytest.mark.parametrize(("scaling", "depth"), [("tensor", -1), ("row", -1), ("row", -2)])
def test_the_framework_s_cast_follows_the_rule_to_the_bit(
    source: torch.dtype, name: str, scaling: str, depth: int
) -> None:
    x = torch.randn(200, 300, generator=torch.Generator().manual_seed(1)).to(source)
    elements, scale = scaled_impl.cast(x, name, scaling, depth)
    assert torch.equal(scale, scales(x, name, scaling, depth))
    assert torch.equal(elements.float(), quantized(x, name, scaling, depth)[0])


def test_operands_are_seen_as_they_are_multiplied() -> None:
    a, b = torch.randn(8, 64), torch.randn(64, 4)
    inside = Scheme(left="e4m3fn", right="e4m3fn", scaling="block32", outside=False)
    outside = Scheme(left="e4m3fn", right="e4m3fn", scaling="block32", outside=True)
    assert all(map(torch.equal, inside.seen([a, b]), outside.seen(inside.quantized(a, b))))
    cast = Scheme(left="bf16", right="bf16", scaling="none", outside=False).seen([a, b])
    assert torch.equal(cast[0], a.bfloat16())


def test_values_on_a_border_are_in_doubt_and_no_others() -> None:
    x = torch.tensor([[448.0, 17.0, 17.001, 16.0, 0.0, -19.0]])  # the largest makes the scale 1
    scheme = Scheme(left="e4m3fn", right="e4m3fn", scaling="tensor", outside=False)
    found = scheme.doubts([x, x.T])
    assert found is not None
    assert found[0].tolist() == [[0.0, 2.0, 0.0, 0.0, 0.0, 2.0]]
    assert torch.equal(found[1], found[0].T)
    assert Scheme(left="e4m3fn", right="e4m3fn", scaling="row", outside=True).doubts([x, x.T]) is None

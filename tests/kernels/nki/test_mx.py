"""``quantize_mx`` and ``nc_matmul_mx``: what they compute and what they refuse."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from perwatt_kernels.nki_interpreter.api import nisa, nl
from support.nki import BF16, load, refuse, simulate, store, values

LARGEST = {nl.float8_e4m3fn_x4: 8, nl.float8_e5m2_x4: 15}


def quantized(x: Any, dtype: Any, scale: Any = None) -> tuple[Any, Any]:
    data = nl.ndarray((x.shape[0], x.shape[1] // 4), dtype)
    rows = x.shape[0] // 8 if x.shape[0] <= 32 else x.shape[0]
    scale = nl.ndarray((rows, x.shape[1] // 4), nl.uint8) if scale == None else scale  # noqa: E711
    nisa.quantize_mx(data, x, scale)
    return data, scale


def by_hand(a: Any, dtype: Any) -> Any:
    """Values quantized and scaled back: groups of 8 partitions x 4 elements, from the page's formula."""
    exponent_max, element = LARGEST[dtype], {8: ml_dtypes.float8_e4m3fn, 15: ml_dtypes.float8_e5m2}[LARGEST[dtype]]
    out = np.empty(a.shape, np.float64)
    for p in range(0, a.shape[0], 8):
        for f in range(0, a.shape[1], 4):
            group = a[p : p + 8, f : f + 4].astype(np.float64)
            scale = 2.0 ** (np.floor(np.log2(abs(group).max())) - (exponent_max - 1))
            out[p : p + 8, f : f + 4] = (group / scale).astype(np.float32).astype(element).astype(np.float64) * scale
    return out


def product(dtype: Any) -> Any:
    def kernel(a: Any, b: Any) -> Any:
        left, left_scale = quantized(load(a), dtype)
        right, right_scale = quantized(load(b), dtype)
        dst = nl.ndarray((left.shape[1], right.shape[1]), nl.float32, buffer=nl.psum)
        nisa.nc_matmul_mx(dst, left, right, left_scale, right_scale)
        return store(dst)

    return kernel


@pytest.mark.parametrize("dtype", list(LARGEST))
@pytest.mark.parametrize("partitions", [32, 128])
def test_a_product_of_quantized_operands(dtype: Any, partitions: int):
    """Element i of a packed one is a row of its own of the depth."""
    a, b = values(partitions, 64, dtype=BF16), values(partitions, 4 * 48, dtype=BF16)
    a[:8] *= 64
    left, right = (by_hand(x, dtype).reshape(partitions, -1, 4) for x in (a, b))
    expected = np.einsum("pmi,pni->mn", left, right)
    np.testing.assert_allclose(simulate(product(dtype), a, b, target="trn3"), expected, rtol=1e-4, atol=1e-3)


def test_scales_of_several_tensors_share_a_tile():
    a, b = values(64, 64, dtype=BF16), values(64, 64, dtype=BF16)

    def kernel(x: Any, y: Any) -> Any:
        scales = nl.ndarray((64, 16), nl.uint8)
        left, _ = quantized(load(x), nl.float8_e4m3fn_x4, scales[0:36])
        right, _ = quantized(load(y), nl.float8_e4m3fn_x4, scales[4:40])
        dst = nl.ndarray((16, 16), nl.float32, buffer=nl.psum)
        nisa.nc_matmul_mx(dst, left, right, scales[0:36], scales[4:40])
        return store(dst)

    left, right = (by_hand(x, nl.float8_e4m3fn_x4).reshape(64, -1, 4) for x in (a, b))
    expected = np.einsum("pmi,pni->mn", left, right)
    np.testing.assert_allclose(simulate(kernel, a, b, target="trn3"), expected, rtol=1e-4, atol=1e-3)


def test_a_group_of_zeros_has_the_least_scale():
    def kernel(x: Any) -> Any:
        return store(quantized(load(x), nl.float8_e4m3fn_x4)[1])

    assert (simulate(kernel, np.zeros((32, 8), BF16), target="trn3") == 0).all()


def quantizes(dtype: Any = nl.float8_e4m3fn_x4, rows: int = 4, columns: int = 4, scale: Any = nl.uint8) -> Any:
    def kernel(x: Any) -> Any:
        data, scales = nl.ndarray((x.shape[0], columns), dtype), nl.ndarray((rows, 4), scale)
        nisa.quantize_mx(data, load(x), scales)
        return store(scales)

    return kernel


@pytest.mark.parametrize(
    ("kernel", "array", "target", "message"),
    [
        (quantizes(), values(32, 16, dtype=BF16), "trn2", "found gen3, expected gen4 or newer"),
        (quantizes(), values(32, 16), "trn3", "src: found float32"),
        (quantizes(nl.float4_e2m1fn_x4), values(32, 16, dtype=BF16), "trn3", "dst: found float4_e2m1fn_x4"),
        (quantizes(), values(24, 16, dtype=BF16), "trn3", "a multiple of 32 partitions"),
        (quantizes(columns=5), values(32, 16, dtype=BF16), "trn3", "expected \\(32, 4\\)"),
        (quantizes(rows=4), values(64, 16, dtype=BF16), "trn3", "at least 36 partitions"),
        (quantizes(scale=nl.float32), values(32, 16, dtype=BF16), "trn3", "found float32, expected float8_e8m0fnu"),
    ],
)
def test_quantize_mx_refuses(kernel: Any, array: Any, target: str, message: str):
    refuse(kernel, message, array, target=target)


def test_nc_matmul_mx_refuses():
    a, b = values(32, 64, dtype=BF16), values(32, 64, dtype=BF16)

    def plain(x: Any, y: Any) -> Any:
        dst = nl.ndarray((64, 64), nl.float32, buffer=nl.psum)
        nisa.nc_matmul_mx(dst, load(x), load(y), load(x), load(y))
        return store(dst)

    def odd(x: Any, y: Any) -> Any:
        left, ls = quantized(load(x), nl.float8_e5m2_x4)
        right, rs = quantized(load(y), nl.float8_e5m2_x4)
        dst = nl.ndarray((15, 16), nl.float32, buffer=nl.psum)
        nisa.nc_matmul_mx(dst, left[:, :15], right, ls[:, :15], rs)
        return store(dst)

    refuse(plain, "found gen3, expected gen4", a, b)
    refuse(plain, "stationary: found bfloat16", a, b, target="trn3")
    refuse(odd, "15 columns, expected an even number", a, b, target="trn3")

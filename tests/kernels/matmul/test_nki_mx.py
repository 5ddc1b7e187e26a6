"""The NKI product of MXFP8 operands, quantized on the chip or before: accuracy, edges, refusals, cost, mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from perwatt_kernels.matmul import nki_blocks, nki_cost, nki_limits, nki_mx_kernel, quantize
from perwatt_kernels.nki_interpreter import api
from perwatt_kernels.nki_interpreter.cost import Cost, cost
from perwatt_kernels.nki_interpreter.hardware import V3, V4
from support.nki import BF16, REFUSED, simulate
from support.nki_planted import planted

# Rows, columns, depth of the product.
SIZES = [(128, 512, 512), (1, 1, 4), (129, 513, 132), (300, 100, 520), (640, 96, 1164), (97, 1100, 64)]


def sources(m: int, n: int, k: int) -> tuple[Any, Any]:
    """Operands [m, k] and [k, n] with some numbers much greater than others."""
    made = torch.Generator().manual_seed(m + n + k)
    a, b = torch.randn(m, k, generator=made), torch.randn(k, n, generator=made)
    a[:, : k // 2] *= 30
    return a.bfloat16(), b.bfloat16()


def laid(x: Any, turned: bool, left: bool) -> Any:
    """An operand in the layout of a product, as an array of what NumPy has for its format."""
    found = x.float().numpy()
    return np.ascontiguousarray(found if left == turned else found.T)


def quantized(x: Any, form: str, depth: int) -> tuple[Any, Any]:
    """Elements, and exponents of scales plus 127 with the depth first, by the rule of precision policies."""
    elements, scale = quantize.quantized(x, form, "block32", depth)
    exponents = (torch.frexp(scale).exponent - 1 + 127).to(torch.uint8).numpy()
    return elements, np.ascontiguousarray(exponents if depth == -2 else exponents.T)


def seen(x: Any, form: str, depth: int) -> Any:
    """Values of an operand that is quantized and scaled back."""
    elements, scale = quantize.quantized(x, form, "block32", depth)
    return (elements * quantize.spread(scale, x, depth)).double().numpy()


def on_chip(product: str, a: Any, b: Any, lnc: int = 2, kernel: Any = None, wide: bool = True) -> Any:
    function = kernel or nki_mx_kernel.matmul_mx
    left_turned, right_turned = nki_limits.TURNED[product]

    def body(left: Any, right: Any) -> Any:
        return function(left, right, left_turned, right_turned, wide)

    left, right = laid(a, left_turned, True).astype(BF16), laid(b, right_turned, False).astype(BF16)
    return simulate(body, left, right, target="trn3", lnc=lnc)


def before(product: str, a: Any, b: Any, formats: tuple[str, str] = ("e4m3fn", "e4m3fn"), kernel: Any = None) -> Any:
    function = kernel or nki_mx_kernel.matmul_mx_quantized
    left_turned, right_turned = nki_limits.TURNED[product]

    def body(left: Any, right: Any, left_scale: Any, right_scale: Any) -> Any:
        return function(left, right, left_scale, right_scale, left_turned, right_turned, True)

    stored = {"e4m3fn": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}
    (left, left_scale), (right, right_scale) = quantized(a, formats[0], -1), quantized(b, formats[1], -2)
    operands = (
        laid(left, left_turned, True).astype(stored[formats[0]]),
        laid(right, right_turned, False).astype(stored[formats[1]]),
    )
    return simulate(body, *operands, left_scale, right_scale, target="trn3", lnc=2)


@pytest.mark.parametrize("product", list(nki_limits.TURNED))
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_error_is_at_most_twice_that_of_the_policy(product: str, sizes: tuple[int, int, int]):
    """Against the unquantized operands, with torch's arithmetic by the policy's rule for scales."""
    a, b = sources(*sizes)
    expected = a.double().numpy() @ b.double().numpy()
    same = seen(a, "e4m3fn", -1) @ seen(b, "e4m3fn", -2)
    found = on_chip(product, a, b).astype(np.float64)
    assert np.linalg.norm(found - expected) <= 2 * np.linalg.norm(same - expected) + 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("product", list(nki_limits.TURNED))
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_operands_that_arrive_quantized_give_their_own_product(product: str, sizes: tuple[int, int, int]):
    """Blocks of 32 neighbours along the depth, as precision policies have them."""
    a, b = sources(*sizes)
    expected = seen(a, "e4m3fn", -1) @ seen(b, "e4m3fn", -2)
    found = before(product, a, b)
    assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)


def test_gradients_may_have_another_format():
    a, b = sources(130, 140, 300)
    expected = seen(a, "e5m2", -1) @ seen(b, "e4m3fn", -2)
    found = before("dgrad", a, b, ("e5m2", "e4m3fn"))
    assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("product", list(nki_limits.TURNED))
def test_both_kernels_round_to_the_operands_format(product: str):
    a, b = sources(130, 140, 300)
    found, wide = on_chip(product, a, b, wide=False), on_chip(product, a, b, lnc=1)
    np.testing.assert_array_equal(found, wide.astype(BF16))


def test_the_depth_in_sections(monkeypatch: pytest.MonkeyPatch):
    a, b = sources(140, 600, 1200)
    once = on_chip("wgrad", a, b)
    monkeypatch.setattr(nki_blocks, "rows_kept", lambda *sizes: 0)
    monkeypatch.setattr(nki_blocks, "section_steps", lambda *sizes: 1)
    np.testing.assert_allclose(on_chip("wgrad", a, b), once, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("product", "sizes", "gen", "outside", "why"),
    [
        ("fwd", (8, 8, 8), V3, False, "found MXFP8 on gen3, expected gen4"),
        ("fwd", (8, 8, 9), V4, False, "found a depth of 9 in fwd, expected a multiple of 2 such as 8 or 10"),
        ("dgrad", (8, 10, 8), V4, True, "found a depth of 10 in dgrad, expected a multiple of 4 such as 8 or 12"),
    ],
)
def test_what_it_cannot_do(product: str, sizes: tuple[int, int, int], gen: Any, outside: bool, why: str):
    found = nki_limits.unsupported_mx(product, dict(zip("mnk", sizes, strict=True)), gen, outside=outside)
    assert found is not None
    assert found.startswith(why)


def counted(product: str, m: int, n: int, k: int, policy: str) -> Cost:
    name = "matmul" if product == "fwd" else f"matmul_{product}"
    kernel = next(one for one in nki_cost.COSTED if one.operation == name and policy in one.formats)
    launched, args = kernel.build({"m": m, "n": n, "k": k}, kernel.formats[policy], 2)
    return cost(launched, args, V4)


@pytest.mark.skipif(api.real(), reason="counts what the stand-ins record")
@pytest.mark.parametrize("policy", ["mxfp8", "mxfp8_outside"])
@pytest.mark.parametrize("product", list(nki_limits.TURNED))
def test_4096_is_faster_than_pairs_of_8_bit_floats_can_be(product: str, policy: str):
    """Which multiply at twice the rate for 16 bits."""
    found = counted(product, 4096, 4096, 4096, policy)
    assert found.multiply_adds == 4096**3
    assert found.useful_share >= 2.5


MISTAKES = {
    "lost edge tile": (("range(0, height, TILE)", "range(0, height // TILE * TILE, TILE)"),),
    "wrong accumulate flag": (("rights[at], at > 0)", "rights[at], at > 1)"),),
    "unwritten padding": (("if not whole:", "if whole:"),),
    "operands packed in two ways": ((".permute((0, 2, 1, 3))", ".permute((0, 2, 3, 1))"),),
    "odd columns": (("self.even = 2", "self.even = 1"), ("size + size % 2", "size")),
}  # fmt: skip
SCALE_MISTAKES = {
    "scales of the first step": (("first = k // BLOCK + quadrant", "first = quadrant"),),
    "scales of another quadrant": (("at = quadrant * QUADRANT", "at = (parts // QUADRANT - 1 - quadrant) * QUADRANT"),),
    "unpaired depth": (("rows.permute((0, 2, 1))", "rows.reshape((parts, columns, 4))"),),
}


def is_caught(run: Any, expected: Any) -> bool:
    try:
        found = run().astype(np.float64)
    except REFUSED:
        return True
    return bool(np.linalg.norm(found - expected) > 0.08 * np.linalg.norm(expected))


@pytest.mark.parametrize("mistake", [None, *MISTAKES])
def test_planted_mistakes_are_caught(tmp_path: Path, mistake: str | None):
    """Refused by the interpreter, or further from the truth than quantizing explains; without one nothing is."""
    kernel = planted(tmp_path, nki_mx_kernel, "matmul_mx", MISTAKES[mistake] if mistake else ())
    a, b = sources(301, 601, 1200)
    expected = a.double().numpy() @ b.double().numpy()
    assert is_caught(lambda: on_chip("dgrad", a, b, kernel=kernel), expected) == (mistake is not None)


@pytest.mark.parametrize("mistake", [None, *SCALE_MISTAKES])
def test_planted_mistakes_in_scales_are_caught(tmp_path: Path, mistake: str | None):
    kernel = planted(tmp_path, nki_mx_kernel, "matmul_mx_quantized", SCALE_MISTAKES[mistake] if mistake else ())
    a, b = sources(300, 600, 1200)
    expected = seen(a, "e4m3fn", -1) @ seen(b, "e4m3fn", -2)
    assert is_caught(lambda: before("dgrad", a, b, kernel=kernel), expected) == (mistake is not None)

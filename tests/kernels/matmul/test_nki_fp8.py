"""The NKI product of 8-bit floats: accuracy, scales, edge shapes, refusals, cost, planted mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from perwatt_kernels.matmul import nki_blocks, nki_cost, nki_fp8_kernel, nki_limits, quantize
from perwatt_kernels.nki_interpreter import api
from perwatt_kernels.nki_interpreter.cost import Cost, cost
from perwatt_kernels.nki_interpreter.hardware import V2, V3, V4
from support.nki import REFUSED, simulate
from support.nki_planted import planted

# Rows, columns, depth of the product.
SIZES = [(128, 512, 256), (1, 1, 2), (129, 513, 130), (300, 100, 262), (640, 96, 384), (96, 1100, 64)]
STORED = {"e4m3": ml_dtypes.float8_e4m3, "e4m3fn": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}


def operands(product: str, m: int, n: int, k: int, formats: tuple[str, str], scaling: str) -> tuple[Any, ...]:
    """Both operands quantized as precision policies have it, in their layouts; and their scales."""
    made = torch.Generator().manual_seed(m + n + k)
    given = torch.randn(m, k, generator=made), torch.randn(k, n, generator=made) * 3
    found = []
    for x, form, depth, turned in zip(given, formats, (-1, -2), nki_limits.TURNED[product], strict=True):
        elements, scale = quantize.quantized(x, form, scaling, depth)
        laid = elements if (depth == -1) == turned else elements.T
        found.append((laid.numpy().astype(STORED[form]), scale.reshape(scale.shape[-2:]).numpy()))
    (left, left_scale), (right, right_scale) = found
    return left, right, left_scale, right_scale


def plain(product: str, left: Any, right: Any, left_scale: Any, right_scale: Any, dtype: Any) -> Any:
    """The same mathematics: sums of the elements, times both scales."""
    turned = nki_limits.TURNED[product]
    a, b = left.astype(dtype), right.astype(dtype)
    return (a if turned[0] else a.T) @ (b.T if turned[1] else b) * left_scale.astype(dtype) * right_scale.astype(dtype)


def run(product: str, *given: Any, target: str = "trn2", lnc: int = 2, kernel: Any = None, wide: bool = False) -> Any:
    function, (left_turned, right_turned) = kernel or nki_fp8_kernel.matmul_fp8, nki_limits.TURNED[product]

    def body(a: Any, b: Any, scale_a: Any, scale_b: Any) -> Any:
        return function(a, b, scale_a, scale_b, left_turned, right_turned, wide)

    return simulate(body, *given, target=target, lnc=lnc)


@pytest.mark.parametrize("product", list(nki_limits.TURNED))
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("scaling", "wide"), [("tensor", False), ("row", False), ("row", True)])
def test_error_is_at_most_twice_that_of_float32_sums(product: str, sizes: Any, scaling: str, wide: bool):
    given = operands(product, *sizes, ("e4m3", "e5m2"), scaling)
    expected = plain(product, *given, np.float64)
    form = np.float32 if wide else ml_dtypes.bfloat16
    same = plain(product, *given, np.float32).astype(form).astype(np.float64)
    found = run(product, *given, wide=wide)
    assert found.dtype == form
    error = np.linalg.norm(found.astype(np.float64) - expected)
    assert error <= 2 * np.linalg.norm(same - expected) + 2e-7 * np.linalg.norm(expected)


@pytest.mark.parametrize("formats", [("e4m3fn", "e4m3fn"), ("e5m2", "e4m3fn"), ("e4m3", "e4m3")])
def test_formats_of_v4(formats: tuple[str, str]):
    given = operands("dgrad", 130, 140, 300, formats, "row")
    expected = plain("dgrad", *given, np.float64)
    found = run("dgrad", *given, target="trn3", lnc=1).astype(np.float64)
    assert np.linalg.norm(found - expected) <= 0.004 * np.linalg.norm(expected)


def test_v3_reads_codes_of_e4m3fn_as_its_own():
    """Which are those of the same numbers up to 240."""
    left, right, *scales = operands("fwd", 130, 140, 300, ("e4m3", "e4m3"), "tensor")
    same = [one.astype(ml_dtypes.float8_e4m3fn) for one in (left, right)]
    np.testing.assert_array_equal(run("fwd", *same, *scales), run("fwd", left, right, *scales))


def test_the_depth_in_sections(monkeypatch: pytest.MonkeyPatch):
    """Scales are applied once, to the whole sum."""
    monkeypatch.setattr(nki_blocks, "rows_kept", lambda *sizes: 0)
    monkeypatch.setattr(nki_blocks, "section_steps", lambda *sizes: 1)
    given = operands("wgrad", 140, 600, 700, ("e4m3", "e4m3"), "row")
    expected = plain("wgrad", *given, np.float64)
    found = run("wgrad", *given, wide=True)
    assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("product", "sizes", "gen", "dtype", "why"),
    [
        ("fwd", (8, 8, 8), V2, "float8_e4m3", "found 8-bit floats on gen2, expected gen3"),
        ("fwd", (8, 8, 8), V3, "float8_e4m3fn", "found float8_e4m3fn on gen3, expected float8_e4m3"),
        ("fwd", (8, 8, 9), V3, "float8_e4m3", "found a depth of 9 in fwd, expected a multiple of 2 such as 8 or 10"),
        ("wgrad", (1, 8, 8), V4, "float8_e5m2", "found a depth of 1 in wgrad, expected a multiple of 2 such as 2"),
    ],
)
def test_what_it_cannot_do(product: str, sizes: tuple[int, int, int], gen: Any, dtype: str, why: str):
    found = nki_limits.unsupported_fp8(product, dict(zip("mnk", sizes, strict=True)), gen, dtype)
    assert found is not None
    assert found.startswith(why)


def counted(product: str, m: int, n: int, k: int, policy: str, gen: Any = V3) -> Cost:
    name = "matmul" if product == "fwd" else f"matmul_{product}"
    kernel = next(one for one in nki_cost.COSTED if one.operation == name and policy in one.formats)
    launched, args = kernel.build({"m": m, "n": n, "k": k}, kernel.formats[policy], max(gen.lnc))
    return cost(launched, args, gen)


@pytest.mark.skipif(api.real(), reason="counts what the stand-ins record")
@pytest.mark.parametrize("policy", ["fp8_tensor_ieee_outside", "fp8_row_ieee_outside"])
@pytest.mark.parametrize("product", list(nki_limits.TURNED))
def test_4096_takes_half_the_time_of_16_bits(product: str, policy: str):
    found = counted(product, 4096, 4096, 4096, policy)
    assert found.multiply_adds == 4096**3
    assert found.engine("tensor").busy_share >= 0.95
    assert found.useful_share >= 1.9  # of the rate for 16 bits


MISTAKES = {
    "lost edge tile": (("range(0, height, TILE)", "range(0, height // TILE * TILE, TILE)"),),
    "wrong accumulate flag": (("rights[at], at > 0)", "rights[at], at > 1)"),),
    "wrong scale row": (("self.left[row : row + high, 0:1]", "self.left[0:high, 0:1]"),),
    "scales of earlier columns": (("if self.column != column:", "if self.columns == None:"),),
    "unpaired depth": ((".reshape((pairs, size, 2)).permute((0, 2, 1))", ".reshape((pairs, 2, size))"),),
    "operands paired in two ways": (
        ("source.reshape((source.shape[0] // 2, 2, source.shape[1]))",
         "source.reshape((2, source.shape[0] // 2, source.shape[1])).permute((1, 0, 2))"),
    ),
    "one row at a time": (("perf_mode=nisa.matmul_perf_mode.double_row", "perf_mode=nisa.matmul_perf_mode.none"),),
}  # fmt: skip


@pytest.mark.parametrize("mistake", [None, *MISTAKES])
def test_planted_mistakes_are_caught(tmp_path: Path, mistake: str | None):
    """Refused by the interpreter, or further from the truth than rounding explains; without one nothing is."""
    kernel = planted(tmp_path, nki_fp8_kernel, "matmul_fp8", MISTAKES[mistake] if mistake else ())
    given = operands("dgrad", 300, 1100, 520, ("e4m3", "e4m3"), "row")
    given[2][140:] *= 3  # scales that differ by more than chance
    given[3][:, 500:] *= 3
    expected = plain("dgrad", *given, np.float64)
    try:
        found = run("dgrad", *given, kernel=kernel).astype(np.float64)
    except REFUSED:
        assert mistake is not None
        return
    assert (np.linalg.norm(found - expected) > 0.05 * np.linalg.norm(expected)) == (mistake is not None)

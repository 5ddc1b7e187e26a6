"""The NKI product: accuracy of a linear layer's three products at edge shapes, refusals, cost, planted mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from perwatt_kernels.matmul import nki_blocks, nki_cost, nki_kernel, nki_limits
from perwatt_kernels.nki_interpreter import api
from perwatt_kernels.nki_interpreter.cost import Cost, cost
from perwatt_kernels.nki_interpreter.hardware import GENERATIONS, V3
from support.nki import BF16, REFUSED, simulate
from support.nki_planted import planted

SIZES = [(128, 512, 128), (1, 1, 1), (129, 513, 130), (300, 100, 260), (640, 96, 384), (96, 1100, 64)]


def operands(product: str, m: int, n: int, k: int, dtype: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(m + n + k)
    shapes = nki_limits.shapes(product, {"m": m, "n": n, "k": k})
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)  # type: ignore[return-value]


def exact(product: str, left: Any, right: Any) -> Any:
    turned = nki_limits.TURNED[product]
    a, b = left.astype(np.float64), right.astype(np.float64)
    return (a if turned[0] else a.T) @ (b.T if turned[1] else b)


def run(product: str, left: Any, right: Any, target: str = "trn2", lnc: int = 2, kernel: Any = None) -> Any:
    function, (left_turned, right_turned) = kernel or nki_kernel.matmul, nki_limits.TURNED[product]

    def body(a: Any, b: Any) -> Any:
        return function(a, b, left_turned, right_turned)

    return simulate(body, left, right, target=target, lnc=lnc)


@pytest.mark.parametrize("product", list(nki_limits.TURNED))
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "lnc"), [(BF16, 2), (np.float16, 1), (np.float32, 2)], ids=lambda x: getattr(x, "__name__", x)
)
def test_error_is_at_most_twice_that_of_float32_sums(product: str, sizes: tuple[int, int, int], dtype: Any, lnc: int):
    left, right = operands(product, *sizes, dtype)
    expected = exact(product, left, right)
    turned = nki_limits.TURNED[product]
    a, b = (x.astype(np.float32) for x in (left, right))
    plain = ((a if turned[0] else a.T) @ (b.T if turned[1] else b)).astype(dtype).astype(np.float64)
    scale = np.linalg.norm(expected)
    found = run(product, left, right, lnc=lnc).astype(np.float64)
    assert np.linalg.norm(found - expected) <= 2 * np.linalg.norm(plain - expected) + 1e-7 * scale


@pytest.mark.parametrize("target", ["trn1", "trn3"])
@pytest.mark.parametrize("product", list(nki_limits.TURNED))
def test_other_generations(target: str, product: str):
    """On v2 operands are transposed by the tensor engine."""
    left, right = operands(product, 260, 200, 130, BF16)
    found = run(product, left, right, target=target, lnc=1 if target == "trn1" else 2)
    np.testing.assert_allclose(found.astype(np.float64), exact(product, left, right), rtol=1e-2, atol=0.2)


def test_several_blocks_of_rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nki_blocks, "rows_kept", lambda *sizes: 512)
    left, right = operands("dgrad", 1300, 600, 140, BF16)
    found = run("dgrad", left, right, lnc=1)
    np.testing.assert_allclose(found.astype(np.float64), exact("dgrad", left, right), rtol=1e-2, atol=0.3)


@pytest.mark.parametrize("product", list(nki_limits.TURNED))
def test_sections_of_the_depth_add_up_in_float32(product: str, monkeypatch: pytest.MonkeyPatch):
    """As where the depth is too great for SBUF."""
    monkeypatch.setattr(nki_blocks, "rows_kept", lambda *sizes: 0)
    monkeypatch.setattr(nki_blocks, "section_steps", lambda *sizes: 2)
    monkeypatch.setattr(nki_blocks, "deep_rows", lambda *sizes: 512)
    left, right = operands(product, 700, 1100, 650, np.float32)
    expected, found = exact(product, left, right), run(product, left, right, lnc=2)
    assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize(("depth", "rows"), [(4096, 2560), (8192, 1024), (14336, 0)])
def test_rows_that_are_kept_fit(depth: int, rows: int):
    kept = nki_blocks.rows_kept(depth // 128, 2, V3.sbuf_partition)
    assert kept == rows
    assert kept == 0 or (kept * 2 + 1024) * depth // 128 + nki_blocks.SPARE <= V3.sbuf_partition


@pytest.mark.parametrize("product", list(nki_limits.TURNED))
@pytest.mark.parametrize("gen", GENERATIONS, ids=lambda g: g.name)
def test_no_size_is_too_great(product: str, gen: Any):
    assert nki_limits.unsupported(product, {"m": 65536, "n": 128_256, "k": 14336}, gen) is None
    assert nki_limits.unsupported(product, {"m": 0, "n": 1, "k": 1}, gen) is not None


def counted(product: str, m: int, n: int, k: int, gen: Any = V3) -> Cost:
    kernel = next(one for one in nki_cost.COSTED if one.impl == "nki" and one.params["product"] == product)
    launched, args = kernel.build({"m": m, "n": n, "k": k}, "bfloat16", max(gen.lnc))
    return cost(launched, args, gen)


@pytest.mark.skipif(api.real(), reason="counts what the stand-ins record")
@pytest.mark.parametrize("product", list(nki_limits.TURNED))
def test_4096_keeps_the_tensor_engine_busy(product: str):
    """By the model: busy for 96 % of its 2.4 GHz, and HBM traffic at most 1.35 times what is compulsory."""
    found = counted(product, 4096, 4096, 4096)
    assert found.multiply_adds == 4096**3
    assert found.engine("tensor").busy_share >= 0.96
    assert (found.loaded + found.stored) / (3 * 2 * 4096**2) <= 1.35


LAYERS = [(4096, 4096), (1024, 4096), (6144, 4096), (14336, 4096), (4096, 14336)]  # of Llama-3-8B: out, in


@pytest.mark.skipif(api.real(), reason="counts what the stand-ins record")
@pytest.mark.parametrize("product", list(nki_limits.TURNED))
@pytest.mark.parametrize(
    ("n", "k"), [pytest.param(*one, marks=pytest.mark.slow if max(one) > 4096 else ()) for one in LAYERS]
)
def test_the_layers_of_a_model_keep_the_tensor_engine_busy(product: str, n: int, k: int):
    """Llama-3-8B, 8192 tokens, by the model."""
    found = counted(product, 8192, n, k)
    assert found.multiply_adds == 8192 * n * k
    assert found.engine("tensor").busy_share >= 0.96


@pytest.mark.skipif(api.real(), reason="counts what the stand-ins record")
@pytest.mark.parametrize("gen", GENERATIONS, ids=lambda g: g.name)
def test_a_gradient_over_many_tokens_fits(gen: Any):
    """Depths that SBUF does not hold, which come in sections."""
    found = counted("wgrad", 32768, 520, 1100, gen=gen)
    assert found.multiply_adds == 32768 * 520 * 1100


MISTAKES = {
    "lost edge tile": (("range(0, height, TILE)", "range(0, height // TILE * TILE, TILE)"),),
    "lost last columns": (("range(0, columns, COLUMNS)", "range(0, columns // COLUMNS * COLUMNS, COLUMNS)"),),
    "wrong accumulate flag": (("rights[at], at > 0)", "rights[at], at > 1)"),),
    "never starts afresh": (("rights[at], at > 0)", "rights[at], True)"),),
    "stale bank": (
        ("sums = []\n    for offset", "sums = how.kept\n    for offset"),
        ("        sums.append(", "        if len(sums) == offset // TILE: sums.append("),
        ("rights[at], at > 0)", "rights[at], at > 0 or column > 0)"),
        ("self.even = 1", "self.even = 1\n        self.kept = []"),
    ),
    "another bank": (("how.finish(sums[tile], at", "how.finish(sums[tile - 1], at"),),
    "oversize tile": (("TILE, COLUMNS, GROUP = 128, 512, 4", "TILE, COLUMNS, GROUP = 128, 1024, 2"),),
    "pair of formats": (("tile = nl.ndarray((deep, size), source.dtype)",
                         "tile = nl.ndarray((deep, size), source.dtype if size > 512 or k else nl.float32)"),),
    "both cores do all": (("first = nl.program_id(0) * share", "first = 0"),),
    "wrong rows": (("out[row : row + high,", "out[row % 512 : row % 512 + high,"),),
    "always the first depth": (("start : start + size, k : k + deep])", "start : start + size, 0:deep])"),),
    "a lost section": (
        ("if kept > 0:", "if kept < 0:"),
        ("return (sbuf_partition - SPARE - sums) //", "return 2 or 1 //"),
        ("nisa.tensor_tensor(totals[index], totals[index], sums[tile], nl.add)",
         "nisa.tensor_copy(totals[index], sums[tile])"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_planted_mistakes_are_caught(tmp_path: Path, mistake: str):
    """Refused by the interpreter, or further from the truth than rounding explains."""
    kernel = planted(tmp_path, nki_kernel, "matmul", MISTAKES[mistake])
    left, right = operands("fwd", 700, 1100, 384, ml_dtypes.bfloat16)
    expected = exact("fwd", left, right)
    try:
        found = run("fwd", left, right, kernel=kernel).astype(np.float64)
    except REFUSED:
        return
    assert np.linalg.norm(found - expected) > 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize("mistake", ["stale bank", "another bank"])
def test_banks_are_told_apart_where_their_shapes_do_not(tmp_path: Path, mistake: str):
    kernel = planted(tmp_path, nki_kernel, "matmul", MISTAKES[mistake])
    left, right = operands("fwd", 1024, 1024, 256, ml_dtypes.bfloat16)
    expected = exact("fwd", left, right)
    found = run("fwd", left, right, kernel=kernel).astype(np.float64)
    assert np.linalg.norm(found - expected) > 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize("sections", [False, True])
def test_without_a_mistake_nothing_is_caught(tmp_path: Path, sections: bool):
    pieces = MISTAKES["a lost section"][:2]
    kernel = planted(tmp_path, nki_kernel, "matmul", pieces if sections else ())
    left, right = operands("fwd", 700, 1100, 384, ml_dtypes.bfloat16)
    expected = exact("fwd", left, right)
    found = run("fwd", left, right, kernel=kernel).astype(np.float64)
    assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)

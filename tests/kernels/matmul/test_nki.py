"""The NKI product: accuracy of a linear layer's three products at edge shapes, refusals, cost, planted mistakes."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from perwatt_kernels.matmul import nki_cost, nki_kernel, nki_limits
from perwatt_kernels.nki_interpreter import api
from perwatt_kernels.nki_interpreter.cost import Cost, cost
from perwatt_kernels.nki_interpreter.hardware import GENERATIONS, V2, V3, V4
from support.nki import BF16, REFUSED, simulate

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
    def body(a: Any, b: Any) -> Any:
        return (kernel or nki_kernel.matmul)(a, b, *nki_limits.TURNED[product])

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
def test_other_generations(target: str):
    left, right = operands("wgrad", 260, 200, 130, BF16)
    found = run("wgrad", left, right, target=target, lnc=1 if target == "trn1" else 2)
    np.testing.assert_allclose(found.astype(np.float64), exact("wgrad", left, right), rtol=1e-2, atol=0.2)


def test_several_blocks_of_rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nki_kernel, "rows_kept", lambda *sizes: 512)
    left, right = operands("dgrad", 1300, 600, 140, BF16)
    found = run("dgrad", left, right, lnc=1)
    np.testing.assert_allclose(found.astype(np.float64), exact("dgrad", left, right), rtol=1e-2, atol=0.3)


@pytest.mark.parametrize(("depth", "rows"), [(4096, 2560), (8192, 1024), (14336, 512)])
def test_rows_that_are_kept_fit(depth: int, rows: int):
    kept = nki_kernel.rows_kept(depth, 2, V3.sbuf_partition)
    assert kept == rows
    assert kept == 512 or (kept * 2 + 1024) * depth // 128 + nki_kernel.SPARE <= V3.sbuf_partition


@pytest.mark.parametrize(
    ("product", "sizes", "gen", "why"),
    [
        ("fwd", (8, 8, 8), V2, "found fwd on gen2, expected wgrad"),
        ("dgrad", (8, 8, 8), V2, "found dgrad on gen2, expected wgrad"),
        ("wgrad", (50_000, 8, 8), V3, "found a depth of 50000, expected at most 25600 on gen3"),
        ("fwd", (8, 8, 50_000), V4, "found a depth of 50000, expected at most 29696 on gen4"),
    ],
)
def test_what_it_cannot_do(product: str, sizes: tuple[int, int, int], gen: Any, why: str):
    found = nki_limits.unsupported(product, dict(zip("mnk", sizes, strict=True)), gen)
    assert found is not None
    assert found.startswith(why)


def counted(product: str, m: int, n: int, k: int, gen: Any = V3) -> Cost:
    kernel = next(one for one in nki_cost.COSTED if one.params["product"] == product)
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


@pytest.mark.skipif(api.real(), reason="counts what the stand-ins record")
@pytest.mark.parametrize("gen", GENERATIONS, ids=lambda g: g.name)
def test_the_greatest_depth_still_fits(gen: Any):
    most = {2: 21504, 3: 25600, 4: 29696}[gen.number]
    assert nki_limits.unsupported("wgrad", {"m": most, "n": 8, "k": 8}, gen) is None
    assert nki_limits.unsupported("wgrad", {"m": most + 1, "n": 8, "k": 8}, gen) is not None
    assert nki_limits.unsupported("wgrad", {"m": most // 2 + 1, "n": 8, "k": 8}, gen, size=4) is not None
    assert counted("wgrad", most, 1300, 1100, gen=gen).multiply_adds == most * 1300 * 1100


def planted(folder: Path, before: str = "", after: str = "", extra: str = "") -> Any:
    """The kernel with a mistake in its source."""
    source = Path(nki_kernel.__file__).read_text()
    wrong = source.replace(before, after) if before else source
    assert bool(before) == (wrong != source), "the mistake was not planted"
    file = folder / "planted.py"
    file.write_text(wrong + extra)
    return runpy.run_path(str(file))["matmul"]


MISTAKES = {
    "lost edge tile": ("min(step, stop - at)", "step if stop - at >= step else 0 or 1"),
    "lost last columns": ("parts(0, out.shape[1], COLUMNS)", "parts(0, out.shape[1] // COLUMNS * COLUMNS, COLUMNS)"),
    "wrong accumulate flag": ("accumulate=at > 0", "accumulate=at > 1"),
    "never starts afresh": ("accumulate=at > 0", "accumulate=True"),
    "stale bank": (
        "sums = [nl.ndarray((high, width), nl.float32, buffer=nl.psum) for _, high in parts(0, height, TILE)]",
        "sums = STALE[:0] or STALE.extend(nl.ndarray((high, width), nl.float32, buffer=nl.psum) for _, high in"
        " parts(0, height, TILE)) or STALE[: -(-height // TILE)]",
    ),
    "oversize tile": ("TILE, COLUMNS, GROUP = 128, 512, 4", "TILE, COLUMNS, GROUP = 128, 1024, 2"),
    "pair of formats": ("tile = nl.ndarray((deep, size), source.dtype)",
                        "tile = nl.ndarray((deep, size), source.dtype if size > 512 or k else nl.float32)"),
    "both cores do all": ("first = nl.program_id(0) * share", "first = 0"),
    "wrong rows": ("out[row + at * TILE : row + at * TILE + high", "out[row : row + high"),
    "always the first depth": ("source[start : start + size, k : k + deep]", "source[start : start + size, 0:deep]"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_planted_mistakes_are_caught(tmp_path: Path, mistake: str):
    """Refused by the interpreter, or further from the truth than rounding explains."""
    before, after = MISTAKES[mistake]
    extra = "\nSTALE: list = []\n" if mistake == "stale bank" else ""
    kernel = planted(tmp_path, before, after, extra)
    left, right = operands("fwd", 700, 1100, 384, ml_dtypes.bfloat16)
    expected = exact("fwd", left, right)
    try:
        found = run("fwd", left, right, kernel=kernel).astype(np.float64)
    except REFUSED:
        return
    assert np.linalg.norm(found - expected) > 0.05 * np.linalg.norm(expected)


def test_without_a_mistake_nothing_is_caught(tmp_path: Path):
    kernel = planted(tmp_path)
    left, right = operands("fwd", 700, 1100, 384, ml_dtypes.bfloat16)
    expected = exact("fwd", left, right)
    found = run("fwd", left, right, kernel=kernel).astype(np.float64)
    assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)

"""Attention forward in NKI: accuracy at edge shapes and extreme scores, refusals, cost, planted mistakes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from perwatt_kernels.attention import nki_cost, nki_forward, nki_limits, nki_operands, nki_statistics, nki_work
from perwatt_kernels.nki_interpreter import api, rates, schedule
from perwatt_kernels.nki_interpreter.api import nisa, nl
from perwatt_kernels.nki_interpreter.cost import Cost, of_run
from perwatt_kernels.nki_interpreter.hardware import GENERATIONS, V2, V3, V4, generation
from perwatt_kernels.nki_interpreter.launch import Kernel, Spec, interpret
from support.nki import REFUSED, simulate

Operands = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
STAND_INS = pytest.mark.skipif(api.real(), reason="counts what the stand-ins record")


def operands(
    batch: int, heads: int, kv_heads: int, q_len: int, kv_len: int, dim: int, dtype: torch.dtype = torch.bfloat16
) -> Operands:
    made = torch.Generator().manual_seed(q_len + kv_len + dim)
    shapes = [(batch, heads, q_len, dim), *[(batch, kv_heads, kv_len, dim)] * 2]
    return tuple(torch.randn(shape, generator=made).to(dtype) for shape in shapes)  # type: ignore[return-value]


def written_out(given: Operands, causal: bool, scale: float, wide: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Result and log-sum-exp, sums in a wide format; weights have the operands' where that is not float64."""
    group = given[0].shape[1] // given[1].shape[1]
    q, k, v = given[0].to(wide), *(t.to(wide).repeat_interleave(group, dim=1) for t in given[1:])
    scores = q @ k.mT * scale
    if causal:
        seen = torch.arange(q.shape[2])[:, None] >= torch.arange(k.shape[2])[None, :]
        scores = scores.masked_fill(~seen, float("-inf"))
    weights = torch.softmax(scores, dim=-1)
    if wide is not torch.float64:
        weights = weights.to(given[0].dtype).to(wide)
    return weights @ v, torch.logsumexp(scores, dim=-1)


def run(
    given: Operands, causal: bool = True, target: str = "trn2", lnc: int = 2, scale: float | None = None,
    kernel: Any = None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    factor = scale or given[0].shape[-1] ** -0.5

    def body(q: Any, k: Any, v: Any) -> Any:
        return (kernel or nki_forward.attention_forward)(q, k, v, causal, factor)

    out, lse = simulate(body, *given, target=target, lnc=lnc)
    return out.double(), lse.double()


def errors(
    found: tuple[torch.Tensor, torch.Tensor], given: Operands, causal: bool, scale: float | None = None
) -> list[tuple[float, float]]:
    """Of the result and of the log-sum-exp: error, and that of the same mathematics in torch."""
    factor, dtype = scale or given[0].shape[-1] ** -0.5, given[0].dtype
    exact = written_out(given, causal, factor, torch.float64)
    plain = written_out(given, causal, factor, torch.float32)
    same = (plain[0].to(dtype).double(), plain[1].double())
    return [(float((f - e).norm()), float((p - e).norm())) for f, e, p in zip(found, exact, same, strict=True)]


def judge(
    found: tuple[torch.Tensor, torch.Tensor], given: Operands, causal: bool, scale: float | None = None
) -> None:  # fmt: skip
    (out, out_same), (lse, lse_same) = errors(found, given, causal, scale)
    assert out <= 2 * out_same + 1e-7 * given[2].double().norm()
    assert lse <= 2 * lse_same + 1e-6 * found[1].numel() ** 0.5


SHAPES = [  # batch, heads, kv_heads, q_len, kv_len, dim
    (1, 1, 1, 1, 1, 16),
    (1, 2, 2, 127, 127, 64),
    (1, 4, 2, 129, 129, 128),
    (2, 2, 1, 130, 513, 80),
    (1, 3, 1, 513, 260, 128),
    (1, 2, 1, 1, 700, 64),
    (1, 1, 1, 257, 1, 128),
    (1, 2, 2, 640, 1100, 16),
    (1, 32, 32, 64, 64, 16),
    (1, 24, 8, 161, 161, 16),
    (1, 8, 8, 1024, 77, 16),
    (1, 1, 1, 4096, 77, 16),
]


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_error_is_at_most_twice_that_of_torch(shape: tuple[int, ...], causal: bool, dtype: torch.dtype):
    given = operands(*shape, dtype=dtype)
    judge(run(given, causal, lnc=1 if dtype is torch.float16 else 2), given, causal)


@pytest.mark.parametrize("target", ["trn1", "trn3"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
def test_other_generations(target: str, causal: bool):
    given = operands(1, 4, 2, 300, 600, 80)
    judge(run(given, causal, target=target, lnc=1 if target == "trn1" else 2), given, causal)


@pytest.mark.parametrize("lnc", [1, 2])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
def test_several_sections(monkeypatch: pytest.MonkeyPatch, causal: bool, lnc: int):
    """What is longer than a section is rescaled wherever the maximum rises; here it does so in the last one too."""
    monkeypatch.setattr(nki_work, "SECTION", 512)
    given = operands(1, 2, 1, 1300, 1300, 64)
    given[1][:, :, 1150] = 4 * given[0][:, :1, 1200]
    judge(run(given, causal, lnc=lnc), given, causal)


def test_a_head_that_fills_the_memory(monkeypatch: pytest.MonkeyPatch):
    """Where keys of two heads do not fit, those of one go before those of the next come."""
    monkeypatch.setattr(nki_operands, "SPARE", V3.sbuf_partition)
    given = operands(2, 4, 2, 300, 700, 64)
    judge(run(given, causal=False), given, causal=False)


@STAND_INS
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("gen", GENERATIONS, ids=lambda g: g.name)
def test_many_short_items_fit_in_psum(gen: Any, causal: bool):
    """Sums of each hold a bank until they are read; a head is one item, one of few keys, or several."""
    for q_len, kv_len in ((1, 1), (16, 16), (64, 64), (127, 200), (129, 129), (240, 240), (260, 1), (300, 77)):
        queries, keys = Spec((2, 24, q_len, 16), "bfloat16"), Spec((2, 8, kv_len, 16), "bfloat16")
        launched = Kernel(nki_forward.attention_forward, max(gen.lnc))
        found = interpret(launched, (queries, keys, keys, causal, 0.25), {}, gen)
        assert found.results[0].shape == queries.shape


def _large(given: Operands) -> None:
    given[0].mul_(30)


def _equal(given: Operands) -> None:
    given[1].fill_(0.5)


def _huge_row(given: Operands) -> None:
    given[0][:, :, 131] *= 1000


def _huge_key(given: Operands) -> None:
    """Rows before it do not see it, and must not underflow for its sake."""
    given[1][:, :, 200] *= 3000


def _steep(given: Operands) -> None:
    """All weight of a row on its last key."""
    given[1][:] = given[1][:, :, :1] * torch.linspace(0.01, 1, given[1].shape[2])[None, None, :, None]
    given[0][:] = 20 * given[1][:, :, -1:].repeat_interleave(given[0].shape[1] // given[1].shape[1], dim=1)


@pytest.mark.parametrize("scale", [None, 3.0])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("change", [_large, _equal, _huge_row, _huge_key, _steep], ids=lambda f: f.__name__[1:])
def test_extreme_scores(monkeypatch: pytest.MonkeyPatch, change: Any, causal: bool, scale: float | None):
    monkeypatch.setattr(nki_work, "SECTION", 512)
    given = operands(1, 2, 1, 260, 700, 64)
    change(given)
    found = run(given, causal, scale=scale)
    assert torch.isfinite(found[0]).all()
    judge(found, given, causal, scale)


SIZES = {"batch": 1, "heads": 8, "kv_heads": 2, "q_len": 4096, "kv_len": 4096, "head_dim": 128}


@pytest.mark.parametrize(
    ("changed", "gen", "size", "why"),
    [
        ({"head_dim": 192}, V3, 2, "found head_dim 192, expected 1 to 128; nearest 128"),
        ({"head_dim": 0}, V3, 2, "found head_dim 0, expected 1 to 128; nearest 1"),
        ({"kv_heads": 3}, V3, 2, "found 8 heads for 3 of keys, expected a multiple of those; nearest 9"),
        ({"q_len": 40000}, V4, 2, "found q_len 40000, expected 1 to 32768; nearest 32768"),
        ({"kv_len": 0}, V4, 2, "found kv_len 0, expected 1 to 32768"),
        ({"kv_len": 32768}, V2, 4, "found kv_len 32768 of 4 bytes, expected at most 16896 on gen2"),
        ({"kv_len": 32768}, V3, 4, "found kv_len 32768 of 4 bytes, expected at most 20992 on gen3"),
    ],
)
def test_what_it_cannot_do(changed: dict[str, int], gen: Any, size: int, why: str):
    found = nki_limits.unsupported("fwd", {**SIZES, **changed}, gen, size)
    assert found is not None
    assert found.startswith(why)
    assert nki_limits.unsupported("fwd", SIZES, gen, size) is None


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_scales_that_the_mask_does_not_survive_are_refused(scale: float):
    assert "expected one above 0" in (nki_limits.unsupported("fwd", SIZES, V3, scale=scale) or "")


@STAND_INS
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("gen", GENERATIONS, ids=lambda g: g.name)
def test_the_most_keys_fit(gen: Any, size: int):
    lengths = range(512, 32769, 512)
    most = max(n for n in lengths if nki_limits.unsupported("fwd", {**SIZES, "kv_len": n}, gen, size) is None)
    dtype = "bfloat16" if size == 2 else "float32"
    queries, keys = Spec((1, 1, 129, 128), dtype), Spec((1, 1, most, 128), dtype)
    found = interpret(Kernel(nki_forward.attention_forward), (queries, keys, keys, False, 1.0), {}, gen)
    assert found.results[0].shape == queries.shape


def counted(operation: str, shape: tuple[int, ...], target: str) -> Callable[[], Cost]:
    """A kernel's stream of instructions is recorded once; its cost is worked out whenever it is asked for."""
    kernel = next(one for one in nki_cost.COSTED if one.operation == operation)
    sizes, gen = dict(zip(kernel.extents, shape, strict=True)), generation(target)
    launched, args = kernel.build(sizes, "bfloat16", max(gen.lnc))
    recorded = interpret(launched, args, {}, gen)
    return lambda: of_run(recorded).of_operation(kernel.useful(sizes))


@STAND_INS
@pytest.mark.parametrize(("target", "least", "with_more"), [("trn2", 0.58, 0.5), ("trn3", 0.62, 0.6)])
def test_causal_attention_of_8192_keeps_the_engines_busy(
    monkeypatch: pytest.MonkeyPatch, target: str, least: float, with_more: float
):
    """By the model, of what two cores' tensor engines do at 2.4 GHz; masked and transposed elements do not count.

    The model knows of no overhead of an instruction that nothing waits for. With 64 cycles more for each of
    Vector's and Scalar's the share is still above the 45 % that are asked for.
    """
    found = counted("attention", (1, 2, 2, 8192, 128), target)
    assert found().multiply_adds == 2 * 2 * 128 * 8192 * 8193 // 2
    assert found().useful_share >= least
    cycles = rates.engine_cycles
    monkeypatch.setattr(
        schedule, "engine_cycles", lambda one, gen: cycles(one, gen) + 64 * (one.engine in ("vector", "scalar"))
    )
    assert found().useful_share >= with_more


def turned_by_dma(run: Any, at: int) -> None:
    """What AWS's kernel does with the weights, in place of transposes on the tensor engine."""
    weights = run["weights"][at]
    rows, width = weights.shape
    turned = nl.ndarray((min(width, 128), -(-width // 128) * rows), weights.dtype)
    for tile in range(-(-width // 128)):
        deep = min(128, width - tile * 128)
        nisa.dma_transpose(turned[0:deep, tile * rows : (tile + 1) * rows], weights[:, tile * 128 : tile * 128 + deep])
    run["turned"][at], run["weights"][at] = turned, 0


@STAND_INS
@pytest.mark.parametrize(("operation", "share"), [("attention", 0.44), ("attention_full", 0.50)])
def test_weights_turned_by_dma_are_bound_by_it(monkeypatch: pytest.MonkeyPatch, operation: str, share: float):
    """The figures that docs/nki.md has to set measured ones beside."""
    monkeypatch.setattr(nki_forward, "_turn", turned_by_dma)
    monkeypatch.setattr(nki_forward, "BEHIND", 8)
    monkeypatch.setattr(nki_forward, "LATE", 9)
    found = counted(operation, (1, 2, 2, 4096, 128), "trn2")()
    assert found.bound == "dma"
    assert found.useful_share == pytest.approx(share, abs=0.015)


@STAND_INS
def test_masked_tiles_are_skipped():
    causal, full = (counted(name, (1, 2, 2, 2048, 128), "trn2")() for name in ("attention", "attention_full"))
    products = [one.engine("tensor").cycles or 0.0 for one in (causal, full)]
    assert products[0] < 0.58 * products[1]  # 17/32 of the tiles of 128 x 128, and the mask itself


@STAND_INS
def test_both_cores_have_as_much_to_do():
    """Also where there is one head of keys, whose tiles they share."""
    queries, keys = Spec((1, 1, 4096, 64), "bfloat16"), Spec((1, 1, 4096, 64), "bfloat16")
    found = interpret(Kernel(nki_forward.attention_forward, 2), (queries, keys, keys, True, 0.125), {}, V3)
    lengths = [sum(one.engine == "tensor" for one in stream) for stream in found.streams]
    assert max(lengths) < 1.02 * min(lengths)


FAR = "further from the truth than rounding explains"
MISTAKES = {  # file, what stands there, what is planted, what catches it
    "mask off by one": (nki_operands, "cmp_op=nl.greater_equal", "cmp_op=nl.greater", FAR),
    "mask one key late": (nki_operands, "cmp_op=nl.greater_equal)", "cmp_op=nl.greater_equal, offset=1)", FAR),
    "missing rescale": (nki_forward, "carried, before, nl.multiply, factor", "carried, before, nl.multiply, 1.0", FAR),
    "sum not rescaled": (
        nki_forward, '["totals"][number - 1], nl.multiply, factor', '["totals"][number - 1], nl.multiply, 1.0', FAR
    ),
    "swapped kv head": (
        nki_operands, 'loaded.append(transposed(run["k"], item["pair"]',
        'loaded.append(transposed(run["k"], run["k"].shape[1] - 1 - item["pair"]', FAR
    ),
    "heads of queries interleaved": (nki_work, "head // group", "head % pairs", FAR),
    "unwritten output": (nki_forward, "nisa.dma_copy(", "rows == TILE and nisa.dma_copy(", "were never written"),
    "unwritten log-sum-exp": (nki_statistics, "STEPS = 4", "STEPS = 3", "were never written"),
    "stale PSUM bank": (
        nki_forward, "_scale(run, at, psum)\n",
        '_scale(run, at, psum if min(width, 2 * rows) < 256 else run.setdefault("stale", psum))\n', FAR
    ),
    "race between LNC cores": (nki_forward, "nl.program_id(0), nl.num_programs())", "0, 1)", "race on"),
    "lost edge tile": (nki_forward, 'range(-(-block["width"] // TILE))', 'range(max(1, block["width"] // TILE))', FAR),
    "wrong accumulate flag": (nki_forward, 'not (block["first"] and tile == 0)', "tile > 0", FAR),
    "never starts afresh": (
        nki_forward, 'not (block["first"] and tile == 0)', "True", "accumulation onto what was never written"
    ),
    "pair of formats": (nki_forward, 'scores.shape, run["q"].dtype', "scores.shape, nl.float32", "with bfloat16"),
    "ninth bank": (nki_forward, '["sums"][number], run["totals"][number] = 0, 0', '["totals"][number] = 0', "8 banks"),
}  # fmt: skip


def planted(folder: Path, monkeypatch: pytest.MonkeyPatch, mistake: str) -> Any:
    """The kernel with a mistake in the source of one of its files, and short blocks and sections."""
    modules = [nki_work, nki_operands, nki_statistics, nki_forward]
    wrong, before, after, _ = MISTAKES.get(mistake, (nki_forward, "", "", ""))
    for module in modules:
        source = Path(module.__file__).read_text().replace("128, 512, 8192", "128, 256, 512")
        if module is wrong:
            assert before in source, "the mistake was not planted"
            source = source.replace(before, after) if before else source
        for other in modules:
            source = source.replace(other.__name__, other.__name__.replace("perwatt_kernels.attention.", folder.name))
        (folder / f"{folder.name}{module.__name__.rpartition('.')[2]}.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    return import_module(f"{folder.name}nki_forward").attention_forward


def caught(kernel: Any) -> str:
    """What the interpreter refuses the kernel for, or that its results are wrong; empty where nothing is."""
    given = operands(1, 4, 2, 701, 1030, 64)
    given[1][:, :, 600] = 2 * given[0][:, ::2, 650]
    try:
        found = run(given, kernel=kernel)
    except REFUSED as error:
        return str(error)
    (out, out_same), (lse, lse_same) = errors(found, given, causal=True)
    return "" if out <= 2 * out_same and lse <= 2 * lse_same + 1e-4 else FAR


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_planted_mistakes_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str):
    """For what is wrong with them; the real simulator says it in other words, or by the results."""
    found = caught(planted(tmp_path, monkeypatch, mistake))
    assert found
    assert api.real() or MISTAKES[mistake][3] in found


def test_without_a_mistake_nothing_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert not caught(planted(tmp_path, monkeypatch, "none"))

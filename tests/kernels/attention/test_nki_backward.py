"""Attention's gradients in NKI: accuracy at edge shapes, refusals, what fits, cost, planted mistakes."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from perwatt_kernels.attention import nki_backward, nki_backward_steps, nki_cost, nki_limits
from perwatt_kernels.attention.nki_forward import attention_forward
from perwatt_kernels.nki_interpreter import api
from perwatt_kernels.nki_interpreter.cost import Cost, cost
from perwatt_kernels.nki_interpreter.hardware import GENERATIONS, V2, V3, V4
from perwatt_kernels.nki_interpreter.launch import Kernel, Spec
from support.nki import BF16, REFUSED, simulate

Gradients = tuple[Any, Any, Any]
TORCH = {BF16: torch.bfloat16, np.float16: torch.float16, np.float32: torch.float32}


@dataclass(frozen=True)
class Case:
    """Shapes of an attention, and how large its logits get."""

    heads: int
    kv_heads: int
    q_len: int
    kv_len: int
    dim: int
    causal: bool = True
    batch: int = 1
    logits: float = 1.0

    @property
    def scale(self) -> float:
        return float(self.dim**-0.5)

    def operands(self, dtype: Any) -> tuple[Any, Any, Any, Any]:
        """q, k, v and the gradient of the output."""
        rng = np.random.default_rng(self.q_len + self.dim)
        queries = (self.batch, self.heads, self.q_len, self.dim)
        keys = (self.batch, self.kv_heads, self.kv_len, self.dim)
        q, k, v, d_out = (rng.standard_normal(shape) for shape in (queries, keys, keys, queries))
        return tuple(x.astype(dtype) for x in (q * self.logits, k, v, d_out))  # type: ignore[return-value]


CASES = [
    Case(1, 1, 1, 1, 16),
    Case(2, 1, 127, 127, 80),
    Case(1, 1, 129, 513, 128, causal=False),
    Case(2, 2, 513, 513, 64),
    Case(4, 1, 640, 640, 128),  # of one key head the cores share the query heads
    Case(3, 1, 640, 640, 64),  # or the blocks
    Case(2, 1, 300, 700, 64, causal=False, batch=2),
    Case(3, 1, 700, 300, 80),
    Case(2, 1, 300, 1100, 16),  # keys that no query sees
    Case(1, 1, 1030, 1030, 64, logits=30.0),
    Case(1, 1, 1030, 1030, 128, causal=False),
]


def exact(case: Case, q: Any, k: Any, v: Any, d_out: Any) -> tuple[Any, Any, Gradients]:
    """Output, log-sum-exp and gradients in float64."""
    group = case.heads // case.kv_heads
    q, k, v, d_out = (x.astype(np.float64) for x in (q, k, v, d_out))
    keys, values = np.repeat(k, group, 1), np.repeat(v, group, 1)
    scores = case.scale * q @ keys.swapaxes(-1, -2)
    if case.causal:
        scores = np.where(np.arange(case.q_len)[:, None] >= np.arange(case.kv_len), scores, -np.inf)
    most = scores.max(-1, keepdims=True)
    total = np.exp(scores - most).sum(-1, keepdims=True)
    weights = np.exp(scores - most) / total
    out = weights @ values
    d_scores = weights * (d_out @ values.swapaxes(-1, -2) - (out * d_out).sum(-1, keepdims=True))
    found = (d_scores.swapaxes(-1, -2) @ q * case.scale, weights.swapaxes(-1, -2) @ d_out)
    dk, dv = (x.reshape(case.batch, case.kv_heads, group, case.kv_len, case.dim).sum(2) for x in found)
    return out, (most + np.log(total))[..., 0], (case.scale * d_scores @ keys, dk, dv)


def by_torch(case: Case, dtype: Any, out: Any, lse: Any, *operands: Any) -> list[Any]:
    """The same mathematics in the framework: sums in float32, weights and gradients of scores in the format."""
    form = TORCH[dtype]
    q, k, v, d_out, result = (torch.from_numpy(x.astype(dtype).astype(np.float32)) for x in (*operands, out))
    group = case.heads // case.kv_heads
    keys, values = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = q @ keys.mT * case.scale
    if case.causal:
        scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), float("-inf"))
    weights = torch.exp(scores - torch.from_numpy(lse.astype(np.float32))[..., None])
    d_scores = (weights * (d_out @ values.mT - (result * d_out).sum(-1, keepdim=True))).to(form).float()
    of_keys = (d_scores.mT @ q * case.scale, weights.to(form).float().mT @ d_out)
    summed = (x.unflatten(1, (case.kv_heads, group)).sum(2) for x in of_keys)
    return [x.to(form).double().numpy() for x in (d_scores @ keys * case.scale, *summed)]


def run(case: Case, operands: Any, out: Any, lse: Any, target: str = "trn2", lnc: int = 2, kernel: Any = None) -> Any:
    q, k, v, d_out = operands
    function, causal, scale = kernel or nki_backward.attention_backward, case.causal, case.scale

    def body(*arrays: Any) -> Any:
        return function(*arrays, causal, scale)

    arrays = (q, k, v, out.astype(q.dtype), lse.astype(np.float32), d_out)
    return [x.astype(np.float64) for x in simulate(body, *arrays, target=target, lnc=lnc)]


def off(found: Any, expected: Any) -> list[float]:
    """Errors, as shares of what is right."""
    return [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(found, expected, strict=True)]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "target", "lnc"),
    [(BF16, "trn2", 2), (np.float16, "trn2", 1), (np.float32, "trn3", 2)],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_error_is_at_most_twice_that_of_torch(case: Case, dtype: Any, target: str, lnc: int):
    operands = case.operands(dtype)
    out, lse, expected = exact(case, *operands)
    plain = by_torch(case, dtype, out, lse, *operands)
    for a, b, right in zip(run(case, operands, out, lse, target, lnc), plain, expected, strict=True):
        least = 1e-6 * np.sqrt(right.size)  # what float32 sums leave where gradients cancel
        assert np.linalg.norm(a - right) <= 2 * np.linalg.norm(b - right) + least


@pytest.mark.parametrize("case", [Case(2, 1, 640, 640, 80), Case(1, 1, 130, 300, 64, causal=False)], ids=str)
def test_on_the_oldest_generation_the_tensor_engine_transposes(case: Case):
    operands = case.operands(BF16)
    out, lse, expected = exact(case, *operands)
    assert max(off(run(case, operands, out, lse, "trn1", 1), expected)) < 0.01


@pytest.mark.parametrize("kept", [(1, True), (2, True), (2, False), (1, False)], ids=str)
def test_several_passes_over_the_heads_of_a_group(monkeypatch: pytest.MonkeyPatch, kept: tuple[int, bool]):
    def fewer(*sizes: int) -> tuple[int, bool]:
        return kept

    monkeypatch.setattr(nki_backward, "kept_heads", fewer)
    case = Case(6, 2, 900, 1000, 32)
    operands = case.operands(BF16)
    out, lse, expected = exact(case, *operands)
    assert max(off(run(case, operands, out, lse), expected)) < 0.01


@pytest.mark.parametrize("case", [Case(4, 2, 300, 300, 64), Case(2, 1, 1100, 1100, 64)], ids=str)
def test_gradients_of_the_forward_kernels_own_results(case: Case):
    operands = case.operands(BF16)
    causal, scale = case.causal, case.scale

    def forward(q: Any, k: Any, v: Any) -> Any:
        return attention_forward(q, k, v, causal, scale)

    out, lse = simulate(forward, *operands[:3], target="trn2", lnc=2)
    _, _, expected = exact(case, *operands)
    assert max(off(run(case, operands, out, lse), expected)) < 0.01


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("tiles", [1, 2, 6, 7, 8, 10, 11, 12, 20])
@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (3, 1), (4, 1), (9, 3), (2, 2)])
def test_nothing_is_loaded_over_what_is_still_used(causal: bool, tiles: int, heads: int, kv_heads: int):
    """Tiles are used until ``LEAD + 2`` steps after they are loaded, keys one more."""
    length, group = tiles * 128 - 5, heads // kv_heads
    for room in (0, 3, 12, 30, 200):  # tiles that SBUF has room for
        sbuf = nki_backward_steps.fixed_bytes(64, 2) + room * 2048
        kept, resident = nki_backward_steps.kept_heads(group, length, 64, 2, sbuf)
        for core in range(2):
            shapes = (1, heads, length, 64), (1, kv_heads, length, 64)
            steps = nki_backward_steps.steps_of(*shapes, causal, kept, resident, core, 2)
            used: dict[tuple[str, int], int] = {}
            for at, step in enumerate(steps):
                block = step["turn"] % nki_backward_steps.UNDER_WAY
                assert not step["loads"] or at - used.get(("tile", step["place"]), -99) >= nki_backward_steps.LEAD + 2
                assert not step["opens"] or at - used.get(("keys", block), -99) >= nki_backward_steps.LEAD + 3
                used["tile", step["place"]] = used["keys", block] = at


SIZES = {"batch": 1, "heads": 4, "kv_heads": 2, "q_len": 512, "kv_len": 512, "head_dim": 64}


@pytest.mark.parametrize(
    ("changed", "gen", "size", "why"),
    [
        ({"head_dim": 129}, V3, 2, "found head_dim 129, expected 1 to 128"),
        ({"heads": 3}, V3, 2, "found 3 heads for 2 of keys"),
        ({"q_len": 32769}, V4, 2, "found q_len 32769, expected 1 to 32768"),
        ({"q_len": 32768, "head_dim": 128}, V3, 4, "found q_len 32768 of 4 bytes, expected at most 28288 on gen3"),
        ({"q_len": 30000, "head_dim": 128}, V2, 4, "found q_len 30000 of 4 bytes, expected at most 20224 on gen2"),
    ],
)
def test_what_it_cannot_do(changed: dict[str, int], gen: Any, size: int, why: str):
    found = nki_limits.unsupported("bwd", {**SIZES, **changed}, gen, size)
    assert found is not None
    assert found.startswith(why)


def counted(batch: int, heads: int, kv_heads: int, seq: int, dim: int, gen: Any, causal: bool = True) -> Cost:
    """By the cost model, with what the operation needs as useful."""
    sizes = {"batch": batch, "heads": heads, "kv_heads": kv_heads, "seq": seq, "head_dim": dim}
    kernel = next(one for one in nki_cost.COSTED if (one.pass_, one.params["causal"]) == ("bwd", causal))
    launched, args = kernel.build(sizes, "bfloat16", max(gen.lnc))
    return cost(launched, args, gen).of_operation(kernel.useful(sizes))


@pytest.mark.skipif(api.real(), reason="counts what the stand-ins record")
@pytest.mark.parametrize("gen", GENERATIONS, ids=lambda g: g.name)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_longest_queries_fit_into_sbuf(gen: Any, dtype: str):
    """Memory does not depend on the number of keys; two heads of a group are two passes."""
    size = 2 if dtype == "bfloat16" else 4
    most = min(nki_limits.LENGTH, nki_backward_steps.most_queries(128, size, gen.sbuf_partition))
    assert nki_limits.unsupported("bwd", {**SIZES, "q_len": most, "head_dim": 128}, gen, size) is None
    queries, keys = (Spec((1, heads, length, 128), dtype) for heads, length in ((2, most), (1, 100)))
    found = cost(Kernel(nki_backward.attention_backward, 1),
                 (queries, keys, keys, queries, Spec((1, 2, most), "float32"), queries, False, 0.1), gen)  # fmt: skip
    assert found.multiply_adds == 5 * 2 * most * 100 * 128


@pytest.mark.skipif(api.real(), reason="counts what the stand-ins record")
@pytest.mark.parametrize(("gen", "least"), [(V3, 0.6), (V4, 0.6)], ids=["gen3", "gen4"])
def test_8k_causal_keeps_the_tensor_engines_at_useful_work(gen: Any, least: float):
    found = counted(1, 2, 2, 8192, 128, gen)
    assert found.multiply_adds == 4 * 2 * 128 * (8192 * 8193 // 2)
    assert found.useful_share >= least
    assert found.bound == "tensor"
    assert (found.loaded + found.stored) / (8 * 2 * 2 * 8192 * 128 * 2) <= 4  # tiles come in once, keys once


def planted(folder: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> Any:
    """The kernel with a mistake in the one of its modules that has that text."""
    package = folder / f"planted_{abs(hash((before, after)))}"
    package.mkdir()
    home = Path(nki_backward.__file__).parent
    changed = 0
    for file in home.glob("nki_backward*.py"):
        source = file.read_text()
        wrong = source.replace(before, after) if before else source
        changed += wrong != source
        (package / file.name).write_text(wrong.replace("perwatt_kernels.attention.nki_b", f"{package.name}.nki_b"))
    assert changed == bool(before), "the mistake was not planted, or in several places"
    monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module(f"{package.name}.nki_backward").attention_backward


MISTAKES = {
    "mask off by one": ("cmp_op=nl.greater_equal", "cmp_op=nl.greater"),
    "no mask": ('if step["masked"] < seen:', 'if step["masked"] < 0:'),
    "D not subtracted": ("bias=columns[:, 1:2]", "bias=0.0"),
    "lse not subtracted": ("bias=columns[:, 0:1]", "bias=0.0"),
    "swapped key head": ('"head": of_all["kv_head"] * group + head', '"head": of_all["kv_head"] + 3 * head'),
    "one head of a group lost": ('new if head == heads[0] else CHUNKS', "new"),
    "unwritten output": ('"final": block == last', '"final": block == last and row > 0'),
    "zeros of unseen keys left out": ("range(keys, kv_len, TILE)", "range(keys + TILE, kv_len, TILE)"),
    "stale bank": ('accumulate=chunk < step["new_chunk"]', 'accumulate=chunk < step["new_chunk"] + step["turn"]'),
    "the other bank": ("nisa.activation(less_d, nl.copy, d_p,",
                       'nisa.activation(less_d, nl.copy, memory["d_p"][(at + 1) % 2][0:rows, 0:seen],'),
    "race between cores": ('nisa.core_barrier(made[name + "_cores"], (0, 1))', "pass"),
    "race between cores over blocks": ('nisa.core_barrier(made["dq_cores"], (0, 1))', "pass"),
    "both cores do all": ("if shared or pair % cores == core:", "if shared or pair >= 0:"),
    "both cores do all heads": ("heads = (core * group // cores,", "heads = (0 * group,"),
    "both cores do all blocks": ("owner(block, cores) == core:", "block >= 0:"),
    "lost edge tile": ("tiles, start, key = -(-q_len // TILE)", "tiles, start, key = q_len // TILE"),
    "lost edge keys": ("for block in range(-(-keys // BLOCK)):", "for block in range(keys // BLOCK):"),
    "wrong accumulate flag": ('accumulate=chunk < step["new_chunk"]', "accumulate=True"),
    "lost chunk of dQ": ("accumulate=chunk > 0", "accumulate=chunk > 1"),
    "scale of later blocks' dQ forgotten": ("nl.multiply, scale, nl.add, total)", "nl.multiply, 1.0, nl.add, total)"),
    "scale of dK forgotten": ('made, "dk", step, scale)', 'made, "dk", step, 1.0)'),
    "tiles loaded over used ones": ("else number % UNDER_WAY", "else number % LEAD"),
    "last steps left undone": ("range(len(steps) + UNDER_WAY)", "range(len(steps) + LEAD)"),
    "tile too tall": ("TILE, BLOCK = 128, 512", "TILE, BLOCK = 256, 512"),
}  # fmt: skip
WHOLE = Case(6, 3, 600, 760, 32)  # two heads of a group, a group that cores share by heads, unseen keys, edges
ODD = Case(3, 1, 600, 760, 32)  # a group that cores share by blocks


def case_of(mistake: str) -> Case:
    """Where it shows."""
    return ODD if mistake.endswith("blocks") else WHOLE


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_planted_mistakes_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str):
    """Refused by the interpreter, or further from the truth than rounding explains."""
    kernel = planted(tmp_path, monkeypatch, *MISTAKES[mistake])
    case = case_of(mistake)
    operands = case.operands(BF16)
    out, lse, expected = exact(case, *operands)
    try:
        found = run(case, operands, out, lse, kernel=kernel)
    except REFUSED:
        return
    assert not max(off(found, expected)) < 0.05


@pytest.mark.parametrize("case", [WHOLE, ODD, replace(WHOLE, q_len=900)], ids=str)
def test_without_a_mistake_nothing_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case):
    kernel = planted(tmp_path, monkeypatch, "", "")
    operands = case.operands(BF16)
    out, lse, expected = exact(case, *operands)
    assert max(off(run(case, operands, out, lse, kernel=kernel), expected)) < 0.01

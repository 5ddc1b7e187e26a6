"""Backward of attention in Gluon: accuracy and synchronization in the emulator, refusals, what the compiler makes."""

from __future__ import annotations

import importlib
import json
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")
from fakes.gluon import Hazard, emulated
from perwatt_kernels.registry import Refusal
from support.absent_gpu import lines_of

pytestmark = pytest.mark.usefixtures("triton_interpreter", "one_thread")
FLOOR = {torch.bfloat16: 1e-3, torch.float16: 1.2e-4}  # half a unit in the last place
ROOM = 227 * 2**10  # bytes of shared memory for a program on compute capability 9.0
SCALE = 0.2


def made(form: torch.dtype, *shape: int) -> Tensor:
    """[batch, heads, length, head_dim], where heads lie side by side."""
    batch, heads, length, width = shape
    return torch.randn(batch, length, heads, width).to(form).transpose(1, 2)


def attended(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """The result and its log-sum-exp, written out."""
    k, v = (one.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for one in (k, v))
    scores = q @ k.mT * SCALE
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[2:]).tril().bool(), -torch.inf)
    return torch.softmax(scores, -1) @ v, scores.logsumexp(-1)


def gradients(operands: list[Tensor], incoming: Tensor, causal: bool) -> list[Tensor]:
    """Of the operands, in their format."""
    leaves = [one.detach().requires_grad_() for one in operands]
    return list(torch.autograd.grad(attended(*leaves, causal)[0], leaves, incoming.to(operands[0])))


def off(found: Tensor, true: Tensor) -> float:
    return float((found.double() - true).norm() / true.norm())


def launched(
    module: ModuleType, operands: list[Tensor], incoming: Tensor, causal: bool, splits: int, monkeypatch: Any
) -> list[Tensor]:
    """Gradients that the kernel writes over NaN, by a tile."""
    tile = next(one for one in module.candidates(operands[0].shape[1] // operands[1].shape[1]) if one.splits == splits)
    monkeypatch.setattr(module, "tile_for", lambda about, shape, device, found, call: tile)
    wide, sums = attended(*(one.double() for one in operands), causal)
    work = module.Work(
        q=operands[0], k=operands[1], v=operands[2], causal=causal, window=0, lengths=(), scale=SCALE, ordered=False
    )
    found = [torch.full_like(one, float("nan")) for one in operands]
    module.backward(work, wide.to(incoming), sums.float().contiguous(), incoming, *found)
    return found


@pytest.mark.parametrize(
    ("form", "shape", "causal", "splits"),
    [
        (torch.bfloat16, (1, 2, 1, 130, 130, 64), True, 1),
        (torch.float16, (1, 2, 1, 70, 150, 128), False, 2),
        (torch.float16, (1, 1, 1, 64, 300, 64), True, 1),
        (torch.bfloat16, (2, 1, 1, 200, 64, 80), True, 1),
        (torch.bfloat16, (2, 4, 2, 64, 128, 128), False, 1),
        (torch.float16, (1, 2, 2, 1, 1, 40), True, 1),
        (torch.bfloat16, (1, 1, 1, 1, 140, 64), False, 1),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize(("seed", "lateness", "version"), [(0, None, "3.6"), (1, 1.0, "3.9"), (2, 0.0, "3.6")])
def test_errors_are_at_most_twice_the_frameworks_in_whatever_order(
    form: torch.dtype, shape: tuple[int, ...], causal: bool, splits: int, seed: int, lateness: float | None,
    version: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    batch, heads, kv_heads, q_len, kv_len, width = shape
    operands = [made(form, batch, count, length, width) for count, length in
                ((heads, q_len), (kv_heads, kv_len), (kv_heads, kv_len))]  # fmt: skip
    incoming = made(form, batch, heads, q_len, width)
    true = gradients([one.double() for one in operands], incoming, causal)
    framework = gradients(operands, incoming, causal)
    with emulated(seed=seed, lateness=lateness, version=version):
        module = importlib.import_module("perwatt_kernels.attention.gluon_backward_launch")
        found = launched(module, operands, incoming, causal, splits, monkeypatch)
    for name, one, other, exact in zip(("dq", "dk", "dv"), found, framework, true, strict=True):
        if exact.norm() < 1e-9:  # of one key, scores have no gradient
            assert one.double().norm() <= 1e-2, name
        else:
            assert off(one, exact) <= 2 * max(off(other, exact), FLOOR[form]), name


@pytest.mark.parametrize("splits", [1, 2])
def test_no_order_of_events_changes_a_bit_of_gradients_of_keys_and_values(
    splits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    operands = [made(torch.bfloat16, 1, heads, length, 64) for heads, length in ((2, 200), (1, 140), (1, 140))]
    incoming, found = made(torch.bfloat16, 1, 2, 200, 64), []
    for seed, lateness in enumerate((1.0, 0.0, 0.5, None, 0.9)):
        with emulated(seed=seed, lateness=lateness, version="3.9" if seed % 2 else "3.6"):
            module = importlib.import_module("perwatt_kernels.attention.gluon_backward_launch")
            found.append(launched(module, operands, incoming, True, splits, monkeypatch)[1:])
    for dk, dv in found[1:]:
        assert torch.equal(dk, found[0][0])
        assert torch.equal(dv, found[0][1])


def test_an_expanded_gradient_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    operands = [made(torch.float16, 1, 1, 40, 64) for _ in range(3)]
    incoming = torch.ones((), dtype=torch.float16).expand(1, 1, 40, 64)
    true = gradients([one.double() for one in operands], incoming, False)
    with emulated():
        module = importlib.import_module("perwatt_kernels.attention.gluon_backward_launch")
        found = launched(module, operands, incoming, False, 1, monkeypatch)
    assert all(off(one, exact) <= 2e-3 for one, exact in zip(found[1:], true[1:], strict=True))


def test_a_missing_fence_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    operands = [made(torch.bfloat16, 1, 1, 40, 64) for _ in range(3)]
    with emulated():
        module = importlib.import_module("perwatt_kernels.attention.gluon_backward_launch")
        kernel = importlib.import_module("perwatt_kernels.attention.gluon_backward")
        monkeypatch.setattr(kernel, "fence_async_shared", lambda: None)
        with pytest.raises(Hazard):
            launched(module, operands, operands[0], False, 1, monkeypatch)


def test_what_it_cannot_read_is_refused() -> None:
    with emulated():
        module = importlib.import_module("perwatt_kernels.attention.gluon_backward_launch")
        wide, odd = torch.zeros(1, 1, 8, 192).half(), torch.zeros(1, 1, 8, 129).half()[..., 1:]
        for q, reason in (
            (wide, "found head_dim 192, expected 1 to 128"),
            (odd, "q: found strides .* triton takes any"),
        ):
            work = module.Work(q=q, k=q, v=q, causal=True, window=0, lengths=(), scale=1.0)
            with pytest.raises(Refusal, match=reason):
                module.backward(work, q, torch.zeros(1, 1, 8), q, q, q, q)


@cache
def compiled() -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of("support.gluon_attention_backward", 90)]


@pytest.mark.slow
def test_products_are_asynchronous_copies_by_the_accelerator_and_the_tile_fits() -> None:
    found = [kernel for kernel in compiled() if kernel["kernel"] == "perwatt_attention_backward_gluon"]
    assert {(kernel["dim"], kernel["tile"]) for kernel in found} >= {(128, "64x128s4"), (64, "64x128s2-split4")}
    for kernel in found:
        does = " ".join(kernel["does"])
        assert kernel["shared"] <= ROOM
        assert "wgmma.mma_async" in does
        assert "mma.sync" not in does
        assert {"cp.async.bulk.tensor.4d", "setmaxnreg.inc", "setmaxnreg.dec", "stmatrix"} <= set(kernel["does"])
        assert ".add.v2.f32" in does
        assert "serialized" not in kernel["assembler"]
        assert spilled(kernel) <= (0 if kernel["dim"] == 64 else SPILLED), kernel


SPILLED = 16  # bytes of a thread: addresses, no sums


def spilled(kernel: dict[str, Any]) -> int:
    """Bytes that the assembler stores for want of registers."""
    return int(kernel["assembler"].split(" bytes spill stores")[0].split()[-1])

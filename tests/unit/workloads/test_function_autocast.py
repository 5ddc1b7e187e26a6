"""What autocast does to every workload that is one function of tensors, and what has no policy of its kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from perwatt.backends.cpu import BACKEND
from perwatt.workloads.function import IDS
from perwatt_kernels.dtypes import dtype
from support.functions import MULTIPLYING, SMALL
from support.sessions import PASSES, assert_passes, case, faulty, opened


class DispatchedFormats(TorchDispatchMode):
    """Formats of operands of products, and shapes of what is cast to bf16, in the operations that reach the device."""

    def __init__(self) -> None:
        super().__init__()
        self.products: set[torch.dtype] = set()
        self.cast: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm", "addmm") or (name.startswith("_scaled_dot_product") and "backward" not in name):
            self.products |= {t.dtype for t in args if isinstance(t, torch.Tensor) and t.is_floating_point()}
        if name == "_to_copy" and (kwargs or {}).get("dtype") == torch.bfloat16:
            self.cast.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", MULTIPLYING)
@pytest.mark.parametrize("pass_", PASSES)
def test_passes_its_gate_under_autocast(name: str, pass_: str) -> None:
    assert_passes(case(name, SMALL[name], precision="bf16_autocast", pass_=pass_))


@pytest.mark.parametrize("name", ["lm_head_loss", "transformer_layer"])
def test_passes_its_gate_under_autocast_compiled(name: str) -> None:
    torch.compiler.reset()
    assert_passes(case(name, SMALL[name], precision="bf16_autocast", pass_="fwd+bwd"), "torch.compile")


@pytest.mark.parametrize("name", MULTIPLYING)
def test_under_autocast_float32_comes_in_and_is_cast_in_the_body(name: str) -> None:
    made = case(name, SMALL[name], precision="bf16_autocast", pass_="fwd+bwd")
    session = opened(made)
    floating = [t for t in session._sets[0] if t.is_floating_point()]
    assert {t.dtype for t in floating} == {torch.float32}
    with DispatchedFormats() as seen:
        result, gradients = session.run(0)
    assert {g.dtype for g in gradients} == {torch.float32}
    assert result.dtype == dtype(MULTIPLYING[name])
    assert seen.products == {torch.bfloat16}
    factors = [one.shape for one in made.workload.operands(made.params, made.precision) if one.product]
    assert sum(map(math.prod, seen.cast)) >= sum(map(math.prod, factors)), "each call makes its own copies"
    assert not torch.is_autocast_enabled("cpu")


def _through(change: Callable[[torch.Tensor], torch.Tensor], *which: int) -> Callable[..., Any]:
    """A function that gets some of its operands changed; gradients pass as if they were not."""

    def fault(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def wrong(*operands: torch.Tensor) -> torch.Tensor:
            changed = [
                t + (change(t.detach()) - t.detach()) if number in which else t for number, t in enumerate(operands)
            ]
            return function(*changed)

        return wrong

    return fault


def _rounded_to_fp8(x: torch.Tensor) -> torch.Tensor:
    scale = x.abs().max() / 448
    return (x / scale).to(torch.float8_e4m3fn).to(x.dtype) * scale


def _without_rows(x: torch.Tensor) -> torch.Tensor:
    kept = x.clone()
    kept.view(-1, x.shape[-1])[-8:] = 0
    return kept


def _gradient_doubled(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """What an impl gives that forgets the 1/2 that flows into a loss."""
    return lambda *operands: 2 * function(*operands) - function(*operands).detach()


MATRICES = {"mlp": (1, 2), "lm_head_loss": (1,), "transformer_layer": (2, 3, 5, 6), "grouped_gemm": (1,)}
"""Places of the weights of products among the operands."""
FAULTS = {
    **{f"{name}: weights in fp8": (name, _through(_rounded_to_fp8, *where)) for name, where in MATRICES.items()},
    **{f"{name}: rows of x lost": (name, _through(_without_rows, 0)) for name in MULTIPLYING},
    "transformer_layer: no weight of the first norm": ("transformer_layer", _through(torch.ones_like, 1)),
    "transformer_layer: no weight of the second norm": ("transformer_layer", _through(torch.ones_like, 4)),
    "lm_head_loss: a gradient's factor forgotten": ("lm_head_loss", _gradient_doubled),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_narrow_formats_are_caught_under_autocast(fault: str) -> None:
    name, plant = FAULTS[fault]
    found = faulty(case(name, SMALL[name], precision="bf16_autocast", pass_="fwd+bwd"), plant)
    assert not found.ok, found


@pytest.mark.parametrize("name", [name for name in SMALL if name not in MULTIPLYING])
def test_what_autocast_does_not_cast_is_refused_under_it(name: str) -> None:
    made = case(name, SMALL[name], precision="bf16_autocast")
    reason = made.workload.unsupported(made, made.workload.impls()["torch"], BACKEND)
    assert reason is not None
    assert reason.startswith(f"autocast casts nothing in {name}")


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("precision", ["fp8_tensor", "fp8_row_outside", "mxfp8"])
def test_policies_with_scales_are_refused_by_what_has_them(name: str, precision: str) -> None:
    made = case(name, SMALL[name], precision=precision)
    reason = made.workload.unsupported(made, made.workload.impls()["torch"], BACKEND)
    assert reason == f"fp8 policies are for gemm and train_step: {name} has no {precision}"


@pytest.mark.parametrize("name", MULTIPLYING)
def test_under_autocast_memory_has_operands_in_float32_and_their_copies(name: str) -> None:
    wide, narrow = (case(name, SMALL[name], precision=p, pass_="fwd+bwd") for p in ("bf16_autocast", "bf16"))
    operands = [one.workload.operands(one.params, one.precision) for one in (wide, narrow)]
    held = [sum(one.bytes for one in several if one.format != IDS) for several in operands]
    assert held[0] == 2 * held[1]
    matrices = sum(one.bytes for one in operands[0] if one.product)
    assert wide.workload.cast_bytes(wide) == matrices / 2
    assert wide.workload.memory(wide) >= narrow.workload.memory(narrow) + matrices

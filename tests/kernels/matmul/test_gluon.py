"""The product in Gluon, in an emulator of the device: values, gradients, order of events, refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton.experimental.gluon")
from fakes.gluon import Hazard, emulated
from perwatt.accuracy import products
from perwatt_kernels import registry
from perwatt_kernels.matmul.gluon_tiles import Tile, candidates
from perwatt_kernels.matmul.triton_call import Call
from perwatt_kernels.matmul.triton_tiles import Chip
from perwatt_kernels.registry import Refusal, Request

pytestmark = pytest.mark.usefixtures("one_thread")

PARAMS = {"m": 8, "n": 8, "k": 8, "batch": 1, "product": "fwd", "a_layout": None, "b_layout": None, "epilogue": "none",
          "output": "policy"}  # fmt: skip
REQUEST = Request(device="cuda", chip="H100", capability=(9, 0), compute="bf16", output="bf16", gradients=True,
                  params=PARAMS, compile=torch.compile)  # fmt: skip
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
TILES = {"shared": Tile(m=128, n=64, k=64, stages=3), "turns": Tile(m=64, n=64, k=64, stages=3, turns=True)}


@pytest.fixture(params=[("3.6", 1, 1.0), ("3.9", 2, None)], ids=["3.6", "3.9"])
def launcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The launcher of a version of Triton in the emulator; what a kernel does not write is not a number."""
    version, seed, lateness = request.param
    empty = torch.empty
    with emulated(seed=seed, lateness=lateness, version=version):
        from perwatt_kernels.matmul import gluon_launch

        monkeypatch.setattr(torch, "empty", lambda *shape, **how: empty(*shape, **how).fill_(float("nan")))
        yield gluon_launch


def built(operation: str = "matmul", **changes: Any) -> Callable[..., Tensor]:
    params = {**PARAMS, **changes.pop("params", {})}
    return registry.kernels(operation)["gluon"].build(replace(REQUEST, params=params, **changes))


def normal(*shape: int, like: str = "bf16", seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + 31 * sum(shape))).to(DTYPES[like])


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.detach().double() - exact.detach()).norm() / exact.detach().norm())


def accurate(found: Tensor, exact: Tensor, framework: Tensor) -> bool:
    """At most twice as far from float64 as the framework's, or as one rounding of the result."""
    assert found.shape == exact.shape
    rounded = error(exact.to(found.dtype), exact)
    return error(found, exact) <= 2 * max(error(framework, exact), rounded)


@pytest.mark.parametrize("compute", ["bf16", "fp16"])
@pytest.mark.parametrize(("a_turned", "b_turned"), [(False, True), (False, False), (True, False), (True, True)])
@pytest.mark.parametrize("name", TILES)
def test_it_is_as_accurate_as_the_framework_s(
    launcher: ModuleType, name: str, a_turned: bool, b_turned: bool, compute: str
) -> None:  # fmt: skip
    m, n, k = 200, 136, 200  # several tiles of each program, and ends in all three directions
    a = normal(k, m, like=compute).mT if a_turned else normal(m, k, like=compute)
    b = normal(n, k, like=compute).mT if b_turned else normal(k, n, like=compute)
    found = launcher.launch(Call(a=a, b=b, output=a.dtype, compute=compute), TILES[name])
    assert accurate(found, a.double() @ b.double(), a @ b)


@pytest.mark.parametrize("seed", range(3, 9))
@pytest.mark.parametrize("name", TILES)
def test_no_order_of_events_changes_a_bit(name: str, seed: int) -> None:
    a, b = normal(330, 320), normal(72, 320).mT  # turns come round: more tiles than two a program
    call = Call(a=a, b=b, output=torch.float32, compute="bf16", bias=normal(72))
    found = []
    for order, lateness in ((seed, None), (seed, 0.0), (seed + 10, 1.0)):
        with emulated(seed=order, lateness=lateness, version="3.9" if seed % 2 else "3.6"):
            from perwatt_kernels.matmul import gluon_launch

            found.append(gluon_launch.launch(call, TILES[name]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("extents", [(1, 8, 8), (129, 64, 64), (3, 200, 264), (64, 8, 1000)])
@pytest.mark.parametrize("name", TILES)
def test_extents_need_be_no_multiple_of_a_tile(launcher: ModuleType, name: str, extents: tuple[int, int, int]) -> None:
    m, n, k = extents
    a, b, bias = normal(m, k), normal(n, k).mT, normal(n)
    found = launcher.launch(Call(a=a, b=b, output=torch.float32, compute="bf16", bias=bias), TILES[name])
    assert accurate(found, a.double() @ b.double() + bias.double(), a.float() @ b.float() + bias.float())


@pytest.mark.parametrize("name", TILES)
def test_what_is_not_finite_passes_through_as_in_torch(launcher: ModuleType, name: str) -> None:
    a, b = normal(200, 72), normal(72, 136)
    a[3, 5], a[140, 60], b[70, 2], b[71, 130] = float("nan"), float("inf"), float("-inf"), float("inf")
    found, framework = launcher.launch(Call(a=a, b=b, output=a.dtype, compute="bf16"), TILES[name]), a @ b
    assert framework.isinf().any()
    torch.testing.assert_close(found, framework, rtol=3e-2, atol=3e-2, equal_nan=True)


def test_what_is_not_finite_passes_through_gradients_as_in_torch(launcher: ModuleType) -> None:
    a, b, incoming = normal(40, 72), normal(72, 136), normal(40, 136)
    a[3, 5], b[70, 2], incoming[7, 100] = float("nan"), float("-inf"), float("inf")
    leaves = a.requires_grad_(), b.requires_grad_()
    found, framework = (torch.autograd.grad(product(*leaves), leaves, incoming) for product in (built(), torch.matmul))
    for one, other in zip(found, framework, strict=True):
        assert not other.isfinite().all()
        torch.testing.assert_close(one, other, rtol=3e-2, atol=6e-2, equal_nan=True)


def test_a_wrong_kernel_is_caught_by_the_gate(monkeypatch: pytest.MonkeyPatch, launcher: ModuleType) -> None:
    """One that loses the last tile, and one that stops before the end of k."""
    a, b = normal(96, 200), normal(200, 96)
    bound = products.bound("bf16", "bf16", 200)
    assert products.check(a, b, built()(a, b), bound=bound, name="result").ok
    run = launcher.run

    def lost(call: Any, plan: Any) -> Tensor:
        result: Tensor = run(call, plan)
        result[64:, 64:] = 0
        return result

    def short(call: Any, plan: Any) -> Tensor:
        result: Tensor = run(replace(call, a=call.a[:, :128], b=call.b[:128]), plan)
        return result

    for wrong in (lost, short):
        monkeypatch.setattr(launcher, "run", wrong)
        assert not products.check(a, b, built()(a, b), bound=bound, name="result").ok


@pytest.mark.parametrize("shape", [(0, 8, 8), (8, 0, 8)])
def test_an_empty_result_is_one(launcher: ModuleType, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    assert built()(normal(m, k), normal(k, n)).shape == (m, n)


@pytest.mark.parametrize("granularity", ["tensor", "row"])
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("turns", [False, True])
def test_products_of_8_bits_are_scaled(launcher: ModuleType, turns: bool, fast: bool, granularity: str) -> None:
    m, n, k = 72, 80, 400
    tile = replace(TILES["turns" if turns else "shared"], k=128)
    a, b = normal(m, k).to(torch.float8_e5m2), normal(n, k).to(torch.float8_e4m3fn).mT
    scales = normal(m, 1, like="fp32").abs(), normal(1, n, like="fp32").abs()
    if granularity == "tensor":
        scales = scales[0][:1], scales[1][:, :1]
    call = Call(a=a, b=b, output=torch.bfloat16, compute="fp8", scales=scales, fast=fast)
    exact = (a.double() @ b.double()) * scales[0].double() * scales[1].double()
    assert accurate(launcher.launch(call, tile), exact, exact.bfloat16())


@pytest.mark.parametrize("turned", [False, True])
def test_gradients_are_the_reference_s_and_lie_as_operands_do(launcher: ModuleType, turned: bool) -> None:
    a, b = normal(40, 72).requires_grad_(), normal(72, 136).requires_grad_()
    right = b.detach().mT.contiguous().mT.requires_grad_() if turned else b
    incoming, bias = normal(40, 136), normal(136).requires_grad_()
    leaves = a, right, bias
    found = torch.autograd.grad(built(params={"epilogue": "bias"})(*leaves), leaves, incoming)
    framework = torch.autograd.grad(a @ right + bias, leaves, incoming)
    wide = incoming.double()
    exact = wide @ b.detach().double().mT, a.detach().double().mT @ wide, wide.sum(0)
    for mine, right_one, torchs, leaf in zip(found, exact, framework, leaves, strict=True):
        assert mine.stride() == leaf.stride()
        assert accurate(mine, right_one, torchs)


def test_a_linear_layer_has_all_three_products(launcher: ModuleType) -> None:
    x, w, bias = normal(2, 35, 72).requires_grad_(), normal(136, 72).requires_grad_(), normal(136).requires_grad_()
    incoming, leaves = normal(2, 35, 136), (x, w, bias)
    params = {"m": 70, "n": 136, "k": 72, "bias": True}
    layer, linear = registry.kernels("linear")["gluon"], torch.nn.functional.linear
    ours = layer.build(replace(REQUEST, params=params))(*leaves)
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    exact = linear(*wide)
    assert accurate(ours, exact, linear(*leaves))
    found, framework = (torch.autograd.grad(y, leaves, incoming) for y in (ours, linear(*leaves)))
    for mine, torchs, right in zip(found, framework, torch.autograd.grad(exact, wide, incoming.double()), strict=True):
        assert accurate(mine, right, torchs)


def test_one_number_for_all_is_a_gradient_too(launcher: ModuleType) -> None:
    a, b = normal(40, 72).requires_grad_(), normal(72, 136)
    built()(a, b).sum().backward()
    assert a.grad is not None
    assert accurate(a.grad, b.double().sum(1).expand(40, 72), b.sum(1).expand(40, 72))


def test_torch_finds_nothing_amiss_with_the_operation(launcher: ModuleType) -> None:
    from perwatt_kernels.matmul.gluon_ops import OPERATIONS

    a, b = normal(8, 16, like="fp16").requires_grad_(), normal(24, 16, like="fp16").mT.requires_grad_()
    torch.library.opcheck(OPERATIONS.product, (a, b, normal(24, like="fp16"), torch.float16, "fp16", "none"))


@pytest.mark.parametrize(
    ("operands", "reason"),
    [
        ((normal(2, 8, 8), normal(2, 8, 8)), "gluon takes no batches: triton does"),
        ((normal(8, 7), normal(7, 8)), "expected operands and a result whose rows"),
        ((normal(8, 16)[:, 1:9], normal(8, 8)), "expected operands and a result whose rows"),
        ((normal(8, 0), normal(0, 8)), "no extent of 0: triton takes any"),
    ],
)
def test_operands_that_it_does_not_take_are_refused(
    launcher: ModuleType, operands: tuple[Tensor, Tensor], reason: str
) -> None:  # fmt: skip
    with pytest.raises(Refusal, match=reason):
        built()(*operands)


@pytest.mark.parametrize(
    ("operation", "changes", "reason"),
    [
        ("matmul", {"capability": (8, 0), "chip": "A100"}, "gluon needs compute capability 9.0, A100 has 8.0"),
        ("matmul", {"capability": (10, 0), "chip": "B200"}, "gluon needs a compute capability below 10.0, B200"),
        ("matmul", {"device": "cpu", "capability": None}, "gluon runs on cuda, not on cpu"),
        ("matmul", {"compute": "tf32"}, "gluon takes bf16, fp16, e4m3fn, not tf32"),
        ("matmul", {"params": {**PARAMS, "batch": 2}}, "gluon takes no batches"),
        ("matmul", {"params": {**PARAMS, "n": 7}}, "gluon takes multiples of 8 for n"),
        ("matmul", {"compute": "e4m3fn", "scaling": "row", "params": {**PARAMS, "n": 16}}, "of 16 for m and k"),
        ("matmul", {"params": {**PARAMS, "epilogue": "gelu_tanh"}}, "gluon has no epilogue gelu_tanh: triton has"),
        ("linear", {"params": {"m": 8, "n": 8, "k": 12, "bias": False}}, "gluon takes multiples of 8 for k"),
        ("linear", {"compute": "e4m3fn", "scaling": "row", "quantize": "outside"}, "use operation matmul"),
    ],
)
def test_what_it_does_not_take_is_refused(operation: str, changes: dict[str, Any], reason: str) -> None:
    assert reason in (registry.kernels(operation)["gluon"].refusal(replace(REQUEST, **changes)) or "")


@pytest.mark.parametrize(
    ("form", "fast"), [(torch.bfloat16, True), (torch.float8_e4m3fn, True), (torch.float8_e4m3fn, False)]
)
def test_candidates_have_names_of_their_own_and_stages_enough(form: torch.dtype, fast: bool) -> None:
    chip = Chip(capability=(9, 0), processors=130, shared=227 * 2**10)
    x = torch.empty(4096, 4096, dtype=form)
    found = candidates(Call(a=x, b=x.mT, output=torch.bfloat16, compute="", fast=fast).work, chip)
    assert 2 <= len({tile.name for tile in found}) == len(found) <= 6
    assert any(tile.turns for tile in found)
    assert all(tile.stages >= 3 for tile in found)


def _late(wait: Callable[..., Any]) -> Callable[..., Any]:
    return lambda outstanding, deps: wait(outstanding + 1, deps=deps)


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("fence_async_shared", lambda fence: lambda: None),  # results leave before they are seen
        ("warpgroup_mma_wait", _late),  # stages are given back, and sums taken, while they are in use
    ],
)
@pytest.mark.parametrize("tile", TILES.values(), ids=TILES)
def test_a_planted_mistake_is_caught(
    monkeypatch: pytest.MonkeyPatch, name: str, planted: Callable[[Any], Any], tile: Tile
) -> None:  # fmt: skip
    call = Call(a=normal(200, 320), b=normal(72, 320).mT, output=torch.bfloat16, compute="bf16")
    with emulated(seed=1, lateness=1.0, version="3.6"):
        from perwatt_kernels.matmul import gluon_kernel, gluon_launch

        monkeypatch.setattr(gluon_kernel, name, planted(getattr(gluon_kernel, name)))
        with pytest.raises(Hazard):
            gluon_launch.launch(call, tile)

"""The product in Triton, in Triton's interpreter: accuracy, gradients, strides, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.nn import functional as F

from perwatt.accuracy import products
from perwatt.backends.cpu import BACKEND
from perwatt.selftest.child import examine
from perwatt.spec.case import build as case_of
from perwatt_kernels import registry
from perwatt_kernels.matmul.triton_tiles import Tile
from perwatt_kernels.registry import Kernel, Request

pytestmark = [
    pytest.mark.usefixtures("triton_interpreter", "one_thread"),
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning"),
]

PARAMS = {"m": 1, "n": 1, "k": 1, "batch": 1, "product": "fwd", "a_layout": None, "b_layout": None, "epilogue": "none",
          "output": "policy"}  # fmt: skip
REQUEST = Request(device="cpu", compute="bf16", output="bf16", gradients=True, params=PARAMS, compile=torch.compile)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32, "fp32": torch.float32}
TILES = {
    "pointers": Tile(m=32, n=32, k=32), "split": Tile(m=64, n=32, k=16, splits=3),
    "descriptors": Tile(m=64, n=64, k=32, variant="descriptors"),
    "split descriptors": Tile(m=32, n=32, k=32, splits=2, variant="descriptors"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel does not write is not a number."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, **how: empty(*shape, **how).fill_(float("nan")))


@pytest.fixture
def launcher() -> ModuleType:
    from perwatt_kernels.matmul import triton_launch

    return triton_launch


def kernel() -> Kernel:
    return registry.kernels("matmul")["triton"]


def built(**changes: Any) -> Callable[..., Tensor]:
    params = {**PARAMS, **changes.pop("params", {})}
    return kernel().build(replace(REQUEST, params=params, **changes))


def normal(*shape: int, like: str = "bf16", seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + 31 * sum(shape))).to(DTYPES[like])


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.detach().double() - exact.detach()).norm() / exact.detach().norm())


def accurate(found: Tensor, exact: Tensor, framework: Tensor) -> bool:
    """At most twice as far from float64 as the framework's, or as one rounding of the result."""
    assert found.shape == exact.shape
    rounded = error(exact.to(found.dtype), exact)
    return error(found, exact) <= 2 * max(error(framework, exact), rounded)


@pytest.mark.parametrize("compute", ["bf16", "fp16", "tf32", "fp32"])
@pytest.mark.parametrize("name", TILES)
def test_it_is_as_accurate_as_the_framework_s(launcher: ModuleType, name: str, compute: str) -> None:
    a, b = normal(96, 72, like=compute), normal(80, 72, like=compute).mT
    call = launcher.Call(a=a, b=b, output=a.dtype, compute=compute)
    assert call.work.described
    assert accurate(launcher.launch(call, TILES[name]), a.double() @ b.double(), a @ b)


@pytest.mark.parametrize("extents", [(1, 33, 65), (70, 1, 50), (37, 41, 1), (65, 67, 129), (1, 1, 1)])
@pytest.mark.parametrize("name", ["pointers", "split"])
def test_extents_need_be_no_multiple_of_a_tile(launcher: ModuleType, name: str, extents: tuple[int, int, int]) -> None:
    m, n, k = extents
    a, b = normal(m, k, like="fp32"), normal(k, n, like="fp32", seed=1)
    found = launcher.launch(launcher.Call(a=a, b=b, output=torch.float32, compute="fp32"), TILES[name])
    assert accurate(found, a.double() @ b.double(), a @ b)


@pytest.mark.parametrize("a_turned", [False, True])
@pytest.mark.parametrize("b_turned", [False, True])
@pytest.mark.parametrize("name", ["pointers", "descriptors"])
def test_operands_lie_by_rows_or_by_columns(
    launcher: ModuleType, name: str, a_turned: bool, b_turned: bool
) -> None:  # fmt: skip
    a = normal(40, 72).mT.contiguous().mT if a_turned else normal(40, 72)
    b = normal(48, 72).mT if b_turned else normal(72, 48)
    call = launcher.Call(a=a, b=b, output=torch.bfloat16, compute="bf16")
    assert (launcher.turned(a), launcher.turned(b)) == (a_turned, b_turned)
    assert accurate(launcher.launch(call, TILES[name]), a.double() @ b.double(), a @ b)


def test_what_descriptors_cannot_reach_goes_by_pointers(launcher: ModuleType) -> None:
    whole = normal(64, 65)
    b, matmul = normal(64, 40), built()
    for a in (whole[:, 1:], whole[:, :64][::2], normal(33, 128)[:, ::2], normal(1, 64).expand(40, 64),
              normal(40 * 64 + 1).reshape(-1)[1:].view(40, 64)):  # fmt: skip
        assert not launcher.Call(a=a, b=b, output=torch.bfloat16, compute="bf16").work.described
        assert accurate(matmul(a, b), a.double() @ b.double(), a @ b)


def test_a_view_that_descriptors_reach_goes_by_them(launcher: ModuleType) -> None:
    a, b = normal(64, 128)[8:40, 16:88], normal(72, 64)[:, 8:]
    call = launcher.Call(a=a, b=b, output=torch.bfloat16, compute="bf16")
    assert call.work.described
    assert accurate(launcher.launch(call, TILES["descriptors"]), a.double() @ b.double(), a @ b)


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 3, 0)])
def test_an_empty_extent_gives_what_torch_gives(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    a, b = normal(m, k), normal(k, n)
    assert torch.equal(built()(a, b), a @ b)


@pytest.mark.parametrize("epilogue", ["bias", "gelu_tanh", "bias_gelu_tanh"])
@pytest.mark.parametrize("shape", [(64, 48, 40), (33, 40, 200)])  # the second is split
def test_epilogues_follow_the_sums_before_they_are_rounded(epilogue: str, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    a, b, bias = normal(m, k), normal(n, k).mT, normal(n)
    given = (bias,) if "bias" in epilogue else ()

    def after(product: Tensor, *bias: Tensor) -> Tensor:
        product = product + bias[0] if bias else product
        return F.gelu(product, approximate="tanh") if "gelu" in epilogue else product

    found = built(gradients=False, params={"epilogue": epilogue})(a, b, *given)
    assert accurate(found, after(a.double() @ b.double(), *(x.double() for x in given)), after(a @ b, *given))


@pytest.mark.parametrize("output", ["fp32", "fp16"])
def test_the_result_is_in_the_requested_format(output: str) -> None:
    a, b = normal(33, 40), normal(40, 17)
    found = built(output=output)(a, b)
    assert found.dtype == DTYPES[output]
    assert accurate(found, a.double() @ b.double(), a.float() @ b.float())


@pytest.mark.parametrize("shape", [(40, 64, 40), (32, 80, 300)])
def test_swiglu_takes_gates_and_ups_by_turns(shape: tuple[int, int, int]) -> None:
    from perwatt_kernels.matmul.triton_ops import OPERATIONS

    m, n, k = shape
    x, w = normal(m, k).requires_grad_(), (normal(n, k) / k**0.5).requires_grad_()
    found = OPERATIONS.times(x, w.mT, None, torch.bfloat16, "bf16", "swiglu")
    exact = [t.detach().double().requires_grad_() for t in (x, w)]
    expected = F.silu(exact[0] @ exact[1][::2].mT) * (exact[0] @ exact[1][1::2].mT)
    framework = F.silu(x @ w[::2].mT) * (x @ w[1::2].mT)
    incoming = normal(m, n // 2)
    assert accurate(found, expected, framework)
    ours, theirs = (torch.autograd.grad(y, (x, w), incoming) for y in (found, framework))
    for mine, torchs, right in zip(ours, theirs, torch.autograd.grad(expected, exact, incoming.double()), strict=True):
        assert accurate(mine, right, torchs)


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("turned", [False, True])
def test_gradients_are_the_reference_s_and_lie_as_operands_do(batch: tuple[int, ...], turned: bool) -> None:
    a, b = normal(*batch, 40, 50).requires_grad_(), normal(*batch, 50, 33).requires_grad_()
    right = b.detach().mT.contiguous().mT.requires_grad_() if turned else b
    incoming = normal(*batch, 40, 33)
    found = torch.autograd.grad(built()(a, right), (a, right), incoming)
    framework = torch.autograd.grad(a @ right, (a, right), incoming)
    exact = incoming.double() @ b.double().mT, a.double().mT @ incoming.double()
    for mine, right_one, torchs, leaf in zip(found, exact, framework, (a, right), strict=True):
        assert mine.stride() == leaf.stride()
        assert accurate(mine, right_one.detach(), torchs)


def test_the_bias_has_a_gradient_too() -> None:
    a, b, bias = normal(2, 40, 50), normal(2, 50, 33), normal(33).requires_grad_()
    incoming = normal(2, 40, 33)
    (found,) = torch.autograd.grad(built(params={"epilogue": "bias"})(a, b, bias), bias, incoming)
    (framework,) = torch.autograd.grad(a @ b + bias, bias, incoming)
    assert accurate(found, incoming.double().sum((0, 1)), framework)


@pytest.mark.filterwarnings("ignore:Input #. requires gradient and is not a double:UserWarning")
def test_small_differences_agree_with_gradients() -> None:
    a, b = normal(2, 3, like="fp32").requires_grad_(), normal(3, 2, like="fp32").requires_grad_()
    multiply = built(compute="fp32", output="fp32")
    assert torch.autograd.gradcheck(multiply, (a, b), eps=1e-2, atol=1e-3, fast_mode=True)


@pytest.mark.parametrize("name", TILES)
def test_the_same_operands_give_the_same_bits(launcher: ModuleType, name: str) -> None:
    call = launcher.Call(a=normal(64, 72), b=normal(72, 80), output=torch.bfloat16, compute="bf16")
    assert torch.equal(launcher.launch(call, TILES[name]), launcher.launch(call, TILES[name]))


@pytest.mark.parametrize("name", TILES)
def test_nan_and_infinity_go_through_as_in_torch(launcher: ModuleType, name: str) -> None:
    a, b = normal(64, 72), normal(72, 80)
    a[3, 5], a[40, 60], b[70, 2], b[71, 2] = float("nan"), float("inf"), float("-inf"), float("inf")
    found = launcher.launch(launcher.Call(a=a, b=b, output=torch.bfloat16, compute="bf16"), TILES[name])
    framework = a @ b
    assert torch.equal(found.isnan(), framework.isnan())
    assert torch.equal(found[framework.isinf()], framework[framework.isinf()])
    assert found.isinf().sum() == framework.isinf().sum() > 0


def test_a_compiled_function_keeps_the_operation_whole() -> None:
    a, b = normal(40, 50).requires_grad_(), normal(33, 50).requires_grad_()
    seen: list[str] = []

    def record(graph: torch.fx.GraphModule, example: Any) -> Any:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return make_boxed_func(graph.forward)

    matmul, backend = built(), aot_autograd(fw_compiler=record)
    compiled = torch.compile(lambda a, b: matmul(a, b.mT).relu(), backend=backend, fullgraph=True)
    found, expected = compiled(a, b), matmul(a, b.mT).relu()
    assert torch.equal(found, expected)
    incoming = normal(40, 33)
    pairs = zip(*(torch.autograd.grad(y, (a, b), incoming) for y in (found, expected)), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert sum("triton_matmul" in target for target in seen) == 3


@pytest.mark.parametrize("scaling", ["tensor", "row"])
@pytest.mark.parametrize("name", TILES)
def test_scales_are_applied_to_8_bit_products(launcher: ModuleType, name: str, scaling: str) -> None:
    a = normal(64, 80, like="fp32").to(torch.float8_e5m2)
    b = normal(96, 80, like="fp32").to(torch.float8_e4m3fn).mT
    by_row = scaling == "row"
    scales = normal(64 if by_row else 1, 1, like="fp32").abs(), normal(1, 96 if by_row else 1, like="fp32").abs()
    call = launcher.Call(a=a, b=b, output=torch.bfloat16, compute="fp8", scales=scales, fast=False)
    exact = a.double() * scales[0] @ (b.double() * scales[1])
    found = launcher.launch(call, replace(TILES[name], k=32))
    assert accurate(found, exact, exact.to(torch.bfloat16))


CASES = [
    ("fp8_tensor", "fwd+bwd", {}), ("fp8_row", "fwd", {"epilogue": "bias_gelu_tanh"}),
    ("fp8_row_outside", "fwd", {"product": "wgrad"}), ("bf16", "fwd+bwd", {}), ("fp32", "fwd", {"batch": 3}),
    ("bf16", "fwd", {"a_layout": "column", "b_layout": "row", "output": "fp32"}),
    ("fp16", "fwd", {"product": "dgrad"}),
]  # fmt: skip


@pytest.mark.parametrize(("precision", "pass_", "changes"), CASES)
def test_the_gate_passes_what_the_workload_makes_of_it(precision: str, pass_: str, changes: dict[str, Any]) -> None:
    fields = {"workload": "gemm", "params": {"m": 68, "n": 48, "k": 80, **changes}, "precision": precision}
    made = case_of({**fields, "pass": pass_, "measure": {"cache": "hot"}, "impl": ["triton"]})
    found = examine(made.message(), "triton", BACKEND)
    assert found["status"] == "ok", found


def test_a_wrong_kernel_is_caught_by_the_gate(monkeypatch: pytest.MonkeyPatch, launcher: ModuleType) -> None:
    """One that loses the last tile, and one that forgets a split."""
    a, b = normal(96, 200), normal(200, 96)
    bound = products.bound("bf16", "bf16", 200)
    assert products.check(a, b, built()(a, b), bound=bound, name="result").ok
    real = launcher.run

    def lost(call: Any, plan: Any) -> Tensor:
        result: Tensor = real(call, plan)
        result[64:, 64:] = 0
        return result

    def forgotten(call: Any, plan: Any) -> Tensor:
        shorter = replace(call, a=call.a[:, :100], b=call.b[:100])
        result: Tensor = real(shorter, launcher.Plan.of(shorter, plan.tile))
        return result

    for wrong in (lost, forgotten):
        monkeypatch.setattr(launcher, "run", wrong)
        assert not products.check(a, b, built()(a, b), bound=bound, name="result").ok


@pytest.mark.parametrize(
    ("operands", "message"),
    [
        ((normal(5), normal(5, 4)), r"a: found shape \[5\], expected \[m, k\] or \[batch, m, k\]"),
        ((normal(3, 5), normal(6, 4)), r"b: found shape \[6, 4\], expected \[5, any\]"),
        ((normal(2, 3, 5), normal(5, 4)), r"b: found shape \[5, 4\], expected \[2, 5, any\]"),
        ((normal(3, 5, like="fp16"), normal(5, 4)), "a: found float16, expected bfloat16"),
        ((normal(3, 5), normal(5, 4, like="fp32")), "b: found float32, expected bfloat16"),
        ((normal(3, 5), normal(5, 4), normal(3)), r"bias: found shape \[3\], expected \[4\]"),
        ((normal(3, 5), normal(5, 4).to("meta")), "b: found a tensor on meta, expected cpu"),
    ],
)
def test_wrong_operands_are_refused_by_name(operands: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built()(*operands)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        (((4, 1), (1, 1)), r"scale_b: found shape \[1, 1\], expected \[1, 6\]"),
        (((5, 1), (1, 6)), r"scale_a: found shape \[5, 1\], expected \[4, 1\]"),
    ],
)
def test_scales_of_another_shape_are_refused(scales: tuple[tuple[int, int], ...], message: str) -> None:
    a, b = torch.ones(4, 32).to(torch.float8_e4m3fn), torch.ones(32, 6).to(torch.float8_e4m3fn)
    multiply = built(compute="e4m3fn", scaling="row", quantize="outside", gradients=False)
    with pytest.raises(ValueError, match=message):
        multiply(a, b, *(torch.ones(shape) for shape in scales))


@pytest.mark.parametrize("after", ["none", "swiglu"])
def test_torch_finds_nothing_amiss_with_the_operation(after: str) -> None:
    from perwatt_kernels.matmul.triton_ops import OPERATIONS

    a, b = normal(5, 8, like="fp32").requires_grad_(), normal(6, 8, like="fp32").mT.requires_grad_()
    bias = normal(6, like="fp32").requires_grad_()
    torch.library.opcheck(OPERATIONS.product, (a, b, bias, torch.float32, "fp32", after))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device": "cuda", "chip": "V100", "capability": (7, 0)}, "triton needs compute capability 8.0, V100 has 7.0"),
        ({"device": "neuron"}, "triton runs on cuda, not on neuron"),
        ({"compute": "e4m3"}, "triton takes bf16, fp16, tf32, fp32, e4m3fn, not e4m3"),
        ({"compute": "e4m3fn", "scaling": "block32"}, "products with block scales are Blackwell's"),
        (
            {"compute": "e4m3fn", "scaling": "row", "device": "cuda", "chip": "A100", "capability": (8, 0)},
            "products of 8-bit operands need compute capability 8.9, A100 has 8.0",
        ),
        ({"params": {**PARAMS, "epilogue": "gelu_tanh"}}, "the epilogue gelu_tanh has no backward: use pass fwd"),
    ],
)
def test_what_it_does_not_take_is_refused(changes: dict[str, Any], reason: str) -> None:
    assert reason in (kernel().refusal(replace(REQUEST, **changes)) or "")


def test_gelu_has_no_gradient_even_where_one_is_asked_for_by_hand() -> None:
    a, b = normal(4, 5).requires_grad_(), normal(5, 8)
    result = built(gradients=False, params={"epilogue": "gelu_tanh"})(a, b)
    with pytest.raises(NotImplementedError, match="gelu_tanh has no backward"):
        result.sum().backward()


def test_the_interpreter_is_still_wrong_about_bfloat16() -> None:
    """When this fails, Triton has been mended: take INTERPRETED out of triton_kernels.py."""
    import triton
    from triton import language as tl

    @triton.jit
    def naive(a, b, c):  # type: ignore[no-untyped-def]
        at = tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :]
        tl.store(c + at, tl.dot(tl.load(a + at), tl.load(b + at)))

    a, b, c = normal(16, 16), normal(16, 16), torch.zeros(16, 16)
    naive[(1,)](a, b, c)
    assert error(c, a.double() @ b.double()) > 0.1

    @triton.jit
    def narrowed(a, b):  # type: ignore[no-untyped-def]
        at = tl.arange(0, 16)
        tl.store(b + at, tl.load(a + at).to(tl.bfloat16))

    wide, narrow = normal(16, like="fp32"), torch.zeros(16, dtype=torch.bfloat16)
    narrowed[(1,)](wide, narrow)
    assert not torch.equal(narrow, wide.bfloat16())


def test_the_tile_that_is_chosen_is_launched(launcher: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked holds all that it depends on, so no two of these products are taken for the same."""
    asked = []

    def chosen(about: str, shape: Any, device: Any, candidates: Any, call: Callable[[Tile], Tensor]) -> Tile:
        asked.append((about, *shape))
        assert torch.equal(call(TILES["pointers"]), call(TILES["pointers"]))
        return TILES["split"]

    monkeypatch.setattr(launcher, "tile_for", chosen)
    monkeypatch.setattr(launcher, "plans", {})
    a, b, bias = normal(32, 48), normal(48, 64), normal(64)
    by_columns = b.mT.contiguous().mT
    plain = {"a": a, "b": b, "output": torch.bfloat16, "compute": "bf16"}
    changes = [
        {}, {"a": a[:31]}, {"b": by_columns}, {"output": torch.float32}, {"bias": bias}, {"after": "gelu_tanh"},
        {"a": a.half(), "b": b.half()}, {"a": a.float(), "b": b.float(), "compute": "tf32"},
        {"a": a.float(), "b": b.float(), "compute": "fp32"}, {"b": normal(48, 65)[:, 1:]},
        {"a": torch.stack((a, a)), "b": torch.stack((b, b))},
    ]  # fmt: skip
    for change in changes:
        call = launcher.Call(**{**plain, **change})
        for _ in range(2):
            assert torch.equal(launcher.multiply(call), launcher.launch(call, TILES["split"]))
    assert len(set(asked)) == len(asked) == len(changes)

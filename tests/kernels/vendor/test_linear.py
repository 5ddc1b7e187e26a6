"""Transformer Engine and torchao as linear layers: three products by the policy, behind fakes and as installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes.hopper import ScaledProduct
from fakes.vendor import gpu
from perwatt.backends.cuda import Cuda
from perwatt.results.schema import Status
from perwatt.timing.measure import outcome
from perwatt_kernels import registry
from perwatt_kernels.matmul.quantize import quantized, spread

CLOSE = 1.5e-2
"""Relative: the result in bf16, rounded once or twice, and elements of bf16 that lie right between two of 8 bits, which
go either way where one library divides by a scale and another multiplies by its reciprocal."""
ELSEWHERE = 2.5e-2  # what another format or granularity of one operand is away by at least
INSTALLED = importlib.util.find_spec("torchao") is not None  # before any fake is
Products = tuple[Tensor, Tensor, Tensor, Tensor]


def request(**changes: Any) -> registry.Request:
    params = {"m": 48, "n": 32, "k": 64, "bias": True}
    fields = {
        "device": "cuda", "compute": "e4m3fn", "output": "bf16", "backward": "e5m2", "scaling": "tensor",
        "quantize": "inside", "gradients": True, "capability": (9, 0), "chip": "h100-sxm",
    }  # fmt: skip
    own = {name: changes.pop(name) for name in list(changes) if name in fields or name == "fast_accumulation"}
    return registry.Request(**{**fields, **own}, params={**params, **changes}, compile=lambda function: function)


PLAIN = {"compute": "bf16", "scaling": "none", "quantize": "", "backward": ""}


def kernel(impl: str) -> registry.Kernel:
    return registry.kernels("linear")[impl]


def operands(*leading: int, dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, Tensor, Tensor]:
    shapes = ((*leading, 64), (32, 64), (32,))
    x, w, bias = ((torch.randn(shape) * 3).to(dtype).requires_grad_() for shape in shapes)
    return x, w, bias


def seen(x: Tensor, name: str, scaling: str, depth: int) -> Tensor:
    """A tensor as a product sees it by the policy."""
    if scaling == "none":
        return x.double()
    elements, scale = quantized(x, name, scaling, depth)
    return (elements * spread(scale, x, depth)).double()


def wanted(asked: registry.Request, x: Tensor, w: Tensor, bias: Tensor, incoming: Tensor) -> Products:
    """Result and gradients by the policy, in float64."""
    scaling, forward, backward = asked.scaling, asked.compute, asked.backward or asked.compute
    flat, back = x.detach().reshape(-1, x.shape[-1]), incoming.reshape(-1, w.shape[0])
    w = w.detach()
    y = seen(flat, forward, scaling, -1) @ seen(w.T, forward, scaling, -2) + bias.detach().double()
    dx = seen(back, backward, scaling, -1) @ seen(w, forward, scaling, -2)
    dw = seen(back.T, backward, scaling, -1) @ seen(flat, forward, scaling, -2)
    return y.reshape(incoming.shape), dx.reshape(x.shape), dw, back.double().sum(0)


def away(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def products(asked: registry.Request, impl: str, x: Tensor, w: Tensor, bias: Tensor) -> tuple[Products, Tensor]:
    """Result and gradients of an implementation, and what flowed in."""
    result = kernel(impl).build(asked)(x, w, bias)
    incoming = torch.randn(result.shape).to(result.dtype)
    return (result, *torch.autograd.grad(result, (x, w, bias), incoming)), incoming


def assert_by_the_policy(asked: registry.Request, impl: str, x: Tensor, w: Tensor, bias: Tensor) -> None:
    found, incoming = products(asked, impl, x, w, bias)
    for one, true in zip(found, wanted(asked, x, w, bias, incoming), strict=True):
        assert one.shape == true.shape
        assert one.dtype == x.dtype
        assert away(one.detach(), true) < CLOSE


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> ScaledProduct:
    product = ScaledProduct()
    monkeypatch.setattr(torch, "_scaled_mm", product)
    return product


@pytest.mark.parametrize("leading", [(48,), (4, 12), (2, 2, 12)])
@pytest.mark.parametrize("impl", ["torchao", "torchao.compile"])
@pytest.mark.parametrize("scaling", ["tensor", "row"])
@pytest.mark.parametrize("fast", [True, False])
def test_torchao_by_the_policy(
    installed: Any, scaled: ScaledProduct, impl: str, scaling: str, fast: bool, leading: tuple[int, ...]
) -> None:
    installed("ao")
    asked = request(scaling=scaling, fast_accumulation=fast)
    assert kernel(impl).refusal(asked) is None
    assert_by_the_policy(asked, impl, *operands(*leading))
    assert len(scaled.calls) == 3
    assert {call[-1] for call in scaled.calls} == {fast}, "in all three products"
    assert [call[0] for call in scaled.calls] == [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e5m2]
    assert all((shape.numel() > 1) == (scaling == "row") for call in scaled.calls for shape in call[2:4])


@pytest.mark.parametrize("scaling", ["tensor", "row"])
def test_torchao_emulates_on_a_cpu(installed: Any, scaling: str) -> None:
    module = installed("ao")("torchao.float8")
    asked = request(device="cpu", capability=None, scaling=scaling)
    assert kernel("torchao").refusal(asked) is None
    assert_by_the_policy(asked, "torchao", *operands(48))
    assert module.CALLS == ["emulated"] * 3


@pytest.mark.skipif(not INSTALLED, reason="torchao is not installed")
@pytest.mark.parametrize("scaling", ["tensor", "row"])
def test_torchao_as_it_is_installed(scaling: str) -> None:
    assert_by_the_policy(request(device="cpu", capability=None, scaling=scaling), "torchao", *operands(4, 12))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("leading", [(48,), (4, 12)])
def test_te_in_fp8_by_the_policy(installed: Any, fast: bool, leading: tuple[int, ...]) -> None:
    module = installed("te")("transformer_engine.pytorch")
    asked = request(fast_accumulation=fast)
    assert kernel("te").refusal(asked) is None
    assert_by_the_policy(asked, "te", *operands(*leading))
    recipe = module.CALLS[0]["recipe"]
    for product in (recipe.fp8_gemm_fprop, recipe.fp8_gemm_dgrad, recipe.fp8_gemm_wgrad):
        assert product.use_split_accumulator is not fast
    assert module._ACTIVE == [], "the region is left"


@pytest.mark.parametrize(("format", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_te_in_16_bits(installed: Any, format: str, dtype: torch.dtype) -> None:
    module = installed("te")("transformer_engine.pytorch")
    asked = request(**{**PLAIN, "compute": format, "output": format})
    assert kernel("te").refusal(asked) is None
    assert_by_the_policy(asked, "te", *operands(4, 12, dtype=dtype))
    assert module.CALLS[0]["recipe"] is None


def test_te_before_version_2_9(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The region had another name, and its recipe another argument."""
    module = installed("te")("transformer_engine.pytorch")
    region = module.autocast
    monkeypatch.delattr(module, "autocast")
    monkeypatch.setattr(
        module, "fp8_autocast", lambda enabled, fp8_recipe: region(enabled=enabled, recipe=fp8_recipe), raising=False
    )
    assert_by_the_policy(request(), "te", *operands(48))


@pytest.mark.parametrize(("impl", "folder"), [("te", "te"), ("torchao", "ao")])
def test_without_bias_and_with_strides(installed: Any, scaled: ScaledProduct, impl: str, folder: str) -> None:
    installed(folder)
    x, w, _ = operands(48)
    wide = torch.randn(48, 128).bfloat16()[:, ::2].requires_grad_()
    linear = kernel(impl).build(request(bias=False))
    for one in (x, wide):
        result = linear(one, w)
        expected = wanted(request(), one, w, torch.zeros(32), torch.ones_like(result))
        assert away(result.detach(), expected[0]) < CLOSE
        for gradient, true in zip(torch.autograd.grad(result.sum(), (one, w)), expected[1:3], strict=True):
            assert away(gradient, true) < CLOSE


@pytest.mark.parametrize(("impl", "folder"), [("te", "te"), ("torchao", "ao")])
def test_weights_are_read_anew_at_every_call(installed: Any, scaled: ScaledProduct, impl: str, folder: str) -> None:
    installed(folder)
    linear = kernel(impl).build(request())
    x, w, bias = operands(48)
    first = linear(x, w, bias)
    with torch.no_grad():
        w.mul_(-2.0)
    assert away(linear(x, w, bias).detach() - bias.detach(), -2 * (first.detach() - bias.detach()).double()) < 2 * CLOSE


def test_libraries_own_recipes_would_be_found_out(installed: Any, scaled: ScaledProduct) -> None:
    """Gradients in e4m3, and scales of another granularity, are further away than rounding is."""
    installed("ao", "te")
    x, w, bias = operands(48)
    asked = request()
    for other in (request(backward="e4m3fn"), request(scaling="row")):
        (_, dx, dw, _), incoming = products(other, "torchao", x, w, bias)
        _, true_dx, true_dw, _ = wanted(asked, x, w, bias, incoming)
        assert away(dx, true_dx) > ELSEWHERE
        assert away(dw, true_dw) > ELSEWHERE


@pytest.mark.parametrize(
    ("impl", "changes", "words"),
    [
        ("te", {"capability": (7, 5)}, "te needs compute capability 8.0"),
        ("te", {"capability": (8, 6)}, "fp8 needs compute capability 8.9, h100-sxm has 8.6"),
        ("te", {"capability": (8, 6), **PLAIN}, ""),
        ("te", {"scaling": "row"}, "no scales by row"),
        ("te", {"scaling": "block32", "compute": "mxfp8"}, "te takes bf16, fp16, e4m3fn, not mxfp8"),
        ("te", {"quantize": "outside"}, "te quantizes bf16 operands to e4m3fn inside"),
        ("te", {"k": 72, "m": 40}, "found m 40 and k 72, expected multiples of 16"),
        ("te", {"k": 72, "m": 40, **PLAIN}, ""),
        ("te", {"output": "fp32", **PLAIN}, "result in the format of its operands, bf16, not fp32"),
        ("te", {**PLAIN, "compute": "fp32"}, "takes bf16, fp16, e4m3fn, not fp32"),
        ("te", {"device": "cpu", "capability": None}, "te runs on cuda, not on cpu"),
        ("torchao", {"capability": (8, 6)}, "torchao needs compute capability 8.9"),
        ("torchao", PLAIN, "takes e4m3fn, not bf16"),
        ("torchao", {"scaling": "block32", "compute": "e4m3fn"}, "scales by tensor and by row, not block32"),
        ("torchao", {"quantize": "outside"}, "quantizes inside: use a policy without _outside"),
        ("torchao", {"output": "fp32"}, "bf16 or fp16, not fp32"),
        ("torchao", {"m": 40}, "takes multiples of 16 for depth and columns, here m"),
        ("torchao", {"m": 40, "gradients": False}, ""),
        ("torchao", {"n": 40, "gradients": False}, "takes multiples of 16 for depth and columns, here n"),
        ("torchao", {"n": 40, "device": "cpu", "capability": None}, ""),
    ],
)
def test_what_they_do_not_take_is_refused(installed: Any, impl: str, changes: dict[str, Any], words: str) -> None:
    installed("te", "ao")
    reason = kernel(impl).refusal(request(**changes))
    assert reason is None if not words else words in (reason or "")


@pytest.mark.parametrize("variable", ["NVTE_FP8_CURRENT_SCALING_POWER_2_SCALES", "NVTE_BACKWARD_OVERRIDE"])
def test_settings_that_change_the_mathematics_are_refused(installed: Any, variable: str, monkeypatch: Any) -> None:
    installed("te")
    monkeypatch.setenv(variable, "1" if "POWER" in variable else "dequantized")
    assert f"{variable} is set" in (kernel("te").refusal(request()) or "")
    assert kernel("te").refusal(request(**PLAIN)) is None


@pytest.mark.parametrize(
    ("impl", "words"),
    [
        ("te", r"needs transformer_engine.pytorch: pip install --no-build-isolation 'transformer_engine\[pytorch\]'"),
        pytest.param("torchao", "needs torchao.float8: pip install torchao",
                     marks=pytest.mark.skipif(INSTALLED, reason="torchao is installed")),
    ],
)  # fmt: skip
def test_a_library_that_is_missing_says_how_to_get_it(installed: Any, impl: str, words: str) -> None:
    installed()
    assert words.replace("\\", "") in (kernel(impl).refusal(request()) or "")


def test_no_memory_is_no_refusal(installed: Any, monkeypatch: Any) -> None:
    installed("te")
    linear = kernel("te").build(request())
    monkeypatch.setattr(gpu, "FULL", True)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        linear(*operands(48))
    assert outcome(raised.value, Cuda(0), launched=True)[0] == Status.OOM


@pytest.mark.parametrize(("impl", "folder"), [("te", "te"), ("torchao", "ao")])
def test_wrong_operands_are_named(installed: Any, impl: str, folder: str) -> None:
    installed(folder)
    linear = kernel(impl).build(request())
    x, w, bias = operands(48)
    for wrong, words in [
        ((x, w[:, :48], bias), r"w: found shape \[32, 48\], expected \[any, 64\]"),
        ((x, w, bias[:16]), r"bias: found shape \[16\], expected \[32\]"),
        ((x.float(), w, bias), "x: found float32, expected bfloat16"),
        ((x, w.float(), bias), "w: found float32, expected bfloat16"),
        ((x, w.to("meta"), bias), "w: found a tensor on meta, expected cpu"),
        ((x[0, 0], w, bias), r"x: found shape \[\], expected \[..., k\]"),
    ]:
        with pytest.raises(ValueError, match=words):
            linear(*wrong)

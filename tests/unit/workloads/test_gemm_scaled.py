"""gemm in fp8: operands, counts, what cannot be done, and faults that its gate catches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from perwatt.accuracy import products
from perwatt.backends.cpu import BACKEND
from perwatt.spec.case import Case, build
from perwatt.spec.precision import POLICIES, policy
from perwatt_kernels.dtypes import dtype
from perwatt_kernels.matmul.quantize import quantized
from perwatt_kernels.matmul.scaled_impl import cast

SUPPORTED = ["fp8_tensor", "fp8_row", "fp8_tensor_outside", "fp8_row_outside"]
BASE: dict[str, Any] = {"m": 96, "n": 128, "k": 80}


def case(precision: str, params: dict[str, Any] | None = None, **fields: Any) -> Case:
    measure = {"cache": "hot"}
    return build(
        {"workload": "gemm", "params": {**BASE, **(params or {})}, "precision": precision, "measure": measure, **fields}
    )


def opened(made: Case, impl: str = "torch"):
    return made.workload.open(made, made.workload.impls()[impl], BACKEND, 3)


def why_not(made: Case, impl: str = "torch") -> str | None:
    return made.workload.unsupported(made, made.workload.impls()[impl], BACKEND)


@pytest.mark.parametrize("precision", SUPPORTED)
@pytest.mark.parametrize("impl", ["torch", "dequantize", "reference"])
@pytest.mark.parametrize(
    "params",
    [{}, {"product": "dgrad"}, {"product": "wgrad"}, {"output": "fp32"}, {"epilogue": "bias_gelu_tanh"},
     {"a_layout": "column", "b_layout": "row"}, {"m": 5, "n": 1, "k": 7}],
    ids=str,
)  # fmt: skip
def test_honest_products_pass(precision: str, impl: str, params: dict[str, Any]) -> None:
    made = case(precision, params)
    assert why_not(made, impl) is None
    session = opened(made, impl)
    before, after = session.check(0), session.check(1)
    assert before.ok, before
    assert after.ok, after


def test_a_torch_without_such_products_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*operands: Any, **options: Any) -> Tensor:
        raise RuntimeError("Only tensor-wise\nscaling")

    monkeypatch.setattr(torch, "_scaled_mm", refuses)
    with pytest.raises(NotImplementedError, match="Only tensor-wise scaling; impl dequantize needs no such product"):
        opened(case("fp8_row"))
    assert opened(case("fp8_row"), "dequantize").check(0).ok


def test_the_path_names_the_product_that_ran() -> None:
    assert "_scaled_mm" in opened(case("fp8_tensor")).path()
    assert "_scaled_mm" not in opened(case("fp8_tensor"), "dequantize").path()


EVERYWHERE = [name for name, p in POLICIES.items() if p.quantize]


@pytest.mark.parametrize("precision", EVERYWHERE)
@pytest.mark.parametrize("product", ["fwd", "wgrad"])
def test_the_reference_does_what_no_device_here_can(precision: str, product: str) -> None:
    session = opened(case(precision, {"product": product}), "reference")
    result = session.check(0)
    assert result.ok, result
    session._function = lambda a, b, *rest: (a.float() @ b.float()).bfloat16()
    assert not session.check(0).ok


@pytest.mark.parametrize(
    ("precision", "product", "formats"),
    [("fp8_row", "fwd", ["bf16", "bf16"]), ("fp8_row_outside", "fwd", ["e4m3fn", "e4m3fn", "fp32", "fp32"]),
     ("fp8_row_outside", "dgrad", ["e5m2", "e4m3fn", "fp32", "fp32"]),
     ("fp8_row_outside", "wgrad", ["e5m2", "e4m3fn", "fp32", "fp32"])],
)  # fmt: skip
def test_operands_arrive_as_the_policy_says(precision: str, product: str, formats: list[str]) -> None:
    session = opened(case(precision, {"product": product}))
    assert [t.dtype for t in session._sets[0]] == [dtype(name) for name in formats]
    plain = opened(case("bf16", {"product": product}))
    assert [t.stride() for t in session._sets[0][:2]] == [t.stride() for t in plain._sets[0]]


def test_bytes_are_those_of_operands_as_they_arrive() -> None:
    a, b, c = 96 * 80, 80 * 128, 96 * 128 * 2
    made = case("bf16")
    moved = {name: made.workload.counts(made.params, "fwd", policy(name)).bytes for name in POLICIES if "8" in name}
    assert moved["fp8_tensor"] == moved["fp8_row_fast"] == moved["mxfp8"] == 2 * (a + b) + c
    assert moved["fp8_tensor_outside"] == a + b + c + 2 * 4
    assert moved["fp8_row_ieee_outside"] == a + b + c + (96 + 128) * 4
    assert moved["mxfp8_outside"] == (a + b) * 33 / 32 + c
    flops = {made.workload.counts(made.params, "fwd", p).flops for p in POLICIES.values()}
    assert flops == {2.0 * 96 * 128 * 80}


@pytest.mark.parametrize("name", [name for name in POLICIES if "8" in name and name not in SUPPORTED])
def test_what_a_cpu_lacks_is_unsupported_with_a_reason(name: str) -> None:
    reason = why_not(case(name)) or ""
    words = "MXFP8" if "mxfp8" in name else "IEEE 754" if "ieee" in name else "fast accumulation"
    assert words in reason


def test_what_cannot_be_done_in_fp8_says_why() -> None:
    assert "dgrad" in (why_not(case("fp8_tensor_outside", **{"pass": "fwd+bwd"})) or "")
    assert "reference" in (why_not(case("fp8_tensor", grad=True), "reference") or "")
    assert "batches" in (why_not(case("fp8_tensor", {"batch": 2})) or "")
    assert why_not(case("fp8_tensor", {"batch": 2}), "dequantize") is None
    assert "no scales" in (why_not(case("bf16"), "dequantize") or "")
    other = {
        "attention": {"heads": 2, "seq": 16, "head_dim": 16},
        "transformer_layer": {
            "batch": 1,
            "seq": 8,
            "hidden": 32,
            "intermediate": 64,
            "heads": 2,
            "kv_heads": 2,
        },
    }
    for workload, params in other.items():
        made = build({"workload": workload, "params": params, "precision": "fp8_row"})
        assert "fp8_row" in (why_not(made, made.impls[0]) or "")


Eight = tuple[Tensor, Tensor, Tensor, Tensor]


def in_eight_bits(a: Tensor, b: Tensor, scaling: str) -> Eight:
    (qa, sa), (qb, sb) = cast(a, "e4m3fn", scaling, -1), cast(b, "e4m3fn", scaling, -2)
    return qa.float(), qb.float(), sa, sb


def honest(a: Tensor, b: Tensor, scaling: str) -> Tensor:
    qa, qb, sa, sb = in_eight_bits(a, b, scaling)
    return qa @ qb * sa * sb


def by_reciprocals(a: Tensor, b: Tensor, scaling: str) -> Tensor:
    """Values times 448 / largest instead of over largest / 448: now and then one is rounded the other way."""
    _, _, sa, sb = in_eight_bits(a, b, scaling)
    qa, qb = (a.float() * (1 / sa)).to(torch.float8_e4m3fn), (b.float() * (1 / sb)).to(torch.float8_e4m3fn)
    return qa.float() @ qb.float() * sa * sb


def wrong_scale(a: Tensor, b: Tensor, scaling: str) -> Tensor:
    return honest(a, b, scaling) * 1.01


def missing_scale(a: Tensor, b: Tensor, scaling: str) -> Tensor:
    qa, qb, sa, _ = in_eight_bits(a, b, scaling)
    return qa @ qb * sa


def tile_unscaled(a: Tensor, b: Tensor, scaling: str) -> Tensor:
    qa, qb, _, _ = in_eight_bits(a, b, scaling)
    c = honest(a, b, scaling)
    c[32:64, 64:96] = (qa @ qb)[32:64, 64:96]
    return c


def neighbour_s_scale(a: Tensor, b: Tensor, scaling: str) -> Tensor:
    """One row is scaled by the scale of the next; by tensor, one tile by a hundredth too much."""
    qa, qb, sa, sb = in_eight_bits(a, b, scaling)
    sa = sa.expand(a.shape[0], 1).clone()
    sa[7] = sa[8] if scaling == "row" else sa[7] * 1.05
    return qa @ qb * sa * sb


def unquantized(a: Tensor, b: Tensor, scaling: str) -> Tensor:
    return a.float() @ b.float()


def other_granularity(a: Tensor, b: Tensor, scaling: str) -> Tensor:
    return honest(a, b, {"tensor": "row", "row": "tensor"}[scaling])


def ieee_format(a: Tensor, b: Tensor, scaling: str) -> Tensor:
    (qa, sa), (qb, sb) = quantized(a, "e4m3", scaling, -1), quantized(b, "e4m3", scaling, -2)
    return qa @ qb * sa * sb


def coarser_format(a: Tensor, b: Tensor, scaling: str) -> Tensor:
    (qa, sa), (qb, sb) = cast(a, "e5m2", scaling, -1), cast(b, "e5m2", scaling, -2)
    return qa.float() @ qb.float() * sa * sb


def truncated(a: Tensor, b: Tensor, scaling: str) -> Tensor:
    _, _, sa, sb = in_eight_bits(a, b, scaling)
    down = [(t.float() / s * (1 - 2**-4)).to(torch.float8_e4m3fn).float() for t, s in ((a, sa), (b, sb))]
    return down[0] @ down[1] * sa * sb


def one_element_lost(a: Tensor, b: Tensor, scaling: str) -> Tensor:
    c = honest(a, b, scaling)
    row, column = divmod(int(c.abs().argmax()), c.shape[1])
    c[row, column] = 0
    return c


FAULTS: list[Callable[..., Tensor]] = [
    wrong_scale, missing_scale, tile_unscaled, neighbour_s_scale, unquantized, other_granularity, ieee_format,
    coarser_format, truncated, one_element_lost,
]  # fmt: skip


def judged(kind: Callable[..., Tensor], scaling: str, params: dict[str, Any]) -> Any:
    made = case(f"fp8_{scaling}", params)
    session = opened(made)
    session._function = lambda a, b: kind(a, b, scaling).to(dtype(params.get("output", "bf16")))
    return session.check(0)


@pytest.mark.parametrize("scaling", ["tensor", "row"])
@pytest.mark.parametrize("params", [{}, {"output": "fp32"}], ids=str)
@pytest.mark.parametrize("kind", [honest, by_reciprocals])
def test_honest_quantization_passes(kind: Callable[..., Tensor], scaling: str, params: dict[str, Any]) -> None:
    result = judged(kind, scaling, params)
    assert result.ok, result


@pytest.mark.parametrize("scaling", ["tensor", "row"])
@pytest.mark.parametrize("params", [{}, {"output": "fp32"}], ids=str)
@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_faults_are_caught(kind: Callable[..., Tensor], scaling: str, params: dict[str, Any]) -> None:
    assert not judged(kind, scaling, params).ok


def test_a_scale_kept_from_earlier_inputs_is_caught() -> None:
    session = opened(case("fp8_tensor"))
    kept: list[Eight] = []

    def stale(a: Tensor, b: Tensor) -> Tensor:
        kept.append(in_eight_bits(a, b, "tensor"))
        sa, sb = kept[0][2:]
        qa, qb = (
            t.div(s).clamp(-448, 448).to(torch.float8_e4m3fn).float() for t, s in ((a.float(), sa), (b.float(), sb))
        )
        return (qa @ qb * sa * sb).bfloat16()

    session._function = stale
    assert not session.check(1).ok


@pytest.mark.parametrize("precision", ["fp8_tensor", "fp8_row"])
@pytest.mark.parametrize("impl", ["torch", "dequantize"])
@pytest.mark.parametrize("fields", [{"pass": "bwd"}, {"pass": "fwd+bwd"}, {"grad": True}], ids=str)
def test_backward_passes_pass(precision: str, impl: str, fields: dict[str, Any]) -> None:
    session = opened(case(precision, **fields), impl)
    before, after = session.check(0), session.check(1)
    assert before.ok, before
    assert after.ok, after


class Backward(torch.autograd.Function):
    """A product with formats of the incoming gradient and of the operands, and a factor, that a test sets wrong."""

    formats, factor = ("e5m2", "e4m3fn"), 1.0

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return honest(a, b, "tensor").bfloat16()

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, Tensor]:
        gradient, other = Backward.formats
        g, sg = cast(incoming, gradient, "tensor", -1)
        (a, sa), (b, sb) = (cast(t, other, "tensor", -1) for t in ctx.saved_tensors)
        to_a, to_b = g.float() @ b.float().mT * sg * sb, a.float().mT @ g.float() * sa * sg
        return to_a.bfloat16(), (to_b * Backward.factor).bfloat16()


@pytest.mark.parametrize(
    ("formats", "factor", "passes"),
    [(("e5m2", "e4m3fn"), 1.0, True), (("e4m3fn", "e4m3fn"), 1.0, False), (("e5m2", "e5m2"), 1.0, False),
     (("e5m2", "e4m3fn"), 1.05, False)],
)  # fmt: skip
def test_wrong_formats_and_scales_of_gradients_are_caught(
    formats: tuple[str, str], factor: float, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backward, "formats", formats)
    monkeypatch.setattr(Backward, "factor", factor)
    session = opened(case("fp8_tensor", **{"pass": "fwd+bwd"}))
    session._function = Backward.apply
    assert session.check(0).ok == passes


@pytest.mark.parametrize(
    "fault",
    [
        lambda a, b, sa, sb: a.float() @ b.float() * sa,
        lambda a, b, sa, sb: a.float() @ b.float() * sa.mean() * sb.mean(),
    ],
    ids=["missing scale", "mean scale"],
)
def test_faults_with_operands_from_outside_are_caught(fault: Callable[..., Tensor]) -> None:
    session = opened(case("fp8_row_outside"))
    session._function = lambda *operands: fault(*operands).bfloat16()
    assert not session.check(0).ok


def short_sums(a: Tensor, b: Tensor, promoted: int) -> Tensor:
    """Sums cut to 14 bits after every 32 terms, and added to float32 ones after so many."""
    total, part = torch.zeros(2, a.shape[0], b.shape[1])
    for start in range(0, a.shape[1], 32):
        mantissa, exponent = torch.frexp(part + a[:, start : start + 32] @ b[start : start + 32])
        part = torch.ldexp((mantissa * 2**14).trunc(), exponent - 14)
        if (start + 32) % promoted == 0:
            total, part = total + part, torch.zeros_like(part)
    return total + part


@pytest.mark.parametrize("depth", [1024, 8192])
@pytest.mark.parametrize("output", ["fp32", "bf16"])
def test_bounds_tell_fast_accumulation_from_the_other(depth: int, output: str) -> None:
    source = torch.Generator().manual_seed(0)
    a, b = torch.randn(32, depth, generator=source), torch.randn(depth, 64, generator=source)
    a, b = quantized(a, "e4m3fn", "row", -1)[0], quantized(b, "e4m3fn", "row", -2)[0]
    for promoted, fast, passes in (
        (128, False, True),
        (2**30, True, True),
        (2**30, False, depth < 2048 and output == "bf16"),
    ):
        limit = products.bound("e4m3fn", output, depth, fast)
        result = short_sums(a, b, promoted).to(dtype(output))
        assert products.check(a, b, result, bound=limit, name="result").ok == passes

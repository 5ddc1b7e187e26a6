"""Products and attention on CUDA, by fakes that refuse what torch refuses there."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend

from fakes.hopper import WIDE, Attention, Cuda, ScaledProduct
from perwatt_kernels.attention.sdpa_impl import refusal
from support.sessions import case

GEMM = {"m": 96, "n": 128, "k": 80}
ATTENTION = {"batch": 2, "heads": 4, "kv_heads": 2, "seq": 96, "head_dim": 16}
BACKENDS = {
    "sdpa-flash": SDPBackend.FLASH_ATTENTION,
    "sdpa-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa-cudnn": SDPBackend.CUDNN_ATTENTION,
}


def opened(made: Any, impl: str) -> Any:
    backend = Cuda()
    assert made.workload.unsupported(made, made.workload.impls()[impl], backend) is None
    return made.workload.open(made, made.workload.impls()[impl], backend, 3)


def why_not(made: Any, impl: str) -> str:
    return made.workload.unsupported(made, made.workload.impls()[impl], Cuda()) or ""


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a fake product in place of torch's, and tiles on the CPU."""
    ones = torch.ones

    def put(product: ScaledProduct) -> ScaledProduct:
        monkeypatch.setattr(torch, "_scaled_mm", product)
        monkeypatch.setattr(torch, "ones", lambda *size, device=None, **more: ones(*size, **more))
        return product

    return put


POLICIES = [
    f"fp8_{by}{where}{fast}" for by in ("tensor", "row") for where in ("", "_outside") for fast in ("", "_fast")
]


@pytest.mark.parametrize("precision", POLICIES)
@pytest.mark.parametrize("product", ["fwd", "dgrad", "wgrad"])
@pytest.mark.parametrize("layout", [{}, {"a_layout": "column", "b_layout": "row"}], ids=str)
def test_products_keep_to_what_cuda_takes(scaled: Any, precision: str, product: str, layout: dict[str, str]) -> None:
    fake = scaled(ScaledProduct())
    session = opened(case("gemm", {**GEMM, "product": product, **layout}, precision=precision), "torch")
    result = session.check(0)
    assert result.ok, result
    assert {fast for *_, fast in fake.calls} == {precision.endswith("_fast")}
    by_row = "row" in precision
    assert all((shape != (1, 1)) == by_row for _, _, *shapes, _, _ in fake.calls for shape in shapes)


@pytest.mark.parametrize("precision", ["fp8_tensor", "fp8_row"])
@pytest.mark.parametrize("product", [ScaledProduct(), ScaledProduct(cublas_rows=False), ScaledProduct((10, 0)),
                                     ScaledProduct((8, 9))], ids=["cublas", "cutlass", "blackwell", "ada"])  # fmt: skip
def test_gradients_keep_to_it_too(scaled: Any, precision: str, product: ScaledProduct) -> None:
    scaled(product)
    session = opened(case("gemm", GEMM, precision=precision, pass_="fwd+bwd"), "torch")
    result = session.check(0)
    assert result.ok, result
    assert any(torch.float8_e5m2 in call for call in product.calls)


@pytest.mark.parametrize("m", [1, 7, 17])
def test_rows_may_be_any_number(scaled: Any, m: int) -> None:
    scaled(ScaledProduct())
    assert opened(case("gemm", {**GEMM, "m": m}, precision="fp8_row"), "torch").check(0).ok


@pytest.mark.parametrize(
    ("params", "pass_", "named"),
    [
        ({"n": 100}, "fwd", "n"), ({"k": 100}, "fwd", "k"), ({"n": 100, "k": 100}, "fwd", "n and k"),
        ({"product": "dgrad", "n": 100}, "fwd", "n"), ({"product": "wgrad", "m": 100}, "fwd", "m"),
        ({"m": 100}, "fwd+bwd", "m"),
    ],
)  # fmt: skip
def test_depth_and_columns_are_whole_sixteens(params: dict[str, Any], pass_: str, named: str) -> None:
    reason = why_not(case("gemm", {**GEMM, **params}, precision="fp8_tensor", pass_=pass_), "torch")
    assert reason.endswith(f"here {named}"), reason
    assert why_not(case("gemm", {**GEMM, "product": "wgrad", "n": 100}, precision="fp8_tensor"), "torch") == ""


@pytest.mark.parametrize("output", ["bf16", "fp16", "fp32"])
def test_outputs_by_row_are_tried_out(scaled: Any, output: str) -> None:
    made = case("gemm", {**GEMM, "output": output}, precision="fp8_row")
    scaled(ScaledProduct(cublas_rows=True))
    assert opened(made, "torch").check(0).ok
    scaled(ScaledProduct(cublas_rows=False, row_outputs=WIDE))
    assert opened(made, "torch").check(0).ok
    scaled(ScaledProduct(cublas_rows=False))
    if output != "bf16":
        with pytest.raises(NotImplementedError, match="Only bf16 high precision output types"):
            opened(made, "torch")


def test_a_device_without_fp8_says_so(scaled: Any) -> None:
    scaled(ScaledProduct((8, 0)))
    with pytest.raises(NotImplementedError, match="compute capability >= 9; impl dequantize needs no such product"):
        opened(case("gemm", GEMM, precision="fp8_tensor"), "torch")


def test_block_scales_name_what_is_missing() -> None:
    reason = why_not(case("gemm", GEMM, precision="mxfp8"), "torch")
    assert "Blackwell" in reason
    assert "not built yet" in reason


@pytest.fixture
def attended(monkeypatch: pytest.MonkeyPatch) -> Any:
    real = F.scaled_dot_product_attention

    def put(impl: str, *, grouped: bool) -> Attention:
        fake = Attention(BACKENDS[impl], grouped=grouped, real=lambda *a, **k: real(*a, **k))
        monkeypatch.setattr(F, "scaled_dot_product_attention", fake)
        monkeypatch.setattr(torch.nn.attention, "_sdpa_kernel", lambda *backends, **options: None)
        return fake

    return put


@pytest.mark.parametrize("impl", BACKENDS)
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("pass_", ["fwd", "bwd", "fwd+bwd"])
@pytest.mark.parametrize("params", [{}, {"varlen": [40, 55, 1]}], ids=str)
def test_heads_are_repeated_only_where_a_backend_wants_it(
    attended: Any, impl: str, grouped: bool, pass_: str, params: dict[str, Any]
) -> None:
    fake = attended(impl, grouped=grouped)
    session = opened(case("attention", {**ATTENTION, **params}, precision="bf16", pass_=pass_), impl)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before, after = session.check(0), session.check(1)
    assert before.ok, before
    assert after.ok, after
    assert fake.calls[0] is True, "native first"
    assert fake.calls[1:].count(True) == (len(fake.calls) - 1 if grouped else 0), "then what worked, never tried again"


@pytest.mark.parametrize("impl", BACKENDS)
def test_heads_of_equal_number_are_tried_once(attended: Any, impl: str) -> None:
    fake = attended(impl, grouped=False)
    session = opened(case("attention", {**ATTENTION, "kv_heads": 4}, precision="bf16"), impl)
    assert session.check(0).ok
    assert set(fake.calls) == {False}


@pytest.mark.parametrize(
    ("impl", "params", "reason"),
    [
        ("sdpa-flash", {"q_len": 60, "kv_len": 96}, "does not support the is_causal flag when seqlen_q != seqlen_k"),
        ("sdpa-cudnn", {"head_dim": 12}, "head_dim should be a multiple of 8"),
    ],
)
@pytest.mark.parametrize("kv_heads", [2, 4])
@pytest.mark.parametrize("grouped", [True, False])
def test_what_a_backend_does_not_take_has_torchs_reason(
    attended: Any, impl: str, params: dict[str, Any], reason: str, kv_heads: int, grouped: bool
) -> None:
    attended(impl, grouped=grouped)
    session = opened(case("attention", {**ATTENTION, "kv_heads": kv_heads, **params}, precision="bf16"), impl)
    with pytest.raises(NotImplementedError) as found:
        session.run(0)
    assert reason in str(found.value)
    assert "Triggered" not in str(found.value)
    assert "\n" not in str(found.value)


def test_cudnn_that_finds_no_plan_does_not_take_it_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def planless(*operands: Any, **options: Any) -> Any:
        raise RuntimeError("cuDNN Frontend error: [cudnn_frontend] Error: No valid execution plans built.")

    monkeypatch.setattr(F, "scaled_dot_product_attention", planless)
    with pytest.raises(NotImplementedError, match="CUDNN_ATTENTION does not take this: cuDNN Frontend error"):
        opened(case("attention", ATTENTION, precision="bf16"), "sdpa-cudnn").run(0)


def test_other_failures_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*operands: Any, **options: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(F, "scaled_dot_product_attention", broken)
    with pytest.raises(RuntimeError, match="illegal memory access") as found:
        opened(case("attention", ATTENTION, precision="bf16"), "sdpa-cudnn").run(0)
    assert not isinstance(found.value, NotImplementedError)


FILES = "../aten/src/ATen/native/transformers"
RECORDED = [  # torch 2.5 with flash only and a mask (Dao-AILab/flash-attention#1321)
    f"Memory efficient kernel not used because: (Triggered internally at {FILES}/cuda/sdp_utils.cpp:718.)",
    f"Memory Efficient attention has been runtime disabled. (Triggered internally at {FILES}/sdp_utils_cpp.h:495.)",
    f"Flash attention kernel not used because: (Triggered internally at {FILES}/cuda/sdp_utils.cpp:720.)",
    f"Flash Attention does not support non-null attn_mask. (Triggered internally at {FILES}/sdp_utils_cpp.h:269.)",
    f"CuDNN attention kernel not used because: (Triggered internally at {FILES}/cuda/sdp_utils.cpp:722.)",
    "The CuDNN backend needs to be enabled by setting the enviornment variable`TORCH_CUDNN_SDPA_ENABLED=1` "
    f"(Triggered internally at {FILES}/cuda/sdp_utils.cpp:496.)",
]


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("FLASH_ATTENTION", "Flash Attention does not support non-null attn_mask"),
        ("EFFICIENT_ATTENTION", "Memory Efficient attention has been runtime disabled"),
        ("CUDNN_ATTENTION", "The CuDNN backend needs to be enabled by setting the enviornment variable`TORCH_"
                            "CUDNN_SDPA_ENABLED=1`"),
        ("MATH", "No available kernel. Aborting execution"),
    ],
)  # fmt: skip
def test_the_reason_is_that_of_the_backend_asked_for(backend: str, reason: str) -> None:
    found = str(refusal(backend, "No available kernel. Aborting execution.", RECORDED))
    assert found == f"scaled_dot_product_attention by {backend} does not take this: {reason}"


def test_limits_that_are_known_before_anything_runs() -> None:
    def reason(impl: str, precision: str, **params: Any) -> str:
        return why_not(case("attention", {**ATTENTION, **params}, precision=precision), impl)

    for impl in ("sdpa-flash", "sdpa-cudnn"):
        assert "takes bf16 and fp16 on cuda, not fp32" in reason(impl, "fp32")
        assert reason(impl, "bf16") == reason(impl, "bf16_autocast") == ""
    assert "a window is one" in reason("sdpa-flash", "bf16", window=20)
    assert reason("sdpa-cudnn", "bf16", window=20) == reason("sdpa-efficient", "fp32", window=20) == ""


def test_a_loop_over_groups_is_not_called_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu(Cuda):
        @property
        def device(self) -> torch.device:
            return torch.device("cuda", 0)

    made = case("grouped_gemm", {"groups": 4, "tokens": 96, "hidden": 64, "intermediate": 48}, precision="bf16")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(NotImplementedError, match=r"below compute capability 9\.0"):
        made.workload.impls()["grouped_mm"].build(made, Gpu())

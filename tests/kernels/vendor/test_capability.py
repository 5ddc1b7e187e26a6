"""Which implementations an NVIDIA GPU is offered, by its compute capability: every other one says why not."""

from __future__ import annotations

from typing import Any

import pytest

from perwatt.backends import cuda_presence
from perwatt.hardware.nvml import Gpu
from perwatt.spec.precision import policy
from perwatt_kernels import registry

CAPABILITIES = ((7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
PARAMS: dict[str, dict[str, Any]] = {
    "matmul": {"m": 64, "n": 64, "k": 64, "batch": 1, "product": "fwd", "epilogue": "none", "a_layout": "row",
               "b_layout": "row"},
    "attention": {"batch": 1, "heads": 4, "kv_heads": 2, "q_len": 128, "kv_len": 128, "head_dim": 64, "causal": True,
                  "window": 0, "varlen": None, "scale": 0.125, "dropout": 0.0, "layout": "bshd"},
    "linear": {"m": 64, "n": 64, "k": 64, "bias": False},
}  # fmt: skip

ALWAYS = (7, 0)
SINCE = {
    ("matmul", "torch"): ALWAYS, ("matmul", "cublas"): ALWAYS, ("matmul", "cublaslt"): ALWAYS,
    ("matmul", "triton"): (8, 0), ("attention", "triton"): (8, 0), ("linear", "triton"): (8, 0),
    ("matmul", "gluon"): (9, 0), ("attention", "gluon"): (9, 0), ("linear", "gluon"): (9, 0),
    ("linear", "torch"): ALWAYS,
    ("attention", "sdpa"): ALWAYS, ("attention", "sdpa-math"): ALWAYS, ("attention", "sdpa-efficient"): ALWAYS,
    ("attention", "sdpa-flash"): (8, 0), ("attention", "sdpa-cudnn"): (8, 0), ("attention", "flex"): (8, 0),
    ("attention", "flash-attn-2"): (8, 0), ("attention", "flash-attn-3"): (9, 0),
    ("attention", "flash-attn-4"): (9, 0), ("linear", "te"): (8, 0),
}  # fmt: skip
"""From which capability on an implementation is offered in 16 bits."""
BEFORE = {("attention", "flash-attn-3"): (10, 0), ("attention", "flash-attn-4"): (12, 0),
          **{(operation, "gluon"): (10, 0) for operation in PARAMS}}  # fmt: skip
EIGHT_BITS = {("matmul", "torch"): (8, 9), ("linear", "te"): (8, 9), ("linear", "torchao"): (8, 9),
              ("linear", "torchao.compile"): (8, 9)}  # fmt: skip
"""The same with scales by tensor."""
KNOWN = [
    (operation, impl) for operation in PARAMS for impl in registry.kernels(operation)
]  # whatever else is there has to answer too


def request(operation: str, capability: tuple[int, int], **fields: Any) -> registry.Request:
    return registry.Request(
        device="cuda", params=PARAMS[operation], compile=lambda function: function, capability=capability,
        chip="a GPU", **{"compute": "fp16", "output": "fp16", "gradients": False} | fields,
    )  # fmt: skip


def fp8(operation: str, capability: tuple[int, int]) -> registry.Request:
    return request(operation, capability, compute="e4m3fn", output="bf16", backward="e5m2", scaling="tensor",
                   quantize="inside")  # fmt: skip


@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
@pytest.mark.parametrize(("operation", "impl"), KNOWN)
@pytest.mark.parametrize("gradients", [False, True])
def test_every_implementation_answers(
    installed: Any, operation: str, impl: str, capability: tuple[int, int], gradients: bool
) -> None:
    """Offered, or refused in one line."""
    installed("fa2", "fa3", "fa4", "te", "ao", capability=capability)
    kernel = registry.kernels(operation)[impl]
    for asked in (request(operation, capability, gradients=gradients), fp8(operation, capability)):
        reason = kernel.refusal(asked)
        assert reason is None or (reason and "\n" not in reason)


@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_what_is_offered_in_16_bits(installed: Any, capability: tuple[int, int]) -> None:
    installed("fa2", "fa3", "fa4", "te", "ao", capability=capability)
    for (operation, impl), since in SINCE.items():
        kernel = registry.kernels(operation).get(impl)
        if kernel is None:  # a part of the package that is not there
            continue
        reason = kernel.refusal(request(operation, capability))
        offered = since <= capability < BEFORE.get((operation, impl), (99, 0))
        if offered and impl in ("triton", "gluon", "flex") and "triton" in (reason or ""):
            continue  # Triton itself is not installed here
        assert (reason is None) == offered, (operation, impl, reason)
        assert offered or "needs" in str(reason)


@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_what_is_offered_in_8_bits(installed: Any, capability: tuple[int, int]) -> None:
    installed("te", "ao", capability=capability)
    for (operation, impl), since in EIGHT_BITS.items():
        reason = registry.kernels(operation)[impl].refusal(fp8(operation, capability))
        assert (reason is None) == (capability >= since), (operation, impl, reason)


def test_below_ampere_only_cublas_and_sdpa_are_left(installed: Any) -> None:
    installed("fa2", "fa3", "fa4", "te", "ao", capability=(7, 5))
    left = {
        (operation, impl) for operation, impl in KNOWN
        if registry.kernels(operation)[impl].refusal(request(operation, (7, 5))) is None
    }  # fmt: skip
    vendors = {"torch", "torch.compile", "cublas", "cublaslt", "sdpa", "sdpa-math", "sdpa-efficient"}
    chosen_or_written_out = {"auto", "reference"}
    assert {impl for _, impl in left} <= vendors | chosen_or_written_out
    assert {("matmul", "torch"), ("attention", "sdpa-efficient"), ("attention", "sdpa-math")} <= left


@pytest.mark.parametrize(
    ("capability", "refused"),
    [
        ((7, 0), {"bf16", "tf32", "fp8_tensor", "fp8_row"}), ((7, 5), {"bf16", "tf32", "fp8_tensor", "fp8_row"}),
        ((8, 0), {"fp8_tensor", "fp8_row"}), ((8, 6), {"fp8_tensor", "fp8_row"}), ((8, 9), {"fp8_row"}),
        ((9, 0), set()), ((10, 0), set()), ((12, 0), set()),
    ],
)  # fmt: skip
def test_formats_are_refused_by_the_backend(capability: tuple[int, int], refused: set[str]) -> None:
    class Card:
        name = "a GPU"

    card: Any = Card()
    card.capability = capability
    gpu: Gpu = card
    found = {
        name for name in ("fp32", "fp16", "bf16", "tf32", "fp8_tensor", "fp8_row")
        if cuda_presence.beyond(gpu, policy(name))
    }  # fmt: skip
    assert found == refused

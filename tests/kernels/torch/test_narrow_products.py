"""Products in NKI of operands that arrive in 8 bits, through the workload and its gate, in simulation; and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from perwatt.backends.cpu import BACKEND
from perwatt.selftest.child import examine
from perwatt.spec.case import Case, build
from perwatt.workloads.kernels import request_of
from perwatt_kernels import registry
from perwatt_kernels.matmul import nki_fp8_kernel, nki_mx_kernel, nki_ops, quantize
from perwatt_kernels.nki_interpreter.api import nl
from perwatt_kernels.nki_torch import site

PLACES = [("fp8_tensor_ieee_outside", "trn2"), ("fp8_row_ieee_outside", "trn2"), ("fp8_row_ieee_outside", "trn3"),
          ("fp8_tensor_outside", "trn3"), ("mxfp8_outside", "trn3")]  # fmt: skip
SIZES = {"m": 132, "n": 68, "k": 260}


def case(precision: str, **changes: Any) -> Case:
    pass_ = changes.pop("pass_", "fwd")
    fields = {"workload": "gemm", "params": {**SIZES, **changes}, "precision": precision, "pass": pass_}
    return build({**fields, "measure": {"cache": "hot"}, "impl": ["nki", "torch"]})


def examined(made: Case) -> dict[str, Any]:
    return examine(made.message(), "nki", BACKEND)


def refused(precision: str, **changes: Any) -> str:
    made = case(precision, **changes)
    asked = request_of(made, BACKEND, changes.get("output", "bf16"))
    return registry.kernels("matmul")["nki"].unsupported(asked) or ""


@pytest.mark.parametrize(("precision", "target"), PLACES)
@pytest.mark.parametrize("product", ["fwd", "dgrad", "wgrad"])
def test_the_gate_passes_what_kernels_make_of_operands_as_they_arrive(
    precision: str, target: str, product: str
) -> None:
    with site.simulated(target, 2):
        found = examined(case(precision, product=product))
    assert found["status"] == "ok", found


def test_results_are_wide_where_they_are_asked_to_be() -> None:
    for precision, target in PLACES[1::3]:
        with site.simulated(target, 1):
            found = examined(case(precision, output="fp32"))
        assert found["status"] == "ok", found


@pytest.fixture
def _anew() -> Any:
    """Kernels as operations are kept by site; a planted one is not to stay."""
    nki_ops.scaled.cache_clear()
    yield
    nki_ops.scaled.cache_clear()


def columns_lost(left: Any, right: Any, left_scale: Any, right_scale: Any, left_turned: Any, right_turned: Any,
                 wide: Any = False) -> Any:  # fmt: skip
    """As if every column had the scales of the first."""
    same = right_scale[:, 0:1].broadcast(1, right_scale.shape[1])
    return nki_mx_kernel.matmul_mx_quantized(left, right, left_scale, same, left_turned, right_turned, wide)


def read_as_e5m2(left: Any, right: Any, left_scale: Any, right_scale: Any, left_turned: Any, right_turned: Any,
                 wide: Any = False) -> Any:  # fmt: skip
    """Bytes of the wrong format."""
    right = right.view(nl.float8_e5m2)
    return nki_fp8_kernel.matmul_fp8(left, right, left_scale, right_scale, left_turned, right_turned, wide)


@pytest.mark.usefixtures("_anew")
@pytest.mark.parametrize(
    ("precision", "target", "name", "wrong"),
    [("mxfp8_outside", "trn3", "matmul_mx_quantized", columns_lost),
     ("fp8_row_ieee_outside", "trn2", "matmul_fp8", read_as_e5m2)],
)  # fmt: skip
def test_the_gate_fails_a_planted_wrong_kernel(
    monkeypatch: pytest.MonkeyPatch, precision: str, target: str, name: str, wrong: Any
) -> None:
    monkeypatch.setattr(nki_ops, name, wrong)
    with site.simulated(target, 2):
        found = examined(case(precision))
    assert found["status"] == "inaccurate", found


def test_scales_of_blocks_become_their_exponents() -> None:
    powers = torch.tensor([-126, -1, 0, 1, 127])
    assert nki_ops.exponents(quantize.power(powers)).tolist() == (powers + 127).tolist()


@pytest.mark.parametrize(
    ("target", "precision", "changes", "reason"),
    [
        (
            "trn2",
            "fp8_row_ieee",
            {},
            "not documented to compile on Trainium2, whose format this is; nearest policy fp8_row_ieee_outside",
        ),
        ("trn2", "fp8_row_outside", {}, "expected float8_e4m3 (precisions of e4m3 that follow IEEE 754), or gen4"),
        (
            "trn3",
            "mxfp8",
            {},
            "scales twice those of the policy, so the gate would find it wrong; nearest policy mx",
        ),
        ("trn2", "mxfp8_outside", {}, "found MXFP8 on gen3, expected gen4"),
        (
            "trn2",
            "fp8_tensor_ieee_outside",
            {"k": 33},
            "found a depth of 33 in fwd, expected a multiple of 2 such as 32",
        ),
        ("trn3", "mxfp8_outside", {"product": "wgrad", "m": 130}, "a depth of 130 in wgrad, expected a multiple of 4"),
        ("trn3", "mxfp8_outside", {"batch": 2}, "found a batch of 2, expected 1"),
        ("trn2", "fp8_row_ieee_outside", {"output": "fp16"}, "found fp16 output, expected bf16 or fp32"),
        ("trn2", "fp8_row_ieee_outside", {"pass_": "fwd+bwd"}, "dgrad and wgrad can be measured by themselves"),
        ("trn2", "fp8_row_ieee_outside", {"a_layout": "column"}, "found a_layout column, expected row"),
    ],
)
def test_what_they_do_not_take_is_refused(target: str, precision: str, changes: dict[str, Any], reason: str) -> None:
    with site.simulated(target, 2):
        assert reason in refused(precision, **changes)


@pytest.mark.parametrize("impl", ["torch", "dequantize"])
def test_the_framework_has_no_products_of_them(impl: str) -> None:
    for precision, words in (("fp8_row_ieee_outside", "IEEE 754"), ("mxfp8_outside", "block scales")):
        asked = request_of(case(precision), BACKEND, "bf16")
        assert words in (registry.kernels("matmul")[impl].unsupported(asked) or "")


def test_a_cpu_refuses_them_where_nothing_is_simulated() -> None:
    for precision, words in (("fp8_row_ieee_outside", "IEEE 754"), ("mxfp8_outside", "MXFP8")):
        found = examined(case(precision))
        assert found["status"] == "refused"
        assert words in found["error"]

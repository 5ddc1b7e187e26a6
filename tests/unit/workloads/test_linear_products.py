"""gemm by kernels that are linear layers only: theirs are the products of one, in its layouts."""

from __future__ import annotations

from typing import Any

import pytest

from perwatt.backends.cpu import BACKEND
from perwatt.spec.case import Case, build
from support.planted import FAULTS, planted, registered

SIZES = {"m": 96, "n": 128, "k": 80}


def case(precision: str = "fp8_tensor", pass_: str = "fwd+bwd", **params: Any) -> Case:
    return build(
        {
            "workload": "gemm", "params": SIZES | params, "precision": precision, "pass": pass_,
            "measure": {"cache": "hot"}, "impl": ["planted"],
        }
    )  # fmt: skip


@pytest.mark.parametrize("pass_", ["fwd", "fwd+bwd"])
def test_a_layer_is_measured_and_judged_as_products(pass_: str) -> None:
    with registered(planted()):
        made = case(pass_=pass_)
        impl = made.workload.impls()["planted"]
        assert made.workload.unsupported(made, impl, BACKEND) is None
        assert "planted+graph" in made.workload.impls()
        found = made.workload.open(made, impl, BACKEND, 3).check(0)
    assert found.ok, found


def test_a_bias_is_the_layers() -> None:
    with registered(planted()):
        made = case(pass_="fwd", epilogue="bias")
        assert made.workload.open(made, made.workload.impls()["planted"], BACKEND, 3).check(0).ok


def test_a_wrong_layer_is_caught() -> None:
    with registered(planted(**FAULTS["weights in the format of gradients"])):
        made = case()
        assert not made.workload.open(made, made.workload.impls()["planted"], BACKEND, 3).check(0).ok


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"pass_": "fwd", "product": "wgrad"}, "it has no product wgrad of a batch of 1"),
        ({"batch": 3}, "it has no product fwd of a batch of 3"),
        ({"b_layout": "row"}, "takes b_layout column, not row"),
        ({"pass_": "fwd", "epilogue": "gelu_tanh"}, "no epilogue gelu_tanh"),
        ({"pass_": "fwd", "precision": "fp8_tensor_outside"}, "quantizes its operands itself"),
    ],
)
def test_what_is_no_layer_is_refused(fields: dict[str, Any], reason: str) -> None:
    with registered(planted()):
        made = case(**fields)
        assert reason in (made.workload.impls()["planted"].unsupported(made, BACKEND) or "")


def test_what_products_have_themselves_stays_theirs() -> None:
    names = case_impls()
    with registered(planted()):
        assert case_impls() == names | {"planted", "planted+graph"}


def case_impls() -> set[str]:
    return set(build({"workload": "gemm", "params": SIZES}).workload.impls())

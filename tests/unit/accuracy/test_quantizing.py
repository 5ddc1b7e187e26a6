"""The training gate of steps with linear layers in 8 bits: honest ones pass, planted wrong ones do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import Tensor

from perwatt.accuracy import training
from perwatt.backends.cpu import BACKEND
from support.planted import FAULTS, planted, registered
from support.training import WORKLOAD, case, session

pytestmark = pytest.mark.usefixtures("one_thread")
BIASED = {"attention_bias": True, "mlp_bias": True, "output_bias": True}


@pytest.mark.parametrize("precision", ["fp8_tensor", "fp8_row"])
@pytest.mark.parametrize("impl", ["torch+dequantize", "torch+dequantize+chunked"])
@pytest.mark.parametrize("model", [{}, {"tied": True, **BIASED}], ids=["plain", "tied"])
def test_honest_layers_pass(precision: str, impl: str, model: dict[str, bool]) -> None:
    shape = case().params.shape.model_dump(mode="json") | model  # type: ignore[attr-defined]
    opened = session({"model": shape}, impl=impl, precision=precision)
    for generation in range(2):
        found = opened.check(generation)
        assert found.ok, found


@pytest.mark.parametrize("precision", ["fp8_tensor", "fp8_row"])
def test_bounds_leave_honest_steps_room(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """They err half as much as they may."""
    own = training.BOUNDS["fp8"]
    monkeypatch.setitem(training.BOUNDS, "fp8", replace(own, loss=own.loss / 2, norm=own.norm / 2))
    for seed in range(4):
        found = session(impl="torch+dequantize", precision=precision, seed=seed).check(0)
        assert found.ok, found


def test_somebody_elses_honest_layer_passes() -> None:
    with registered(planted()):
        found = session(impl="torch+planted", precision="fp8_tensor").check(0)
    assert found.ok, found


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_layer_is_caught_by_itself(name: str) -> None:
    with registered(planted(**FAULTS[name])):
        found = session(impl="torch+planted", precision="fp8_tensor").check(0)
    assert not found.ok
    assert "of linear layer" in found.detail


@pytest.mark.parametrize("name", ["no scale of gradients", "a stale scale of gradients", "scales left in the result"])
def test_a_step_of_wrong_layers_is_caught_as_a_whole(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Even if nobody looked at a layer by itself."""
    monkeypatch.setattr(training, "layers", lambda *args: ())
    with registered(planted(**FAULTS[name])):
        found = session(impl="torch+planted", precision="fp8_tensor").check(0)
    assert not found.ok
    assert "of linear layer" not in found.detail


def test_layers_of_another_format_are_caught() -> None:
    """A step in bf16 under a policy of 8 bits would be faster or slower than what the row says."""
    with registered(planted(**dict.fromkeys("xwg", lambda: _same))):
        assert not session(impl="torch+planted", precision="fp8_tensor").check(0).ok


def _same(x: Tensor) -> Tensor:
    return x.float()


@pytest.mark.parametrize(
    ("precision", "reason"),
    [
        ("fp8_tensor_outside", "a linear layer quantizes its operands itself"),
        ("mxfp8", "products with block scales are Blackwell's"),
        ("fp8_row_ieee", "torch only stores the e4m3 that follows IEEE 754"),
    ],
)
def test_policies_that_no_layer_can_follow(precision: str, reason: str) -> None:
    made = case(precision=precision)
    assert reason in (WORKLOAD.impls()["torch"].unsupported(made, BACKEND) or "")


def test_experts_are_not_quantized() -> None:
    experts = case().params.shape.model_dump(mode="json") | {"experts": 4, "experts_per_token": 2}  # type: ignore[attr-defined]
    made = case({"model": experts}, precision="fp8_tensor")
    assert "with experts" in (WORKLOAD.unsupported(made, WORKLOAD.impls()["torch"], BACKEND) or "")

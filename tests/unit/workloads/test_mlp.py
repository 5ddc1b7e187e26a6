"""mlp: FLOPs, activations, and faults of its own."""

from __future__ import annotations

import pytest
from torch.nn import functional as F

from support.sessions import PASSES, assert_passes, case, counted_flops, faulty

PARAMS = {"tokens": 100, "hidden": 64, "intermediate": 176}
ACTIVATIONS = ("swiglu", "geglu_tanh", "gelu_tanh", "gelu_erf")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pass_", PASSES)
def test_flops_agree_with_the_counter(activation: str, pass_: str) -> None:
    made = case("mlp", {**PARAMS, "activation": activation}, pass_=pass_)
    assert counted_flops(made) == made.workload.counts(made.params, pass_, made.precision).flops


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_activation_passes_its_gate(activation: str, precision: str) -> None:
    assert_passes(case("mlp", {**PARAMS, "activation": activation}, precision=precision, pass_="fwd+bwd"))


FAULTS = {
    "gate and value exchanged": lambda x, up, down: F.linear(
        F.silu(F.linear(x, up).chunk(2, -1)[1]) * F.linear(x, up).chunk(2, -1)[0], down
    ),
    "no gate": lambda x, up, down: F.linear(F.linear(x, up).chunk(2, -1)[1], down),
    "GELU for SiLU": lambda x, up, down: F.linear(
        F.gelu(F.linear(x, up).chunk(2, -1)[0]) * F.linear(x, up).chunk(2, -1)[1], down
    ),
    "no gradient to the gate": lambda x, up, down: F.linear(
        F.silu(F.linear(x, up).chunk(2, -1)[0]).detach() * F.linear(x, up).chunk(2, -1)[1], down
    ),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_faults_are_caught(name: str, precision: str) -> None:
    made = case("mlp", PARAMS, precision=precision, pass_="fwd+bwd")
    assert not faulty(made, lambda function: FAULTS[name]).ok


def test_both_forms_of_gelu_are_told_apart() -> None:
    made = case("mlp", {**PARAMS, "activation": "gelu_erf"})
    by_tanh = lambda x, up, down: F.linear(F.gelu(F.linear(x, up), approximate="tanh"), down)  # noqa: E731
    assert not faulty(made, lambda function: by_tanh).ok

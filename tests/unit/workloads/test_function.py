"""What holds for every workload that is one function of tensors: its gate, its passes, its keys, its refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from perwatt import workloads
from perwatt.errors import InputError
from perwatt.workloads.function import FunctionWorkload
from support import faults
from support.functions import MULTIPLYING, SMALL
from support.sessions import PASSES, PRECISIONS, assert_passes, case, faulty, opened

JUDGED = [(name, precision) for name in SMALL for precision in ("fp32", "bf16")]
JUDGED += [(name, "bf16_autocast") for name in MULTIPLYING]


def test_every_function_workload_is_tried_here() -> None:
    built_in = {n: w for n, w in workloads.available().items() if type(w).__module__.startswith("perwatt.workloads.")}
    assert {name for name, workload in built_in.items() if isinstance(workload, FunctionWorkload)} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("pass_", PASSES)
def test_passes_its_gate(name: str, precision: str, pass_: str) -> None:
    assert_passes(case(name, SMALL[name], precision=precision, pass_=pass_))


@pytest.mark.parametrize("name", SMALL)
def test_passes_its_gate_compiled(name: str) -> None:
    torch.compiler.reset()
    assert_passes(case(name, SMALL[name], pass_="fwd+bwd"), "torch.compile")


@pytest.mark.parametrize(("name", "precision"), JUDGED)
@pytest.mark.parametrize("fault", faults.IN_RESULT)
def test_faults_in_the_result_are_caught(name: str, precision: str, fault: str) -> None:
    if fault == "a lost tile" and name in ("cross_entropy", "lm_head_loss"):
        pytest.skip("a loss is one number and has no tile")
    found = faulty(case(name, SMALL[name], precision=precision), faults.IN_RESULT[fault])
    assert not found.ok, found


@pytest.mark.parametrize(("name", "precision"), JUDGED)
@pytest.mark.parametrize("fault", faults.IN_GRADIENT)
def test_faults_in_gradients_are_caught(name: str, precision: str, fault: str) -> None:
    made = case(name, SMALL[name], precision=precision, pass_="fwd+bwd")
    found = faulty(made, faults.IN_GRADIENT[fault])
    assert not found.ok, found


@pytest.mark.parametrize("name", SMALL)
def test_inputs_do_not_depend_on_the_impl_and_change_with_the_seed(name: str) -> None:
    made = case(name, SMALL[name])
    digests = {opened(made, impl).input_digest for impl in ("torch", "torch.compile")}
    assert digests == {opened(made).input_digest}
    assert opened(made, seed=4).input_digest not in digests


@pytest.mark.parametrize("name", SMALL)
def test_each_parameter_is_in_the_key(name: str) -> None:
    keys = {case(name, SMALL[name]).match_key}
    for parameter, value in SMALL[name].items():
        keys.add(case(name, {**SMALL[name], parameter: 2 * value}).match_key)
    assert len(keys) == len(SMALL[name]) + 1


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("value", [0, -1, 2**40, "many", True, None])
def test_senseless_extents_are_refused(name: str, value: Any) -> None:
    for parameter in SMALL[name]:
        with pytest.raises(InputError) as refused:
            case(name, {**SMALL[name], parameter: value})
        assert refused.value.field is not None
        assert refused.value.field.startswith("params")


@pytest.mark.parametrize("name", SMALL)
def test_memory_is_at_least_the_operands(name: str) -> None:
    made = case(name, SMALL[name], pass_="fwd+bwd")
    session = opened(made)
    held = sum(t.nbytes for t in session._sets[0])
    assert held <= made.workload.memory(made) <= 60 * held


@pytest.mark.parametrize("name", SMALL)
def test_cold_operands_take_turns(name: str) -> None:
    made = case(name, SMALL[name], measure={"cache": "partial"})
    session = opened(made)
    assert session.slots > 1
    assert session.check(0).ok


def test_an_impl_that_overwrites_its_operands_fails() -> None:
    """Read after the call, they would be taken for what had come in."""

    def overwriting(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(*operands: Any) -> Any:
            with torch.no_grad():
                operands[0].mul_(2)
            return function(*operands)

        return wrong

    found = faulty(case("rmsnorm", SMALL["rmsnorm"]), overwriting)
    assert not found.ok
    assert "operands" in found.detail

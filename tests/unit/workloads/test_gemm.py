"""gemm: keys, counts, passes, layouts."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from perwatt.backends.cpu import BACKEND
from perwatt.errors import InputError
from perwatt.spec.case import Case, build
from perwatt.spec.precision import policy

HOT = {"cache": "hot"}
BASE: dict[str, Any] = {"m": 48, "n": 32, "k": 80}


def case(params: dict[str, Any] | None = None, **fields: Any) -> Case:
    return build({"workload": "gemm", "params": {**BASE, **(params or {})}, "measure": HOT, **fields})


def opened(made: Case, impl: str = "torch"):
    return made.workload.open(made, made.workload.impls()[impl], BACKEND, 3)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "bf16_autocast"])
@pytest.mark.parametrize("product", ["fwd", "dgrad", "wgrad"])
@pytest.mark.parametrize("layouts", [(None, None), ("row", "row"), ("column", "column")])
@pytest.mark.parametrize("batch", [1, 3])
def test_each_product_in_each_layout_passes_its_gate(precision: str, product: str, layouts: Any, batch: int) -> None:
    params = {"product": product, "a_layout": layouts[0], "b_layout": layouts[1], "batch": batch}
    session = opened(case(params, precision=precision))
    before, after = session.check(0), session.check(1)
    assert before.ok, before
    assert after.ok, after
    assert before.rel_err != after.rel_err, "the second check has inputs of its own"


def test_products_are_those_of_a_linear_layer() -> None:
    x, w = torch.randn(48, 80, requires_grad=True), torch.randn(32, 80, requires_grad=True)
    (x @ w.T).sum().backward()
    shapes = {p: [tuple(t.shape) for t in opened(case({"product": p}))._sets[0]] for p in ("fwd", "dgrad", "wgrad")}
    assert shapes == {"fwd": [(48, 80), (80, 32)], "dgrad": [(48, 32), (32, 80)], "wgrad": [(32, 48), (48, 80)]}
    strides = opened(case())._sets[0][1].stride()
    assert strides == (1, 80), "the forward's right operand is the weight [n, k], transposed"


@pytest.mark.parametrize("pass_", ["fwd", "bwd", "fwd+bwd"])
def test_products_under_autocast_cast_in_the_body(pass_: str) -> None:
    session = opened(case(precision="bf16_autocast", **{"pass": pass_}))
    assert {t.dtype for t in session._sets[0]} == {torch.float32}
    assert session._forward(0).dtype == torch.bfloat16
    assert session.check(0).ok
    session._function = lambda a, b: (a @ b).to(torch.float16).to(torch.bfloat16) * 1.01
    assert not session.check(0).ok


@pytest.mark.parametrize("epilogue", ["bias", "gelu_tanh", "bias_gelu_tanh"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16_autocast"])
def test_epilogues_pass_and_their_absence_fails(epilogue: str, precision: str) -> None:
    made = case({"epilogue": epilogue, "m": 128, "n": 96}, precision=precision)
    session = opened(made)
    assert session.check(0).ok
    session._function = lambda a, b, *bias: a @ b
    assert not session.check(0).ok


@pytest.mark.parametrize("pass_", ["fwd", "bwd", "fwd+bwd"])
def test_flops_agree_with_the_flop_counter(pass_: str) -> None:
    made = case({"batch": 2}, **{"pass": pass_})
    session = opened(made)
    counter = FlopCounterMode(display=False)
    with counter:
        if session.bracketed:
            session.before(0)
            forward = counter.get_total_flops()
        else:
            forward = 0
        session.run(0)
    counted = counter.get_total_flops() - forward
    assert counted > 0
    assert counted == made.workload.counts(made.params, pass_, made.precision).flops


def test_bytes_move_each_operand_and_result_once() -> None:
    made = case(precision="bf16")
    a, b, c = 48 * 80 * 2, 80 * 32 * 2, 48 * 32 * 2
    counts = {p: made.workload.counts(made.params, p, made.precision).bytes for p in made.workload.passes}
    cast = made.workload.counts(made.params, "fwd", policy("bf16_autocast")).bytes
    assert cast == 2 * (a + b) + c, "under autocast operands are read in float32"
    assert counts == {"fwd": a + b + c, "bwd": 2 * (a + b) + c, "fwd+bwd": 3 * (a + b) + 2 * c}


@pytest.mark.parametrize(
    "change",
    [{"m": 49}, {"n": 33}, {"k": 81}, {"batch": 2}, {"product": "dgrad"}, {"a_layout": "column"}, {"b_layout": "row"},
     {"epilogue": "bias"}, {"output": "bf16"}],
    ids=str,
)  # fmt: skip
def test_every_parameter_changes_the_match_key(change: dict[str, Any]) -> None:
    assert case(change).match_key != case().match_key


@pytest.mark.parametrize(
    "fields",
    [{"pass": "fwd+bwd"}, {"pass": "bwd"}, {"grad": True}, {"precision": "bf16"}, {"data": "zeros"}],
    ids=str,
)
def test_pass_gradients_precision_and_data_change_the_match_key(fields: dict[str, Any]) -> None:
    assert case(**fields).match_key != case().match_key


@pytest.mark.parametrize(
    "fields",
    [{"name": "another"}, {"impl": ["torch.compile"]}, {"measure": {"cache": "cold"}}, {"placement": "chip"}],
    ids=str,
)
def test_where_and_how_do_not_change_the_match_key(fields: dict[str, Any]) -> None:
    assert case(**fields).match_key == case().match_key


def test_one_spelling_for_equal_work() -> None:
    assert case({"a_layout": "row", "b_layout": "column"}).match_key == case().match_key
    assert case({"output": "fp32"}).match_key == case().match_key
    assert case({"output": "fp32"}, precision="bf16").match_key != case(precision="bf16").match_key


def test_a_case_s_message_holds_its_autocast_list_if_it_has_one() -> None:
    bound = case(precision="bf16_autocast").bound("00ff00ff00ff00ff")
    assert build(bound.message()).match_key == bound.match_key != case(precision="bf16_autocast").match_key
    assert case().bound("00ff00ff00ff00ff").message() == case().message()


def test_a_case_survives_its_message() -> None:
    made = case({"output": "bf16"}, impl=["torch", "reference"])
    again = build(made.message())
    assert (again.match_key, again.name, again.impls) == (made.match_key, made.name, made.impls)


@pytest.mark.parametrize(
    ("params", "fields", "where"),
    [
        ({"m": 0}, {}, "params.m"), ({"k": -5}, {}, "params.k"), ({"m": 2**40}, {}, "params.m"),
        ({"m": 2.5}, {}, "params.m"), ({"headz": 3}, {}, "params.headz"), ({"product": "fwdd"}, {}, "params.product"),
        ({"product": "dgrad"}, {"pass": "bwd"}, "params.product"),
        ({"epilogue": "bias"}, {"pass": "bwd"}, "params.epilogue"), ({}, {"pass": "step"}, "pass"),
        ({}, {"impl": ["tritonn"]}, "impl[0]"), ({}, {"precision": "bf61"}, "precision"),
        ({}, {"data": "gauss"}, "data"), ({}, {"placement": "rack"}, "placement"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_its_field(params: dict[str, Any], fields: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError) as refused:
        case(params, **fields)
    assert refused.value.field == where


def test_a_wider_output_than_the_framework_has_is_unsupported() -> None:
    made = case({"output": "fp32"}, precision="bf16")
    assert "fp32 output" in (made.workload.unsupported(made, made.workload.impls()["torch"], BACKEND) or "")


@pytest.mark.parametrize("cache", ["cold", "partial", "hot"])
def test_slots_rotate_through_the_cache(cache: str) -> None:
    made = build({"workload": "gemm", "params": {"m": 512, "n": 512, "k": 512}, "measure": {"cache": cache}})
    session = opened(made)
    llc, one = BACKEND.describe().cache_bytes, 3 * 512 * 512 * 4
    reach = {"cold": min(3 * llc, 512 * 2**20), "partial": llc, "hot": 0}[cache]
    assert session.slots == max(1, -(-reach // one))
    addresses = {t.data_ptr() for operands in session._sets for t in operands}
    assert len(addresses) == 2 * session.slots
    assert all(torch.equal(s[0], session._sets[0][0]) for s in session._sets)


def test_a_stale_output_buffer_fails() -> None:
    session = opened(case())
    result = session._function(*session._sets[0])
    session._function = lambda *operands: result
    assert not session.check(0).ok


def test_an_impl_that_remembers_its_first_inputs_fails_after_timing() -> None:
    session = opened(case())
    honest, kept = session._function, []

    def remembers(*operands):
        kept.append(honest(*operands)) if not kept else None
        return kept[0].clone()

    session._function = remembers
    assert not session.check(1).ok


def test_a_difference_pairs_a_forward_with_the_whole() -> None:
    made = build({"workload": "gemm", "params": BASE, "pass": "bwd", "measure": {**HOT, "bwd_method": "difference"}})
    session = opened(made)
    assert not session.bracketed
    assert session.part is not None
    assert session.part(0).shape == (48, 32)  # type: ignore[union-attr]
    assert session.check(0).ok


def test_a_cold_backward_comes_a_turn_after_its_forward() -> None:
    made = build(
        {"workload": "gemm", "params": {"m": 256, "n": 256, "k": 256}, "pass": "bwd", "measure": {"cache": "cold"}}
    )
    session = opened(made)
    assert session.slots > 3
    order: list[str] = []
    forward, backward = session._forward, session._body
    session._forward = lambda slot: (order.append(f"f{slot}"), forward(slot))[1]
    session._body = lambda slot: (order.append(f"b{slot}"), backward(slot))[1]
    for slot in range(3):
        session.before(slot)
        session.run(slot)
    first, second = order.index("b0"), order.index("b1")
    assert order[:first] == [f"f{slot}" for slot in range(session.slots)]
    assert order[first : second + 1] == ["b0", "f0", "b1"]
    assert len({t.data_ptr() for incoming in session._incoming for t in incoming}) == session.slots
    assert session.check(1).ok


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp8_tensor", "fp8_row_outside"])
@pytest.mark.parametrize("params", [{}, {"m": 1024, "n": 1040, "k": 1024}], ids=["whole", "sampled"])
def test_zeros_are_judged_too(precision: str, params: dict[str, Any]) -> None:
    made = case({"m": 48, "n": 80, "k": 32, **params}, precision=precision, data="zeros")
    try:
        session = opened(made)
    except NotImplementedError as error:
        pytest.skip(f"torch {torch.__version__}: {error}")
    assert session.check(0).ok
    assert session.check(1).ok
    honest = session._function
    for fault in (lambda *o: honest(*o) + 1e-6, lambda *o: honest(*o) * float("nan")):
        session._function = fault
        assert not session.check(1).ok


def test_a_lost_element_of_zeros_fails() -> None:
    session = opened(case({"m": 256, "n": 256, "k": 64}, data="zeros"))
    honest = session._function

    def one_off(*operands: torch.Tensor) -> torch.Tensor:
        result = honest(*operands)
        result[200, 17] = 1e-3
        return result

    session._function = one_off
    assert not session.check(0).ok

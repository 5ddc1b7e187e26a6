"""attention: keys, counts, masks, impls."""

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from perwatt.backends.cpu import BACKEND
from perwatt.errors import InputError
from perwatt.spec.case import Case, build
from perwatt.spec.precision import policy
from perwatt_kernels.attention.mask import full, pairs

HOT = {"cache": "hot"}
BASE: dict[str, Any] = {"batch": 2, "heads": 4, "kv_heads": 2, "seq": 96, "head_dim": 16}


def case(params: dict[str, Any] | None = None, **fields: Any) -> Case:
    return build({"workload": "attention", "params": {**BASE, **(params or {})}, "measure": HOT, **fields})


def opened(made: Case, impl: str = "sdpa"):
    return made.workload.open(made, made.workload.impls()[impl], BACKEND, 3)


@pytest.mark.parametrize("impl", ["reference", "torch", "sdpa", "sdpa-math", "sdpa-flash"])
@pytest.mark.parametrize("pass_", ["fwd", "bwd", "fwd+bwd"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16_autocast"])
def test_each_impl_passes_its_gate(impl: str, pass_: str, precision: str) -> None:
    session = opened(case(precision=precision, **{"pass": pass_}), impl)
    before, after = session.check(0), session.check(1)
    assert before.ok, before
    assert after.ok, after


VARIANTS: list[dict[str, Any]] = [
    {"causal": False}, {"window": 20}, {"window": 20, "causal": False}, {"varlen": [40, 55, 1]},
    {"varlen": [40, 56], "window": 10}, {"q_len": 60, "kv_len": 96}, {"q_len": 96, "kv_len": 60}, {"scale": 0.5},
    {"layout": "bhsd"}, {"kv_heads": 1}, {"kv_heads": 4},
]  # fmt: skip


@pytest.mark.parametrize("impl", ["reference", "torch", "sdpa"])
@pytest.mark.parametrize("params", VARIANTS, ids=str)
def test_each_variant_passes_its_gate_with_gradients(impl: str, params: dict[str, Any]) -> None:
    result = opened(case(params, **{"pass": "fwd+bwd"}), impl).check(0)
    assert result.ok, result


def test_dropout_passes_forward_only() -> None:
    session = opened(case({"dropout": 0.25}))
    assert session.check(0).ok
    with pytest.raises(InputError):
        case({"dropout": 0.25}, **{"pass": "bwd"})


@pytest.mark.parametrize("params", [{}, *VARIANTS], ids=str)
def test_pairs_are_the_true_cells_of_the_mask(params: dict[str, Any]) -> None:
    made = case(params).params
    mask = full(made.q_len, made.kv_len, made.model_dump(), torch.device("cpu"))
    assert made.pairs == int(mask.sum())


def test_long_windows_count_quickly_and_right() -> None:
    w, s = 4096, 2**20
    assert pairs(s, s, {"causal": True, "window": w, "varlen": None}) == w * s - w * (w - 1) // 2


@pytest.mark.parametrize("causal", [True, False])
def test_forward_flops_agree_with_the_flop_counter(causal: bool) -> None:
    """The counter sees the full square; the causal half is (S + 1) / 2 S of it."""
    made = case({"causal": causal, "kv_heads": 4})
    session, counter = opened(made), FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        session.run(0)
    counted, share = counter.get_total_flops(), (96 + 1) / (2 * 96) if causal else 1
    assert counted > 0
    assert made.workload.counts(made.params, "fwd", made.precision).flops == pytest.approx(counted * share, rel=1e-12)


def test_backward_is_four_products_to_the_forwards_two() -> None:
    made = case(**{"pass": "fwd+bwd"})
    flops = {p: made.workload.counts(made.params, p, made.precision).flops for p in ("fwd", "bwd", "fwd+bwd")}
    assert flops["bwd"] == 2 * flops["fwd"]
    assert flops["fwd+bwd"] == 3 * flops["fwd"]
    session, counter = (
        opened(case({"kv_heads": 4, "causal": False}, **{"pass": "fwd+bwd"})),
        FlopCounterMode(display=False),
    )
    with counter, sdpa_kernel(SDPBackend.MATH):
        session.run(0)
    square = made.workload.counts(case({"kv_heads": 4, "causal": False}).params, "fwd+bwd", made.precision).flops
    assert counter.get_total_flops() == square


def test_bytes_are_those_of_operands_as_they_arrive() -> None:
    q, kv = 2 * 4 * 96 * 16, 2 * 2 * 96 * 16
    moved = {
        name: case(precision=name).workload.counts(case().params, "fwd+bwd", policy(name)).bytes
        for name in ("fp32", "bf16", "bf16_autocast")
    }
    assert moved["fp32"] == 2 * moved["bf16"] == 4 * (6 * q + 6 * kv)
    assert moved["bf16_autocast"] == 4 * (3 * q + 6 * kv) + 2 * (3 * q), "float32 but for the result and its gradient"


@pytest.mark.parametrize(
    "change",
    [{"batch": 3}, {"heads": 8}, {"kv_heads": 1}, {"seq": 97}, {"q_len": 95}, {"kv_len": 95}, {"head_dim": 32},
     {"causal": False}, {"window": 30}, {"varlen": [90, 6]}, {"scale": 0.3}, {"dropout": 0.1}, {"layout": "bhsd"}],
    ids=str,
)  # fmt: skip
def test_every_parameter_changes_the_match_key(change: dict[str, Any]) -> None:
    assert case(change).match_key != case().match_key


@pytest.mark.parametrize(
    "same", [{"scale": 0.25}, {"q_len": 96, "kv_len": 96}, {"window": 96}, {"varlen": [96]}], ids=str
)
def test_one_spelling_for_equal_work(same: dict[str, Any]) -> None:
    assert case(same).match_key == case().match_key


@pytest.mark.parametrize("how", [{"impl": ["torch"]}, {"measure": {"cache": "cold"}}, {"name": "x"}], ids=str)
def test_how_does_not_change_the_match_key(how: dict[str, Any]) -> None:
    assert case(**how).match_key == case().match_key


def test_a_forward_that_saves_for_backward_is_other_work() -> None:
    assert case(grad=True).match_key != case().match_key


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({"kv_heads": 3}, "params"), ({"headz": 3}, "params.headz"), ({"varlen": [50, 47]}, "params"),
        ({"varlen": [96, 0]}, "params"), ({"dropout": 1.0}, "params.dropout"), ({"seq": 0}, "params"),
        ({"window": 5, "q_len": 96, "kv_len": 20}, "params"), ({"head_dim": 0}, "params.head_dim"),
        ({"layout": "sbhd"}, "params.layout"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_its_field(params: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError) as refused:
        case(params)
    assert refused.value.field == where


def test_backends_a_cpu_lacks_are_unsupported_with_the_reason() -> None:
    made = case()
    reasons = {n: made.workload.unsupported(made, i, BACKEND) for n, i in made.workload.impls().items()}
    assert "CUDNN" in (reasons["sdpa-cudnn"] or "")
    assert "EFFICIENT" in (reasons["sdpa-efficient"] or "")
    assert reasons["sdpa"] is None


@pytest.mark.parametrize(("impl", "path"), [("sdpa-flash", "flash"), ("sdpa-math", "attention_math"), ("torch", "bmm")])
def test_the_path_taken_is_seen_not_assumed(impl: str, path: str) -> None:
    assert path in opened(case(), impl).path()


def test_layout_is_the_storage_order() -> None:
    q = opened(case())._sets[0][0]
    assert q.shape == (2, 4, 96, 16)
    assert q.transpose(1, 2).is_contiguous()
    assert opened(case({"layout": "bhsd"}))._sets[0][0].is_contiguous()

"""Precision policies: a closed list, spelled out in full, and documented from the code."""

from dataclasses import replace
from pathlib import Path

import pytest

from perwatt.errors import InputError
from perwatt.spec import document, work
from perwatt.spec.case import build
from perwatt.spec.precision import FORMATS, POLICIES, VARIANTS, policy

QUANTITIES = (
    "compute", "weights", "activations", "gradients", "gradient_reduction", "moments", "softmax", "norm", "loss",
    "logits", "accumulate",
)  # fmt: skip


PLAIN = ["fp32", "tf32", "bf16", "fp16", "bf16_master", "bf16_autocast", "bf16_sr"]
SCALED = ["fp8_tensor", "fp8_row", "fp8_tensor_ieee", "fp8_row_ieee", "mxfp8"]


def test_the_list_is_closed() -> None:
    scaled = [name + suffix for name in SCALED for suffix in ("", "_fast", "_outside", "_outside_fast")]
    assert list(POLICIES) == PLAIN + scaled


@pytest.mark.parametrize("name", SCALED)
def test_variants_differ_in_where_they_quantize_and_how_they_add(name: str) -> None:
    found = {suffix: policy(name + suffix) for suffix in ("", "_fast", "_outside", "_outside_fast")}
    assert {s: (p.quantize, p.fast_accumulation) for s, p in found.items()} == {
        "": ("inside", False), "_fast": ("inside", True),
        "_outside": ("outside", False), "_outside_fast": ("outside", True),
    }  # fmt: skip
    assert {p.compute for p in found.values()} == {policy(name).compute}


def test_operands_arrive_as_the_work_reads_them() -> None:
    arriving = {name: policy(name).operands for name in ("fp32", "bf16", "bf16_autocast", "fp8_row", "mxfp8_outside")}
    assert arriving == {
        "fp32": "fp32", "bf16": "bf16", "bf16_autocast": "fp32", "fp8_row": "bf16", "mxfp8_outside": "mxfp8",
    }  # fmt: skip


def gemm(name: str):
    return build({"workload": "gemm", "params": {"m": 64, "n": 32, "k": 96}, "precision": name})


def test_every_policy_is_other_work_and_the_same_task() -> None:
    cases = [gemm(name) for name in POLICIES]
    assert len({case.match_key for case in cases}) == len(POLICIES)
    assert len({work.task_key(case.work) for case in cases}) == 1


def test_a_backend_s_op_list_enters_the_key_of_autocast_alone() -> None:
    keys = {ops: replace(gemm("bf16_autocast"), precision=policy("bf16_autocast").bound(ops)).match_key for ops in "ab"}
    assert len({*keys.values(), gemm("bf16_autocast").match_key}) == 3
    assert policy("bf16").bound("a") == policy("bf16")


@pytest.mark.parametrize("name", POLICIES)
def test_each_quantity_has_a_known_format(name: str) -> None:
    assert POLICIES[name].name == name
    for quantity in QUANTITIES:
        assert getattr(POLICIES[name], quantity) in FORMATS, quantity
    assert POLICIES[name].master_weights in (*FORMATS, "none")


def test_no_two_policies_are_the_same_work() -> None:
    works = [{k: v for k, v in p.work().items() if k != "name"} for p in POLICIES.values()]
    assert all(a != b for i, a in enumerate(works) for b in works[:i])


def test_the_summary_is_not_work() -> None:
    assert "summary" not in policy("fp32").work()


def test_an_unknown_policy_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"did you mean 'bf16_master'"):
        policy("bf16_mastr")
    with pytest.raises(InputError, match=r"did you mean 'mxfp8_outside_fast'"):
        policy("mxfp8_outside_fst")


def test_the_documentation_is_made_from_the_table() -> None:
    page = Path(__file__).parents[3] / "docs" / "precision.md"
    assert page.read_text() == document.render(), "run: python -m perwatt.spec.document > docs/precision.md"


def test_the_documentation_explains_every_variant() -> None:
    assert all(f"`_{suffix}`" in document.render() for suffix in VARIANTS)

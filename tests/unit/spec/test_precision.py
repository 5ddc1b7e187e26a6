"""Precision policies: a closed list, spelled out in full, and documented from the code."""

from pathlib import Path

import pytest

from perwatt.errors import InputError
from perwatt.spec import document
from perwatt.spec.precision import FORMATS, POLICIES, policy

QUANTITIES = (
    "compute", "weights", "activations", "gradients", "gradient_reduction", "moments", "softmax", "norm", "loss",
    "logits", "accumulate",
)  # fmt: skip


def test_the_list_is_closed() -> None:
    assert list(POLICIES) == [
        "fp32", "tf32", "bf16", "fp16", "bf16_master", "bf16_autocast", "bf16_sr", "fp8_tensor", "fp8_row", "mxfp8",
    ]  # fmt: skip


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


def test_the_documentation_is_made_from_the_table() -> None:
    page = Path(__file__).parents[3] / "docs" / "precision.md"
    assert page.read_text() == document.render(), "run: python -m perwatt.spec.document > docs/precision.md"

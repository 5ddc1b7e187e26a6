"""Judging updates of an optimizer by weight and by moment."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from perwatt.accuracy import updates
from perwatt.accuracy.reference_optimizer import Optimizer, Rule
from perwatt.workloads.base import Accuracy

CONSTANTS: dict[str, Any] = {
    "name": "adamw", "lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "decay": "matrices",
    "clip": 0.0, "storage": torch.float32, "moments": torch.float32,
}  # fmt: skip
BEFORE = {"w": torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)}
GRADIENT = {"w": torch.linspace(2, -1, 12, dtype=torch.float64).reshape(3, 4)}


def walked() -> tuple[Optimizer, dict[str, torch.Tensor]]:
    optimizer = Optimizer(Rule(**CONSTANTS))
    return optimizer, optimizer.step(BEFORE, GRADIENT)


def test_what_the_reference_makes_passes_and_a_little_more_does_not() -> None:
    optimizer, wanted = walked()
    found = {which: getattr(optimizer, which) for which in updates.MOMENTS}
    assert Accuracy.worst([*updates.changes(BEFORE, wanted, wanted, optimizer), *updates.moments(found, optimizer)]).ok
    off = {"w": wanted["w"] + 1e-3 * (wanted["w"] - BEFORE["w"])}
    assert not Accuracy.worst(list(updates.changes(BEFORE, off, wanted, optimizer))).ok


def test_a_missing_moment_and_a_nan_never_pass() -> None:
    optimizer, wanted = walked()
    missing = Accuracy.worst(list(updates.moments({"first": {}, "second": {}}, optimizer)))
    assert not missing.ok
    assert "first moment of w is missing" in missing.detail
    lost = {"w": wanted["w"].clone()}
    lost["w"][0, 0] = float("nan")
    assert not Accuracy.worst(list(updates.changes(BEFORE, lost, wanted, optimizer))).ok


@pytest.mark.parametrize(("kept", "least", "most"), [(torch.float16, 0.05, 0.07), (torch.bfloat16, 0.0, 1e-30)])
def test_underflow_is_the_step_near_zero(kept: torch.dtype, least: float, most: float) -> None:
    small = torch.full((9,), 1e-6, dtype=torch.float64)
    assert least <= updates.underflow(kept, small) <= most
    assert updates.underflow(kept, small * 0) == 0.0

"""The optimizers by hand against formulas, and against torch's in float64 where torch has them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from perwatt.accuracy.reference_optimizer import Optimizer, Rule, clipped_by, global_norm, orthogonalized

CONSTANTS: dict[str, Any] = {
    "lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.3, "decay": "matrices", "clip": 0.0,
    "storage": torch.float64, "moments": torch.float64,
}  # fmt: skip


def tensors(seed: int) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(seed)
    shapes = {"embedding": (7, 4), "layers.0.q": (6, 4), "layers.0.down": (4, 9), "layers.0.mlp_norm": (4,)}
    return {name: torch.randn(shape, generator=made, dtype=torch.float64) for name, shape in shapes.items()}


def walked(rule: Rule) -> dict[str, Tensor]:
    optimizer, weights = Optimizer(rule), tensors(0)
    for step in (1, 2, 3):
        weights = optimizer.step(weights, tensors(step))
    return weights


def walked_by_torch(kind: Any, which: str = "", **constants: Any) -> dict[str, Tensor]:
    weights = {name: w.requires_grad_() for name, w in tensors(0).items() if name.startswith(which)}
    groups = [
        {"params": [w for w in weights.values() if w.dim() > 1], "weight_decay": 0.3},
        {"params": [w for w in weights.values() if w.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = kind([group for group in groups if group["params"]], lr=0.02, **constants)
    for step in (1, 2, 3):
        for name, gradient in tensors(step).items():
            if name in weights:
                weights[name].grad = gradient
        optimizer.step()
    return {name: w.detach() for name, w in weights.items()}


@pytest.mark.parametrize(
    ("name", "kind", "constants"),
    [("adamw", torch.optim.AdamW, {"betas": (0.8, 0.9), "eps": 1e-6}), ("sgd", torch.optim.SGD, {})],
)
def test_agrees_with_torch_in_float64(name: str, kind: Any, constants: dict[str, Any]) -> None:
    found, wanted = walked(Rule(name=name, **CONSTANTS)), walked_by_torch(kind, **constants)
    for key, weight in wanted.items():
        assert torch.allclose(found[key], weight, rtol=1e-12, atol=0), key


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_agrees_with_torch_but_for_bf16(nesterov: bool, adjust: str) -> None:
    rule = Rule(name="muon", nesterov=nesterov, lr_adjust=adjust, momentum=0.7, **CONSTANTS)
    found, start = walked(rule), tensors(0)
    for name in ("layers.0.q", "layers.0.down"):
        wanted = walked_by_torch(torch.optim.Muon, name, nesterov=nesterov, adjust_lr_fn=adjust, momentum=0.7)[name]
        assert (found[name] - wanted).norm() < 0.05 * (wanted - start[name]).norm(), name


def test_muon_leaves_the_rest_to_adamw() -> None:
    muon, adamw = walked(Rule(name="muon", **CONSTANTS)), walked(Rule(name="adamw", **CONSTANTS))
    same = {name for name in muon if torch.equal(muon[name], adamw[name])}
    assert same == {"embedding", "layers.0.mlp_norm"}


def test_newton_schulz_keeps_directions_and_brings_singular_values_near_one() -> None:
    u, s, vh = torch.linalg.svd(torch.randn(8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    rule = Rule(name="muon", **CONSTANTS)
    for matrix in ((u[:, :5] * s) @ vh, ((u[:, :5] * s) @ vh).T):
        spread = torch.linalg.svdvals(orthogonalized(matrix, rule))
        assert spread.min() > 0.65
        assert spread.max() < 1.25
    small = u.T @ orthogonalized((u[:, :5] * s) @ vh, rule) @ vh.T
    assert (small[:5] - small.diag().diag()).abs().max() < 1e-9, "its own singular vectors still diagonalize it"


def test_the_yardstick_errs_less_than_one_step_more_or_less() -> None:
    matrix = {"layers.0.o": torch.randn(64, 64, generator=torch.Generator().manual_seed(2))}
    optimizer = Optimizer(Rule(name="muon", **CONSTANTS))
    optimizer.step(matrix, matrix)
    assert 1e-3 < optimizer.noise["layers.0.o"] < 0.05
    five, four = (
        orthogonalized(matrix["layers.0.o"].double(), Rule(name="muon", ns_steps=n, **CONSTANTS)) for n in (5, 4)
    )
    assert (five - four).norm() / five.norm() > 4 * optimizer.noise["layers.0.o"]


def test_moments_are_kept_in_their_format() -> None:
    optimizer = Optimizer(Rule(name="adamw", **CONSTANTS | {"moments": torch.bfloat16}))
    optimizer.step(tensors(0), tensors(1))
    for kept in (*optimizer.first.values(), *optimizer.second.values()):
        assert torch.equal(kept, kept.bfloat16().double())


def test_clipping() -> None:
    gradients = {"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])}
    assert global_norm(gradients.values()) == pytest.approx(5.0)
    assert float(clipped_by(1.0, gradients)["a"]) == pytest.approx(0.6, rel=1e-5)
    assert torch.equal(clipped_by(0.0, gradients)["b"], gradients["b"].double())
    assert math.isclose(global_norm(clipped_by(9.0, gradients).values()), 5.0)

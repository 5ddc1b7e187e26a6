"""The forms of torch's optimizers, and Muon over a model."""

from __future__ import annotations

import pytest
import torch

from perwatt.models.decoder import Decoder
from perwatt.models.formats import Formats
from perwatt.models.muon import Muon
from perwatt.models.optimizers import best_form, forget, make_optimizer, moments, why_not
from perwatt.spec.model import ModelShape
from perwatt.workloads.optimizer_params import OptimizerParams

SHAPE = ModelShape(hidden=16, intermediate=24, layers=2, heads=4, kv_heads=2, vocab=30)
CPU = torch.device("cpu")


def model(shape: ModelShape = SHAPE, storage: torch.dtype = torch.float32) -> Decoder:
    made = Decoder(shape, Formats(storage=storage, products=storage, compute=storage, logits=storage), 4, CPU)
    random = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=random))
        parameter.grad = torch.randn(parameter.shape, generator=random).to(storage)
    return made


def test_fused_is_best_where_it_works() -> None:
    assert best_form("adamw", CPU, torch.bfloat16) == "fused"
    assert best_form("sgd", CPU, torch.float32) == "fused"


def test_a_form_that_changes_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: None)
    why_not.cache_clear()
    assert "as they were" in (why_not("sgd", "fused", CPU, torch.float32) or "")
    monkeypatch.undo()
    why_not.cache_clear()
    assert why_not("sgd", "fused", CPU, torch.float32) is None


def test_a_form_that_does_not_exist_is_told() -> None:
    assert why_not("adamw", "fused", torch.device("meta"), torch.float32) == (
        "torch has no fused adamw on meta (it has on cpu and cuda)"
    )


@pytest.mark.parametrize("tied", [False, True])
def test_muon_updates_each_matrix_of_the_layers_by_itself(tied: bool) -> None:
    subject = model(SHAPE.model_copy(update={"tied": tied}))
    optimizer = make_optimizer(OptimizerParams(optimizer="muon"), subject)
    assert isinstance(optimizer, Muon)
    parts = {"q", "k", "v", "o", "gate", "up", "down"}
    assert set(optimizer.weights) == {f"layers.{i}.{part}" for i in (0, 1) for part in parts}
    assert set(dict(moments(optimizer, subject, "first", lambda t: t))) == set()
    optimizer.step()
    names = {name for name, t in subject.tensors(lambda p: p).items() if t is not None}
    assert set(dict(moments(optimizer, subject, "first", lambda t: t))) == names
    assert set(dict(moments(optimizer, subject, "second", lambda t: t))) == names - set(optimizer.weights)


def test_muon_writes_to_the_stored_parameters_and_lets_go_of_gradients() -> None:
    subject = model()
    before = [p.detach().clone() for p in subject.parameters()]
    optimizer = make_optimizer(OptimizerParams(optimizer="muon"), subject)
    optimizer.step()
    assert all((p != old).float().mean() > 0.9 for p, old in zip(subject.parameters(), before, strict=True))
    optimizer.zero_grad()
    assert all(p.grad is None for p in subject.parameters())
    assert all(w.grad is None for w in optimizer.weights.values())  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_forgetting_starts_afresh_in_place(name: str) -> None:
    def steps(count: int, subject: Decoder, optimizer: object) -> list[torch.Tensor]:
        for _ in range(count):
            optimizer.step()  # type: ignore[attr-defined]
        return [p.detach().clone() for p in subject.parameters()]

    params = OptimizerParams(optimizer=name)  # type: ignore[arg-type]
    subject, fresh = model(), model()
    optimizer = make_optimizer(params, subject)
    steps(3, subject, optimizer)
    held = [t for state in optimizer.state.values() for t in state.values()]
    with torch.no_grad():
        for parameter, other in zip(subject.parameters(), fresh.parameters(), strict=True):
            parameter.copy_(other)
    forget(optimizer)
    wanted = steps(2, fresh, make_optimizer(params, fresh))
    for found, right in zip(steps(2, subject, optimizer), wanted, strict=True):
        assert torch.equal(found, right)
    assert [t for state in optimizer.state.values() for t in state.values()] == held or name == "sgd"

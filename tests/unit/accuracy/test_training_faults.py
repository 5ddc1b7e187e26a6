"""The training gate catches faults of trainers: of gradients, of what is timed, of the optimizer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from perwatt.models import trainer
from support.training import examine

pytestmark = pytest.mark.usefixtures("one_thread")


class Faulty(trainer.Trainer):
    """A trainer with one fault in its gradients."""

    def backward(self, slot: int) -> Tensor:
        loss = super().backward(slot)
        self.spoil()
        return loss

    def spoil(self) -> None:
        raise NotImplementedError

    @property
    def victim(self) -> Tensor:
        gradient = self.model.blocks[1].mlp.down.grad
        assert isinstance(gradient, Tensor)
        return gradient


class DroppedGradient(Faulty):
    def spoil(self) -> None:
        self.model.blocks[0].mlp_norm.weight.grad = None


class ZeroGradient(Faulty):
    def spoil(self) -> None:
        self.victim.zero_()


class ScaledGradient(Faulty):
    def spoil(self) -> None:
        self.victim.mul_(0.9)


class ScaledKeyGradient(Faulty):
    """One of three weights that are stored together."""

    def spoil(self) -> None:
        gradient = self.gradients()["layers.0.k"]
        assert gradient is not None
        gradient.mul_(0.9)


class AllScaled(Faulty):
    """Clipping and AdamW hide this one."""

    def spoil(self) -> None:
        for parameter in self.parameters:
            assert parameter.grad is not None
            parameter.grad.mul_(0.9)


class OneNan(Faulty):
    def spoil(self) -> None:
        self.victim[3, 5] = math.nan


class LostTile(Faulty):
    def spoil(self) -> None:
        self.victim[:8, :8] = 0


class HalfBatch(trainer.Trainer):
    def loss(self, tokens: Tensor, labels: Tensor) -> Tensor:
        half = tokens.shape[0] // 2
        return super().loss(tokens[:half], labels[:half])


class Stale(trainer.Trainer):
    def update(self) -> None:
        kept = [p.detach().clone() for p in self.parameters]
        super().update()
        with torch.no_grad():
            for parameter, old in zip(self.parameters, kept, strict=True):
                parameter.copy_(old)


class StaleOne(trainer.Trainer):
    def update(self) -> None:
        kept = self.model.blocks[0].attention.o.detach().clone()
        super().update()
        with torch.no_grad():
            self.model.blocks[0].attention.o.copy_(kept)


class LazyRun(trainer.Trainer):
    """Does all it is examined for, but not what is timed."""

    def run(self, slot: int) -> Tensor:
        return self.backward(slot)


class HalfRun(trainer.Trainer):
    """Trains on half a batch when timed."""

    def run(self, slot: int) -> Tensor:
        half = self.tokens.shape[1] // 2
        self.optimizer.zero_grad()
        loss = self.loss(self.tokens[slot, :half], self.labels[slot, :half])
        loss.backward()  # type: ignore[no-untyped-call]
        self.update()
        return loss.detach()


class Unclipped(trainer.Trainer):
    def update(self) -> None:
        self.optimizer.step()


class WrongOptimizer(trainer.Trainer):
    changes: dict[str, object]

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        for group in self.optimizer.param_groups:
            group.update({name: value for name, value in self.changes.items() if group.get(name)})


class NoDecay(WrongOptimizer):
    changes = {"weight_decay": 0.0}  # noqa: RUF012


class WrongFirstBeta(WrongOptimizer):
    changes = {"betas": (0.8, 0.95)}  # noqa: RUF012


class WrongSecondBeta(WrongOptimizer):
    changes = {"betas": (0.9, 0.999)}  # noqa: RUF012


class WrongEps(WrongOptimizer):
    changes = {"eps": 1e-4}  # noqa: RUF012


class WrongRate(WrongOptimizer):
    changes = {"lr": 2e-4}  # noqa: RUF012


class NanMoment(trainer.Trainer):
    def update(self) -> None:
        super().update()
        for held in self.optimizer.state.values():
            held["exp_avg_sq"].view(-1)[0] = math.nan
            break


class NanWeight(trainer.Trainer):
    def update(self) -> None:
        super().update()
        with torch.no_grad():
            self.model.embedding[-1, -1] = math.nan


class Unscaled(trainer.Trainer):
    """Leaves the loss's scale in the gradients, which clipping would hide."""

    def _differentiated(self, *part: Tensor) -> Tensor:
        loss = super()._differentiated(*part)
        for parameter in self.parameters:
            assert parameter.grad is not None
            parameter.grad.mul_(2)
        return loss


class Underflowing(trainer.Trainer):
    """A scale so small that gradients lose their last bits."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.scale = 2.0**-6


@pytest.mark.parametrize("kind", [Unscaled, Underflowing])
def test_faults_of_fp16_are_caught(kind: type[trainer.Trainer]) -> None:
    assert not examine("fp16", kind, optimizer="sgd").ok


ANY_POLICY = [
    DroppedGradient, ZeroGradient, ScaledGradient, ScaledKeyGradient, AllScaled, OneNan, LostTile, HalfBatch, Stale,
    StaleOne, LazyRun, HalfRun, Unclipped, WrongFirstBeta, WrongSecondBeta, WrongRate, NanMoment, NanWeight,
]  # fmt: skip

FP32_STATE = [NoDecay, WrongEps]  # in 16-bit weights and moments these are smaller than rounding


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ANY_POLICY, ids=lambda kind: kind.__name__)
def test_faulty_trainer_is_caught(kind: type[trainer.Trainer], precision: str) -> None:
    assert not examine(precision, kind).ok


@pytest.mark.parametrize("precision", ["fp32", "bf16_master"])
@pytest.mark.parametrize("kind", FP32_STATE, ids=lambda kind: kind.__name__)
def test_faulty_optimizer_is_caught(kind: type[trainer.Trainer], precision: str) -> None:
    assert not examine(precision, kind).ok


class WrongMuon(trainer.Trainer):
    changes: dict[str, object]

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        for group in self.optimizer.param_groups:
            if "ns_steps" in group:
                group.update(self.changes)


class FewerSteps(WrongMuon):
    changes = {"ns_steps": 4}  # noqa: RUF012


class WrongMomentum(WrongMuon):
    changes = {"momentum": 0.9}  # noqa: RUF012


class NoLookAhead(WrongMuon):
    changes = {"nesterov": False}  # noqa: RUF012


class OtherAdjustment(WrongMuon):
    changes = {"adjust_lr_fn": "original"}  # noqa: RUF012


class NoDecayOfMatrices(WrongMuon):
    changes = {"weight_decay": 0.0}  # noqa: RUF012


class StoredTogether(trainer.Trainer):
    """Queries, keys and values orthogonalized as one matrix."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        together = torch.nn.Parameter(self.model.blocks[0].attention.qkv.detach())
        group = self.optimizer.param_groups[0]
        views = [self.weights()[f"layers.0.{name}"] for name in "qkv"]
        group["params"] = [p for p in group["params"] if all(p.data_ptr() != v.data_ptr() for v in views)]
        group["params"].append(together)
        self.together = together

    def update(self) -> None:
        self.together.grad = self.model.blocks[0].attention.qkv.grad
        super().update()


MUON = [FewerSteps, WrongMomentum, NoLookAhead, OtherAdjustment, NoDecayOfMatrices, StoredTogether, StaleOne]


@pytest.mark.parametrize("kind", MUON, ids=lambda kind: kind.__name__)
def test_faulty_muon_is_caught(kind: type[trainer.Trainer]) -> None:
    assert not examine("bf16_master", kind, optimizer="muon").ok

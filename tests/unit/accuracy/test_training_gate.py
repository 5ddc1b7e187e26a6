"""The training gate passes honest impls and catches planted faults."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from perwatt.accuracy import answers, training, twin
from perwatt.models import attention, feed_forward, places, trainer
from perwatt.spec.data import Source
from perwatt.spec.model import resolve
from perwatt.spec.precision import policy
from perwatt.workloads.base import Accuracy
from perwatt.workloads.train_params import TrainStepParams

SEED = 3
GROUPED = {"hidden": 128, "intermediate": 344, "layers": 3, "heads": 4, "kv_heads": 2, "vocab": 999}
STRETCHED = GROUPED | {"tied": True, "rope": {"kind": "llama3", "factor": 32.0, "theta": 5e5}}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, which lose much when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def examine(precision: str = "fp32", kind: type[trainer.Trainer] = trainer.Trainer, **fields: object) -> Accuracy:
    params = TrainStepParams(**{"model": GROUPED, "batch": 4, "seq": 128} | fields)  # type: ignore[arg-type]
    subject = kind(twin.twin_of(params), policy(precision), torch.device("cpu"), lambda function: function, 4)
    return training.examine(subject, policy(precision), SEED)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16_master"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model": STRETCHED},
        {"model": STRETCHED, "optimizer": "sgd"},
        {"optimizer": "sgd", "clip": 0},
        {"optimizer": "muon"},
        {"model": STRETCHED, "optimizer": "muon", "lr_adjust": "original", "momentum": 0.8, "decay": "all"},
        {"model": "llama-tiny", "loss_reduction": "sum", "decay": "all", "betas": (0.8, 0.99), "lr": 1e-2},
    ],
    ids=["grouped", "tied-llama3", "tied-llama3-sgd", "sgd-unclipped", "muon", "muon-original", "sum-decay-all"],
)
def test_honest_impl_passes(precision: str, fields: dict[str, object]) -> None:
    assert examine(precision, **fields).ok


@pytest.mark.parametrize("model", [GROUPED, STRETCHED], ids=["grouped", "tied-llama3"])
def test_honest_impl_under_autocast_passes(model: dict[str, object]) -> None:
    seen: list[torch.dtype] = []

    class Watched(trainer.Trainer):
        def loss(self, tokens: Tensor, labels: Tensor) -> Tensor:
            seen.append(self.model(tokens).dtype if torch.is_autocast_enabled("cpu") else torch.float64)
            return super().loss(tokens, labels)

    assert examine("bf16_autocast", Watched, model=model).ok
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize(
    "fields",
    [{}, {"clip": 0, "loss_reduction": "sum"}, {"model": STRETCHED, "grad_accum": 2}],
    ids=["mean", "sum", "tied"],
)
def test_fp16_passes_with_sgd(fields: dict[str, object]) -> None:
    assert examine("fp16", optimizer="sgd", **fields).ok


def test_bf16_logits_of_fp32_model_pass() -> None:
    assert examine(logits="bf16").ok


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
        self._scale = 2.0**-6


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


def late_edge(q: Tensor, k: Tensor, v: Tensor, *unused: object) -> Tensor:
    """Every query sees one key too many."""
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def lost_pair(q: Tensor, k: Tensor, v: Tensor, *unused: object) -> Tensor:
    """The last query does not see itself: one pair of many."""
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
    mask[-1, -1] = False
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def swapped_heads(q: Tensor, k: Tensor, v: Tensor, *unused: object) -> Tensor:
    return F.scaled_dot_product_attention(q, k.flip(1), v.flip(1), is_causal=True, enable_gqa=True)


def interleaved_heads(q: Tensor, k: Tensor, v: Tensor, *unused: object) -> Tensor:
    """Query head i served by key head i modulo their number, as tile() instead of repeat_interleave() gives."""
    times = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(q, k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1), is_causal=True)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("fault", [late_edge, swapped_heads, interleaved_heads])
def test_faulty_attention_is_caught(fault: object, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "attend", fault)
    assert not examine(precision).ok


def test_one_lost_pair_is_caught_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "attend", lost_pair)
    assert not examine().ok


def secretly_bf16(x: Tensor, weight: Tensor, bias: None) -> Tensor:
    return F.linear(x.bfloat16(), weight.bfloat16()).to(x.dtype)


def bf16_accumulation(x: Tensor, weight: Tensor, bias: None) -> Tensor:
    """Partial sums of eight terms, added up in bf16."""
    total = torch.zeros((), dtype=torch.bfloat16)
    for terms, weights in zip(x.split(8, dim=-1), weight.split(8, dim=-1), strict=True):
        total = total + F.linear(terms, weights.to(x.dtype)).bfloat16()
    return total.to(x.dtype)


@pytest.mark.parametrize("fault", [secretly_bf16, bf16_accumulation])
def test_faulty_products_of_fp32_are_caught(fault: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (attention, feed_forward):
        monkeypatch.setattr(module, "linear", fault)
    assert not examine("fp32").ok


@pytest.mark.parametrize("precision", ["bf16", "bf16_master", "bf16_autocast"])
def test_bf16_accumulation_is_caught_in_bf16(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (attention, feed_forward):
        monkeypatch.setattr(module, "linear", bf16_accumulation)
    assert not examine(precision).ok


def test_unscaled_rotation_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that ignores llama3 scaling."""
    plain = places.rotation
    monkeypatch.setattr(
        places,
        "rotation",
        lambda rope, head_dim, positions: plain(rope.model_copy(update={"kind": "default"}), head_dim, positions),
    )
    assert not examine("bf16_master", model=STRETCHED).ok


def test_full_size_catches_what_only_shows_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is wrong from position 64 on."""

    def short(q: Tensor, k: Tensor, v: Tensor, *unused: object) -> Tensor:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
        mask[64:, :64] = False
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)

    params = TrainStepParams(model=GROUPED, batch=2, seq=128)
    subject = trainer.Trainer(params, policy("fp32"), torch.device("cpu"), lambda function: function, 1)
    subject.fill(Source(0), "normal", -3)
    tokens = subject.tokens.clone()
    assert Accuracy.worst(training.full_size(subject, Source(1), policy("fp32"))).ok
    assert torch.equal(subject.tokens, tokens)
    monkeypatch.setattr(attention, "attend", short)
    assert examine("fp32").ok  # the twin is too short to tell
    assert not Accuracy.worst(training.full_size(subject, Source(1), policy("fp32"))).ok


def test_seeds_have_different_data() -> None:
    small = twin.twin_of(TrainStepParams(model=GROUPED, batch=1, seq=1)).model_dump_json()
    assert answers.answers_to(small, "fp32", 1, 4).loss != answers.answers_to(small, "fp32", 2, 4).loss


@pytest.mark.parametrize("name", ["llama-tiny", "llama-3.2-1b", "llama-3-8b"])
def test_twin_keeps_every_flag(name: str) -> None:
    whole, small = resolve(name), twin.shrunk(resolve(name))
    assert (small.tied, small.rope.kind, small.norm_eps) == (whole.tied, whole.rope.kind, whole.norm_eps)
    assert small.heads // small.kv_heads == whole.heads // whole.kv_heads
    assert small.parameters < 600_000


def test_twin_keeps_optimizer_settings() -> None:
    params = TrainStepParams(
        model="llama-tiny", batch=4, seq=128, layers=2, betas=(0.5, 0.6), clip=0.3, loss_reduction="sum"
    )
    small = twin.twin_of(params)
    assert (small.betas, small.clip, small.loss_reduction, small.cut) == ((0.5, 0.6), 0.3, "sum", False)

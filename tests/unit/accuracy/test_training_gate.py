"""The training gate passes honest impls, and at full size sees what only shows there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from perwatt.accuracy import answers, training, twin
from perwatt.models import attention, trainer
from perwatt.spec.data import Source
from perwatt.spec.precision import policy
from perwatt.workloads.base import Accuracy
from perwatt.workloads.train_params import TrainStepParams
from support.training import GROUPED, STRETCHED, examine

pytestmark = pytest.mark.usefixtures("one_thread")


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

"""train_step: FLOPs and tokens of a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from perwatt.models.trainer import Trainer
from perwatt.spec.data import Source
from perwatt.spec.model import ModelShape
from perwatt.spec.precision import policy
from perwatt.workloads.train_params import TrainStepParams
from perwatt.workloads.train_step import WORKLOAD
from support.training import MODELS

pytestmark = pytest.mark.usefixtures("one_thread")


def megatron(shape: ModelShape, batch: int, seq: int) -> float:
    """FLOPs of a step as Megatron-LM's ``num_floating_point_operations`` has them: half the square of scores."""
    h, query_ratio = shape.hidden, shape.heads * shape.head_dim / shape.hidden
    attention = (1 + shape.kv_heads / shape.heads + seq / h / 2) * query_ratio
    mlp = shape.intermediate / h * 3 / 2
    logits = shape.vocab / (2 * shape.layers * h)
    return 12 * batch * seq * shape.layers * h * h * (attention + mlp + logits)


@pytest.mark.parametrize("seq", [128, 4096, 8192])
@pytest.mark.parametrize("model", ["llama-tiny", "llama-3.2-1b", "llama-3-8b"])
def test_flops_agree_with_megatron(model: str, seq: int) -> None:
    """We count S (S + 1) / 2 pairs, Megatron S^2 / 2: a token's own key is a pair. That is (S + 1) / S of attention."""
    params = TrainStepParams(model=model, batch=3, seq=seq)
    counts = WORKLOAD.counts(params, "step", policy("bf16_master"))
    assert counts.flops == pytest.approx(megatron(params.shape, 3, seq), rel=1e-3)
    shape = params.shape
    attention = 6 * shape.layers * seq * shape.heads * shape.head_dim * params.tokens
    assert counts.flops == pytest.approx(megatron(shape, 3, seq) + attention / seq, rel=1e-12)
    assert counts.flops == pytest.approx(
        6 * shape.linear_parameters * params.tokens + attention * (seq + 1) / seq, rel=1e-12
    )


def test_tokens_and_cuts() -> None:
    whole = WORKLOAD.counts(TrainStepParams(model="llama-tiny", batch=4, seq=128), "step", policy("fp32"))
    cut = WORKLOAD.counts(TrainStepParams(model="llama-tiny", batch=4, seq=128, layers=2), "step", policy("fp32"))
    full = WORKLOAD.counts(TrainStepParams(model="llama-tiny", batch=4, seq=128, layers=4), "step", policy("fp32"))
    assert (whole.tokens, whole.bytes, whole.per_layer, cut.per_layer, full.per_layer) == (
        512,
        None,
        False,
        True,
        False,
    )


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("precision", ["fp32", "bf16_master"])
def test_flops_agree_with_the_flop_counter(model: dict[str, Any], precision: str) -> None:
    """On CPUs the counter sees the unfused path only, which computes the full square: ours is (S + 1) / 2S of it."""
    params = TrainStepParams(model=model, batch=2, seq=16)
    trainer = Trainer(params, policy(precision), torch.device("cpu"), lambda function: function, 1)
    trainer.fill(Source(0), "normal", -4)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        trainer.run(0)
    shape, seq = params.shape, params.seq
    one = 12 * params.batch * shape.head_dim * shape.heads  # FLOPs of one pair in all heads
    counted = counter.get_total_flops() - _mixing(shape, params.tokens)
    assert counted > 0
    wanted = WORKLOAD.counts(params, "step", policy(precision)).flops
    assert counted - one * seq**2 * shape.layers + one * shape.pairs(seq) == wanted


def _mixing(shape: ModelShape, tokens: int) -> int:
    """Weighting of experts' results, which is done by a small product in the model and is no product by convention."""
    return 6 * tokens * shape.experts_per_token * shape.hidden * shape.layers

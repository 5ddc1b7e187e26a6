"""cross_entropy: bytes, and faults of its own."""

import pytest
import torch
from torch.nn import functional as F

from support.sessions import case, faulty

PARAMS = {"tokens": 64, "vocab": 512}


def test_bytes_of_each_pass() -> None:
    made = case("cross_entropy", PARAMS, precision="bf16")
    logits, labels = 64 * 512 * 2, 64 * 8
    counts = {p: made.workload.counts(made.params, p, made.precision) for p in made.workload.passes}
    assert {p: c.bytes for p, c in counts.items()} == {
        "fwd": logits + labels, "bwd": 2 * logits + labels, "fwd+bwd": 3 * logits + 2 * labels,
    }  # fmt: skip
    assert all(c.flops is None for c in counts.values())


FAULTS = {
    "a sum": lambda z, y: F.cross_entropy(z, y, reduction="sum"),
    "labels shifted by one": lambda z, y: F.cross_entropy(z, y.roll(1)),
    "a token left out": lambda z, y: F.cross_entropy(z[1:], y[1:]),
    "smoothed labels": lambda z, y: F.cross_entropy(z, y, label_smoothing=0.01),
    "a gradient without the label": lambda z, y: (
        z.logsumexp(-1).mean() - z.gather(-1, y[:, None]).detach().mean()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("precision", ["fp32", "bf16_master"])
def test_faults_are_caught(name: str, precision: str) -> None:
    made = case("cross_entropy", PARAMS, precision=precision, pass_="fwd+bwd")
    assert not faulty(made, lambda function: FAULTS[name]).ok


IN_LOSS = {
    "a token too few in the mean": lambda z, y: F.cross_entropy(z.float(), y, reduction="sum") / (len(y) - 1),
    "no label": lambda z, y: z.float().logsumexp(-1).mean(),
    "logits' exponentials summed in bf16": lambda z, y: F.cross_entropy(z.bfloat16(), y).float(),
}


@pytest.mark.parametrize("name", IN_LOSS)
def test_a_loss_by_itself_has_to_be_that_of_float32(name: str) -> None:
    made = case("cross_entropy", {"tokens": 2048, "vocab": 512}, precision="bf16_master")
    assert not faulty(made, lambda function: IN_LOSS[name]).ok


@pytest.mark.parametrize("workload", ["cross_entropy", "lm_head_loss"])
def test_a_backward_that_forgets_what_flows_in_is_caught(workload: str) -> None:
    class Forgetful(torch.autograd.Function):
        @staticmethod
        def forward(ctx, loss):
            return loss.clone()

        @staticmethod
        def backward(ctx, flowing):
            return torch.ones_like(flowing)

    params = PARAMS | ({"hidden": 64} if workload == "lm_head_loss" else {})
    made = case(workload, params, pass_="fwd+bwd")
    assert not faulty(made, lambda function: lambda *operands: Forgetful.apply(function(*operands))).ok


def test_a_loss_near_that_of_chance_proves_nothing() -> None:
    """Logits forgotten: the loss is ln(vocab), which a weak gate would take for right."""
    made = case("cross_entropy", PARAMS, data="uniform")
    assert not faulty(made, lambda function: lambda z, y: torch.tensor(512.0).log()).ok

"""train_step with its loss in chunks: losses and gradients as with all logits, and less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fakes.families import FAMILIES
from perwatt.accuracy.twin import exponent_of
from perwatt.backends.cpu import BACKEND
from perwatt.models import chunked_loss
from perwatt.models.trainer import Trainer
from perwatt.spec.data import Source
from perwatt.spec.precision import policy
from perwatt.workloads.compiled import compiled
from perwatt.workloads.train_memory import footprint
from perwatt.workloads.train_params import TrainStepParams
from perwatt.workloads.train_step import WORKLOAD
from support.memory import peak_bytes
from support.training import INLINE, case, session

pytestmark = pytest.mark.usefixtures("one_thread")
WIDE = INLINE | {"vocab": 4000}
ERRORS = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 3e-3, "bf16_master": 1e-2, "bf16_autocast": 1e-2}


def trained(
    precision: str, chunks: chunked_loss.Differentiate | None, ignored: int = 0, **fields: Any
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of a step, with so many labels of the first sequence that count for nothing."""
    params = TrainStepParams(**{"model": INLINE, "batch": 4, "seq": 48, "ignore_index": -7} | fields)  # type: ignore[arg-type]
    trainer = Trainer(params, policy(precision), torch.device("cpu"), lambda f: f, 1, chunks=chunks)
    trainer.fill(Source(0), "normal", exponent_of(params.shape))
    trainer.labels[0, 0, :ignored] = -7
    loss = float(trainer.backward(0))
    return loss, {name: gradient.float() for name, gradient in trainer.gradients().items() if gradient is not None}


def same(precision: str, one: tuple[float, dict[str, Tensor]], other: tuple[float, dict[str, Tensor]]) -> None:
    assert one[0] == pytest.approx(other[0], rel=ERRORS[precision] / 10)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        assert float((gradient - other[1][name]).norm() / gradient.norm()) < ERRORS[precision], name


@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize(
    "model", [INLINE, INLINE | {"tied": True}, FAMILIES["mixtral"]], ids=["own", "tied", "experts"]
)
def test_losses_and_gradients_are_those_of_all_logits(precision: str, model: dict[str, Any]) -> None:
    fields = {"model": model, "optimizer": "sgd"}
    same(precision, trained(precision, None, **fields), trained(precision, chunked_loss.in_pieces, **fields))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("grad_accum", [1, 2])
@pytest.mark.parametrize("chunks", [chunked_loss.in_pieces, chunked_loss.at_once], ids=["pieces", "at_once"])
def test_labels_that_do_not_count(reduction: str, grad_accum: int, chunks: chunked_loss.Differentiate) -> None:
    """They are in the first micro-batch alone, so a mean of means would be another loss."""
    fields = {"loss_reduction": reduction, "grad_accum": grad_accum, "ignored": 40}
    all_of_them = trained("fp32", None, **fields | {"ignored": 0})
    plain, found = trained("fp32", None, **fields), trained("fp32", chunks, **fields)
    assert abs(plain[0] / all_of_them[0] - 1) > 1e-4
    same("fp32", plain, found)


def test_fp16_gradients_have_the_scale_before_they_are_rounded() -> None:
    """Of a mean over 192 labels the gradient of a probable logit is 5e-3; of an improbable one it would be lost."""
    fields = {"optimizer": "sgd", "model": WIDE}
    exact = trained("fp32", None, **fields)
    found = trained("fp16", chunked_loss.in_pieces, **fields)
    lost = trained("fp16", chunked_loss.in_pieces, loss_reduction="sum", **fields)
    errors = [
        float((one[1]["head"] / factor - exact[1]["head"]).norm() / exact[1]["head"].norm())
        for one, factor in ((found, 1), (lost, 192))
    ]
    assert max(errors) < 3e-3


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16_master"])
@pytest.mark.parametrize(("tied", "grad_accum"), [(False, 1), (True, 4)])
def test_memory_is_what_is_said_and_less_than_with_all_logits(precision: str, tied: bool, grad_accum: int) -> None:
    """By torch's record of allocations."""
    params = TrainStepParams(model=WIDE | {"tied": tied}, batch=16, seq=64, grad_accum=grad_accum)
    peaks = []
    for chunks in (None, chunked_loss.in_pieces):
        trainer = Trainer(params, policy(precision), torch.device("cpu"), lambda f: f, 1, chunks=chunks)
        trainer.fill(Source(0), "normal", -4)
        trainer.run(0)
        trainer.optimizer.zero_grad(set_to_none=True)
        said = footprint(params, policy(precision), chunked=chunks is not None)
        found = said.weights + said.moments + peak_bytes(trainer.run)
        assert 0.98 * found <= said.peak <= 1.02 * found
        peaks.append(said.peak)
    assert peaks[1] < (0.5 if grad_accum == 1 else 0.9) * peaks[0]


@pytest.mark.parametrize("impl", ["torch+dequantize", "torch+dequantize+chunked"])
def test_memory_of_a_step_in_8_bits_is_what_is_said(impl: str) -> None:
    """Few words, so that what is made of operands on their way to 8 bits is more than a chunk's logits."""
    opened = session({"batch": 16, "seq": 64}, impl=impl, precision="fp8_row")
    trainer = opened._trainer
    trainer.run(0)
    trainer.optimizer.zero_grad(set_to_none=True)
    said = footprint(trainer.params, policy("fp8_row"), chunked="chunked" in impl)
    found = said.weights + said.moments + peak_bytes(trainer.run)
    assert 0.9 * found <= said.peak <= 1.1 * found


def test_a_case_asks_for_less_where_all_its_impls_have_chunks() -> None:
    plain, both, chunked = (
        WORKLOAD.memory(case({"model": WIDE, "seq": 512}, impl=impls))
        for impls in (["torch"], ["torch", "torch+chunked"], ["torch+chunked", "torch.compile+chunked"])
    )
    assert chunked < both == plain


@pytest.mark.parametrize("precision", ["fp32", "bf16_master", "bf16_autocast"])
def test_the_gate_passes_it(precision: str) -> None:
    opened = session(impl="torch+chunked", precision=precision)
    for generation in range(2):
        found = opened.check(generation)
        assert found.ok, found


@pytest.mark.parametrize("fault", ["share", "label"])
def test_the_gate_catches_wrong_chunks(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    honest = chunked_loss.in_pieces

    def wrong(logits: Tensor, labels: Tensor, shares: Tensor, factor: float) -> Tensor:
        if fault == "share":
            return honest(logits, labels, shares * (torch.arange(len(shares)) > 0)[:, None], factor)
        loss = honest(logits.clone(), labels, shares, 0.0)
        honest(logits, (labels + 1) % logits.shape[1], shares, factor)
        return loss

    monkeypatch.setattr(chunked_loss, "in_pieces", wrong)
    assert not session(impl="torch+chunked", precision="bf16_master").check(0).ok


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16_master"])
def test_compiled_chunks_are_those_of_the_eager_ones(precision: str) -> None:
    if reason := BACKEND.uncompilable():
        pytest.skip(reason)
    at_once = compiled(chunked_loss.at_once, BACKEND)
    same(precision, trained(precision, chunked_loss.in_pieces), trained(precision, at_once))


def test_devices_that_share_a_step_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = case(mode="shard", parallel="ddp", placement="node")
    monkeypatch.setattr(type(BACKEND), "world_of", lambda self, placement: 2)
    assert "not there yet for parallel ddp" in (WORKLOAD.impls()["torch+chunked"].unsupported(made, BACKEND) or "")
    assert WORKLOAD.impls()["torch"].unsupported(made, BACKEND) is None

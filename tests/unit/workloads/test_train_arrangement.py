"""Micro-batches and recomputation: the same mathematics and key, other columns, less memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from perwatt.accuracy import training, twin
from perwatt.backends.cpu import BACKEND, Cpu
from perwatt.errors import InputError
from perwatt.models.trainer import Trainer
from perwatt.results import project
from perwatt.runner import preflight
from perwatt.runner.ledger import Ledger, case_event, run_event
from perwatt.runner.part import Part
from perwatt.spec.case import Case, build
from perwatt.spec.data import Source
from perwatt.spec.precision import policy
from perwatt.workloads.train_memory import footprint
from perwatt.workloads.train_params import TrainStepParams
from perwatt.workloads.train_step import WORKLOAD

INLINE: dict[str, Any] = {"hidden": 64, "intermediate": 160, "layers": 3, "heads": 4, "kv_heads": 2, "vocab": 96}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def case(**params: Any) -> Case:
    return build({"workload": "train_step", "params": {"model": INLINE, "batch": 4, "seq": 16} | params})


def trainer(precision: str = "fp32", kind: type[Trainer] = Trainer, **params: Any) -> Trainer:
    asked = TrainStepParams(**{"model": INLINE, "batch": 4, "seq": 16} | params)
    made = kind(asked, policy(precision), CPU, lambda function: function, 1)
    made.fill(Source(0), "normal", -4)
    return made


@pytest.mark.parametrize("params", [{"grad_accum": 2}, {"recompute": "full"}, {"grad_accum": 4, "recompute": "full"}])
def test_the_key_stays_and_the_case_is_another(params: dict[str, Any]) -> None:
    assert case(**params).work == case().work
    assert case(**params).match_key == case().match_key
    assert case(**params).identity != case().identity
    assert case(**params).name != case().name
    assert build(case(**params).message()).identity == case(**params).identity


def test_a_suite_may_sweep_them(tmp_path: Any) -> None:
    from perwatt.spec import suite

    file = tmp_path / "s.yaml"
    file.write_text(
        "suite: s\ncases:\n  - workload: train_step\n    params: {model: llama-tiny, batch: 4, seq: 16}\n"
        "    sweep: {grad_accum: [1, 2], recompute: [none, full]}\n"
    )
    assert len({made.identity for made in suite.load(str(file)).cases}) == 4
    file.write_text(file.read_text().replace("[1, 2]", "[2, 2]"))
    with pytest.raises(InputError, match="duplicate case"):
        suite.load(str(file))


@pytest.mark.parametrize("count", [3, 8])
def test_micro_batches_of_different_sizes_are_refused(count: int) -> None:
    with pytest.raises(InputError, match="divisor of batch 4") as caught:
        case(grad_accum=count)
    assert caught.value.field == "params.grad_accum"


def test_columns_of_the_row() -> None:
    made, ledger = case(grad_accum=2, recompute="full"), Ledger()
    part = Part(case=made.identity, impl="torch", status="unsupported", error="for a test")
    run = run_event("r", "2026-01-01T00:00:00Z", {"name": "s", "digest": ""}, {"seed": 0}, BACKEND)
    for event in (run, case_event(made), {"event": "part", "part": part.message()}):
        ledger.apply(event)
    (row,) = project.rows(ledger)
    assert (row.micro_batch, row.grad_accum, row.recompute) == (2, 2, "full")


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("arrangement", [{"grad_accum": 4}, {"grad_accum": 2, "recompute": "full"}])
def test_the_loss_is_that_of_the_whole_batch(reduction: str, arrangement: dict[str, Any]) -> None:
    """With labels ignored unevenly: a mean of the micro-batches' means would be another number."""
    whole, parts = trainer(loss_reduction=reduction), trainer(loss_reduction=reduction, **arrangement)
    for subject in (whole, parts):
        subject.labels[0, 0] = -100
        subject.labels[0, 3, :5] = -100
    assert float(parts.backward(0)) == pytest.approx(float(whole.backward(0)), rel=1e-6)
    for name, gradient in parts.gradients().items():
        wanted = whole.gradients()[name]
        assert gradient is not None
        assert wanted is not None
        assert (gradient - wanted).norm() <= 1e-5 * wanted.norm(), name


def test_recomputing_changes_no_bit_of_the_gradients() -> None:
    plain, again = trainer("bf16"), trainer("bf16", recompute="full")
    assert torch.equal(plain.backward(0), again.backward(0))
    for name, gradient in again.gradients().items():
        wanted = plain.gradients()[name]
        assert gradient is not None
        assert wanted is not None
        assert torch.equal(gradient, wanted), name


class MeanOfMeans(Trainer):
    def loss(self, tokens: Tensor, labels: Tensor, counted: Tensor | None = None) -> Tensor:
        return super().loss(tokens, labels)


class LastOnly(Trainer):
    def _differentiated(self, *part: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        return super()._differentiated(*part)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("kind", "passes"), [(Trainer, True), (MeanOfMeans, False), (LastOnly, False)], ids=["honest", "means", "last"]
)
def test_the_gate_sees_how_gradients_are_added_up(kind: type[Trainer], passes: bool, precision: str) -> None:
    params = TrainStepParams(model=INLINE, batch=8, seq=64, grad_accum=8, recompute="full")
    small = twin.twin_of(params)
    assert (small.grad_accum, small.recompute) == (2, "full")
    subject = kind(small, policy(precision), CPU, lambda function: function, 4)
    assert training.examine(subject, policy(precision), 3).ok == passes


# Memory


def peak_of(subject: Trainer) -> int:
    """Bytes above what stands, at the peak of forward and backward, by the allocator's own count."""
    subject.run(0)
    subject.optimizer.zero_grad()
    gc.collect()  # what an earlier test left may not be freed while this one counts
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        subject.backward(0)
    changes = [(e.start_ns(), e.nbytes()) for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes):
        held += change
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16_master"])
@pytest.mark.parametrize(
    "arrangement", [{}, {"recompute": "full"}, {"grad_accum": 4}, {"grad_accum": 2, "recompute": "full"}]
)
def test_the_peak_is_the_allocators(arrangement: dict[str, Any], precision: str) -> None:
    subject = trainer(precision, seq=512, **arrangement)
    formula = footprint(subject.params, policy(precision))
    beside = formula.peak - formula.weights - formula.moments
    above = 1.09 if "recompute" in arrangement else 1.005  # a layer's backward pass has operands of its own
    assert beside <= peak_of(subject) <= above * beside


def test_recomputing_and_micro_batches_need_less() -> None:
    cuts: list[dict[str, Any]] = [{"grad_accum": 4, "recompute": "full"}, {"recompute": "full"}, {}]
    needs = [WORKLOAD.memory(case(seq=512, **cut)) for cut in cuts]
    assert needs == sorted(needs)
    assert needs[0] < needs[2] / 2


@pytest.mark.slow
def test_compiled_steps_can_be_cut_up() -> None:
    if reason := BACKEND.uncompilable():
        pytest.skip(reason)
    made = case(model=INLINE | {"layers": 1}, grad_accum=2, recompute="full")
    opened = WORKLOAD.open(made, WORKLOAD.impls()["torch.compile"], BACKEND, 0)
    assert opened.check(0).ok
    assert opened.path() == "inductor flash_cpu"


def test_each_of_several_devices_takes_its_sequences_and_no_larger_micro_batches() -> None:
    whole = case(batch=8, grad_accum=2)
    said = {world: case_event(replace(whole, placement="chip"), world)["arrangement"] for world in (1, 2, 4)}
    assert [(said[world]["micro_batch"], said[world]["grad_accum"]) for world in said] == [(4, 2), (4, 1), (2, 1)]
    assert TrainStepParams(model=INLINE, batch=12, seq=4, grad_accum=3).part(2).grad_accum == 2


@pytest.mark.parametrize(
    ("params", "parallel", "world", "words"),
    [
        ({"batch": 6}, "fsdp", 4, "a batch of 6 sequences cannot be spread over 4 devices, only over 1, 2, 3"),
        ({"optimizer": "muon"}, "fsdp", 2, "use parallel ddp"),
        ({"optimizer": "muon"}, "ddp", 2, None),
        ({"optimizer": "muon"}, "fsdp", 1, None),
    ],
)
def test_what_cannot_be_spread_is_told_before(
    params: dict[str, Any], parallel: str, world: int, words: str | None
) -> None:
    made = replace(case(**params), placement="chip", mode="shard", parallel=parallel)
    backend = Cpu()
    backend.devices = world
    reason = preflight.unsupported(made, "torch", backend, 1)
    assert reason is None if words is None else words in (reason or "")
    assert case_event(made, world)["arrangement"]["grad_accum"] == 1


def test_shards_need_less_memory_on_each_device_than_copies() -> None:
    needs = [
        WORKLOAD.memory(replace(case(batch=8), mode="shard", parallel=parallel), devices)
        for parallel, devices in (("fsdp", 1), ("ddp", 4), ("fsdp", 2), ("fsdp", 4))
    ]
    assert needs == sorted(needs, reverse=True)
    assert len(set(needs)) == len(needs)

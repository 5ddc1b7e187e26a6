"""optimizer_step: keys, counts, memory, impls, sessions, and faults that its gate has to catch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from perwatt.accuracy import optimizer_step as gate
from perwatt.backends.cpu import BACKEND
from perwatt.errors import InputError
from perwatt.models.updater import Updater
from perwatt.spec.case import Case, build
from perwatt.workloads.optimizer_step import WORKLOAD, OptimizerStepSession

INLINE: dict[str, Any] = {"hidden": 64, "intermediate": 80, "layers": 2, "heads": 4, "kv_heads": 2, "vocab": 100}
OPTIMIZERS = ("adamw", "sgd", "muon")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def case(precision: str = "fp32", **params: Any) -> Case:
    return build({"workload": "optimizer_step", "params": {"model": INLINE} | params, "precision": precision})


def session(precision: str = "fp32", impl: str = "torch", **params: Any) -> OptimizerStepSession:
    return WORKLOAD.open(case(precision, **params), WORKLOAD.impls()[impl], BACKEND, 0)


# Keys and bad input


@pytest.mark.parametrize(
    "params",
    [
        {"optimizer": "sgd"}, {"optimizer": "muon"}, {"lr": 1e-3}, {"betas": (0.9, 0.99)}, {"eps": 1e-6},
        {"weight_decay": 0.0}, {"decay": "all"}, {"layers": 1}, {"model": INLINE | {"vocab": 101}},
    ],
)  # fmt: skip
def test_what_changes_the_work_changes_the_key(params: dict[str, Any]) -> None:
    assert case(**params).match_key != case().match_key


def test_a_named_model_and_its_shape_have_one_key() -> None:
    shape = {"hidden": 256, "intermediate": 688, "layers": 4, "heads": 4, "vocab": 4096}
    assert case(model="llama-tiny").match_key == case(model=shape).match_key
    assert "momentum" not in json.dumps(case().work)
    assert case(optimizer="muon").work["params"]["orthogonalized"] == "weights of layers, apart"


def test_a_message_makes_the_same_case_again() -> None:
    for optimizer in OPTIMIZERS:
        made = case(optimizer=optimizer, layers=1)
        assert build(json.loads(json.dumps(made.message()))).work == made.work


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"params": {"optimizer": "sgd", "eps": 1e-3}}, "params.eps", "sgd has no eps"),
        ({"params": {"optimizer": "adamw", "ns_steps": 3}}, "params.ns_steps", "adamw has no ns_steps"),
        ({"params": {"lr": -1}}, "params.lr", "-1"),
        ({"params": {"betas": [0.9, 1.5]}}, "params.betas[1]", "1.5"),
        ({"params": {"nesterov": 1.5}}, "params.nesterov", "1.5"),
        ({"params": {"clip": 1.0}}, "params.clip", "clip"),
        ({"params": {"model": "llama-tinny"}}, "params.model", "llama-tiny"),
        ({"params": {"layers": 9}}, "params.layers", "at most"),
        ({"pass": "fwd"}, "pass", "step"),
        ({"impl": ["eager"]}, "impl[0]", "torch"),
        (
            {"workload": "gemm", "params": {"m": 1, "n": 1, "k": 1, "optimizer": "adamw"}},
            "params.optimizer",
            "optimizer",
        ),
        ({"workload": "train_step", "params": {"batch": 1, "seq": 8}, "pass": "fwd"}, "pass", "step"),
    ],
)
def test_bad_input_is_one_line_with_its_field(fields: dict[str, Any], field: str, words: str) -> None:
    model = {} if fields.get("workload") == "gemm" else {"model": INLINE}
    given = {"workload": "optimizer_step"} | fields | {"params": model | fields.get("params", {})}
    with pytest.raises(InputError) as caught:
        build(given)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# Counts, memory, what cannot be done


@pytest.mark.parametrize(
    ("optimizer", "precision", "per_parameter"),
    [
        ("adamw", "fp32", 28),
        ("adamw", "bf16_master", 28),
        ("adamw", "bf16", 14),
        ("sgd", "fp32", 12),
        ("sgd", "bf16", 6),
    ],
)
def test_bytes_by_hand(optimizer: str, precision: str, per_parameter: int) -> None:
    made = case(precision, optimizer=optimizer)
    counts = WORKLOAD.counts(made.params, "step", made.precision)
    assert counts.bytes == per_parameter * made.params.shape.parameters  # type: ignore[attr-defined]
    assert (counts.flops, counts.tokens, counts.per_layer) == (None, None, False)


def test_muon_has_no_formula_of_bytes_and_cut_models_say_so() -> None:
    made = case(optimizer="muon", layers=1)
    counts = WORKLOAD.counts(made.params, "step", made.precision)
    assert (counts.bytes, counts.per_layer) == (None, True)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tied", [False, True])
def test_memory_is_that_of_the_tensors(optimizer: str, precision: str, tied: bool) -> None:
    opened = session(precision, optimizer=optimizer, model=INLINE | {"tied": tied})
    opened.run(0)
    updater = opened._updater
    tensors = [t for p in updater.model.parameters() for t in (p, p.grad) if t is not None]
    tensors += [t for held in updater.optimizer.state.values() for t in held.values() if isinstance(t, torch.Tensor)]
    held = sum(t.nbytes for t in tensors if t.dim() > 0)
    assert held == WORKLOAD.memory(opened._case)


@pytest.mark.parametrize(
    ("precision", "impl", "params", "words"),
    [
        ("bf16", "fused", {"optimizer": "sgd"}, "191763"),
        ("fp32", "foreach", {"optimizer": "muon"}, "one form"),
        ("fp32", "torch.compile", {"optimizer": "muon"}, "one form"),
        ("fp16", "for-loop", {}, "zero in fp16"),
        ("bf16", "torch", {"optimizer": "muon", "nesterov": False}, "nesterov"),
        ("bf16", "torch", {"moments": "fp32"}, "moments"),
        ("bf16_sr", "torch", {}, "bf16_sr"),
    ],
)
def test_what_cannot_be_done_has_a_reason(precision: str, impl: str, params: dict[str, Any], words: str) -> None:
    made, offered = case(precision, **params), WORKLOAD.impls()[impl]
    assert words in (offered.unsupported(made, BACKEND) or "")


# Sessions

HONEST = [
    (precision, impl, optimizer)
    for precision in ("fp32", "bf16", "fp16", "bf16_master")
    for impl in ("torch", "fused", "foreach", "for-loop")
    for optimizer in OPTIMIZERS
    if WORKLOAD.unsupported(case(precision, optimizer=optimizer), WORKLOAD.impls()[impl], BACKEND) is None
]


@pytest.mark.parametrize(("precision", "impl", "optimizer"), HONEST)
def test_honest_impls_pass_before_and_after_timing(precision: str, impl: str, optimizer: str) -> None:
    opened = session(precision, impl, optimizer=optimizer)
    opened.run(0)
    before = opened.check(0)
    assert before.ok, before
    gradient = opened._updater.gradients()["layers.0.q"].clone()  # type: ignore[union-attr]
    for _ in range(20):
        opened.run(0)
    after = opened.check(1)
    assert after.ok, after
    assert not torch.equal(gradient, opened._updater.gradients()["layers.0.q"])  # type: ignore[arg-type]
    assert opened._updater.lr == 1e-4


@pytest.mark.parametrize(
    ("precision", "impl", "optimizer", "path"),
    [
        ("fp32", "torch", "adamw", "fused"), ("bf16", "torch", "sgd", "foreach"), ("fp32", "torch", "sgd", "fused"),
        ("fp32", "for-loop", "adamw", "for-loop"),
        ("fp32", "foreach", "adamw", "foreach"), ("fp32", "torch", "muon", "for-loop fused"),
    ],
)  # fmt: skip
def test_the_path_is_the_form_that_ran(precision: str, impl: str, optimizer: str, path: str) -> None:
    opened = session(precision, impl, optimizer=optimizer)
    opened.run(0)
    assert opened.path() == path


def test_inputs_follow_the_seed() -> None:
    assert session().input_digest == session().input_digest == "8364ad693aa615a3"
    other = WORKLOAD.open(case(), WORKLOAD.impls()["torch"], BACKEND, 1)
    assert other.input_digest != session().input_digest
    weights = [t for t in session()._updater.weights().values() if t.dim() == 2]
    assert all(0.01 < float(w.std()) < 0.03 for w in weights)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_thousands_of_steps_stay_finite(optimizer: str, precision: str) -> None:
    small = INLINE | {"hidden": 16, "intermediate": 16, "layers": 1, "vocab": 16}
    opened = session(precision, optimizer=optimizer, model=small)
    for _ in range(1000):
        opened.run(0)
    assert all(t.isfinite().all() for t in opened._updater.weights().values())
    assert opened.check(1).ok


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_case_of_zeros_can_be_asked_for(optimizer: str) -> None:
    made = build({"workload": "optimizer_step", "params": {"model": INLINE, "optimizer": optimizer}, "data": "zeros"})
    opened = WORKLOAD.open(made, WORKLOAD.impls()["torch"], BACKEND, 0)
    assert opened.check(0).ok


@pytest.mark.slow
def test_the_compiled_step_passes_and_compiles_nothing_later() -> None:
    if reason := BACKEND.uncompilable():
        pytest.skip(reason)
    opened = session("bf16", "torch.compile", layers=1)
    opened.run(0)
    assert opened.check(0).ok
    opened.run(0)
    guards = BACKEND.guards()
    opened.run(0)
    assert opened.check(1).ok
    assert BACKEND.guards() == guards
    assert opened.path() == "inductor"


# Faults

Fault = Callable[[Updater], None]


def groups(**changes: Any) -> Fault:
    def spoil(updater: Updater) -> None:
        for group in updater.optimizer.param_groups:
            group.update({name: value for name, value in changes.items() if name in group})

    return spoil


def decay_of_vectors(updater: Updater) -> None:
    updater.optimizer.param_groups[-1]["weight_decay"] = 0.1


def around(after: Callable[[Updater], None], before: Callable[[Updater], Any] = lambda updater: None) -> Fault:
    """Something done by every step."""

    def spoil(updater: Updater) -> None:
        honest = updater.optimizer.step

        def step() -> None:
            before(updater)
            honest()
            after(updater)

        updater.optimizer.step = step  # type: ignore[method-assign,assignment]

    return spoil


def uncorrected(updater: Updater) -> None:
    """Bias correction as of a late step."""
    for held in updater.optimizer.state.values():
        held["step"].fill_(1e6)


def stale_moment(updater: Updater) -> None:
    """One moment that is never written."""
    second = updater.moments("second")
    if second:
        second["layers.1.o"].fill_(1e-3)


def skipped(which: Callable[[Updater], torch.Tensor]) -> Fault:
    kept: dict[str, torch.Tensor] = {}

    def before(updater: Updater) -> None:
        kept["old"] = which(updater).detach().clone()

    def after(updater: Updater) -> None:
        with torch.no_grad():
            which(updater).copy_(kept["old"])

    return around(after, before)


def nan_weight(updater: Updater) -> None:
    updater.weights()["layers.1.up"].view(-1)[1234] = math.nan


def nan_moment(updater: Updater) -> None:
    held = list(updater.moments("first").values())
    held[0].view(-1)[4321 % held[0].numel()] = math.nan


ADAMW: dict[str, Fault] = {
    "first beta": groups(betas=(0.8, 0.95)),
    "second beta": groups(betas=(0.9, 0.99)),
    "eps": groups(eps=1e-4),
    "no decay": groups(weight_decay=0.0),
    "decay of vectors": decay_of_vectors,
    "learning rate": groups(lr=2e-4),
    "no bias correction": around(lambda updater: None, uncorrected),
    "stale moment": around(stale_moment),
    "NaN in a weight": around(nan_weight),
    "NaN in a moment": around(nan_moment),
    "one tensor skipped": skipped(lambda updater: updater.weights()["layers.1.down"]),
    "one vector skipped": skipped(lambda updater: updater.weights()["norm"]),
    "one stored part skipped": skipped(lambda updater: updater.weights()["layers.0.k"]),
    "nothing done": lambda updater: setattr(updater.optimizer, "step", lambda: None),
}


@pytest.mark.parametrize("large", [False, True], ids=["whole", "chosen"])
@pytest.mark.parametrize("fault", ADAMW.values(), ids=ADAMW)
def test_faults_of_adamw_are_caught(fault: Fault, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr(gate, "WHOLE", 0)
        monkeypatch.setattr(gate, "SOME", 64)
    opened = session(betas=(0.9, 0.95), precision="fp32")
    opened.run(0)
    assert opened.check(0).ok
    fault(opened._updater)
    assert not opened.check(1).ok


VISIBLE = ("first beta", "second beta", "no bias correction", "stale moment", "NaN in a weight", "one tensor skipped")


@pytest.mark.parametrize("fault", VISIBLE)
def test_faults_are_caught_in_bf16(fault: str) -> None:
    opened = session("bf16")
    opened.run(0)
    ADAMW[fault](opened._updater)
    assert not opened.check(1).ok


MUON: dict[str, Fault] = {
    "fewer steps": groups(ns_steps=4),
    "more steps": groups(ns_steps=6),
    "momentum": groups(momentum=0.9),
    "no look-ahead": groups(nesterov=False),
    "adjustment": groups(adjust_lr_fn="original"),
    "no decay": groups(weight_decay=0.0),
    "betas of the rest": groups(betas=(0.8, 0.95)),
    "NaN in a weight": around(nan_weight),
    "one part skipped": skipped(lambda updater: updater.weights()["layers.0.v"]),
}
ON_THE_SURFACE = {"momentum", "adjustment", "betas of the rest", "NaN in a weight", "one part skipped"}


@pytest.mark.parametrize("fault", MUON)
def test_faults_of_muon_are_caught(fault: str) -> None:
    opened = session(optimizer="muon")
    opened.run(0)
    assert opened.check(0).ok
    MUON[fault](opened._updater)
    assert not opened.check(1).ok


@pytest.mark.parametrize("fault", sorted(ON_THE_SURFACE))
def test_faults_of_muon_show_where_only_one_matrix_is_followed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "WHOLE", 0)
    monkeypatch.setattr(gate, "PRODUCTS", 0.0)
    opened = session(optimizer="muon")
    opened.run(0)
    assert opened.check(0).ok
    MUON[fault](opened._updater)
    assert not opened.check(1).ok


@pytest.mark.parametrize("fault", ["no decay", "learning rate", "one tensor skipped", "nothing done"])
def test_faults_of_sgd_are_caught(fault: str) -> None:
    opened = session(optimizer="sgd")
    opened.run(0)
    ADAMW[fault](opened._updater)
    assert not opened.check(1).ok

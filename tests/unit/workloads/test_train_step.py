"""train_step: a session from end to end."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fakes.families import FAMILIES
from perwatt.backends.cpu import BACKEND
from perwatt.models.trainer import Trainer
from support.training import INLINE, session

pytestmark = pytest.mark.usefixtures("one_thread")


def test_session_from_end_to_end() -> None:
    opened = session()
    losses = [opened.run(slot) for slot in (0, 1, 2, 3, 0)]
    assert opened.slots == 4
    assert all(isinstance(loss, torch.Tensor) and not loss.requires_grad for loss in losses)
    assert float(losses[4]) < float(losses[0])  # type: ignore[arg-type]
    before, after = opened.check(0), opened.check(1)
    assert before.ok, before
    assert after.ok, after
    assert before.rel_err != after.rel_err, "the second check has inputs of its own"
    assert opened.path() == "flash_cpu"
    opened.close()


@pytest.mark.parametrize(
    ("family", "path"), [("mixtral", "flash_cpu"), ("mpt", "flash_cpu"), ("gemma2", "written_out")]
)
def test_sessions_of_families(family: str, path: str) -> None:
    opened = session({"model": FAMILIES[family], "seq": 20}, precision="bf16_master")
    assert float(opened.run(0)) > float(opened.run(0))  # type: ignore[arg-type]
    result = opened.check(0)
    assert result.ok, result
    assert opened.flags == ()
    assert opened.path() == path


def test_weights_and_tokens_are_recorded() -> None:
    assert session({"model": "llama-tiny"}).input_digest == "5fdf36d0a2be3afe"
    assert session(seed=1).input_digest != session(seed=0).input_digest


def test_the_gate_leaves_the_batches_alone() -> None:
    opened = session()
    tokens = opened._trainer.tokens.clone()
    opened.check(0)
    assert torch.equal(opened._trainer.tokens, tokens)
    assert all(gradient is None for gradient in opened._trainer.gradients().values())


def test_nan_in_the_timed_model_is_caught() -> None:
    opened = session()
    opened.run(0)
    opened._trainer.moments("first")["layers.1.up"][3, 4] = float("nan")
    result = opened.check(1)
    assert not result.ok
    assert "layers.1.up" in result.detail


def test_nan_in_a_timed_weight_is_caught() -> None:
    opened = session()
    opened._trainer.weights()["embedding"][-1, 0] = float("nan")
    assert not opened.check(1).ok


def test_zero_weights_can_be_asked_for() -> None:
    opened = session(data="zeros")
    assert not opened._trainer.weights()["layers.0.q"].any()
    assert opened.check(0).ok


def test_full_size_gate_is_left_out_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = session()
    small = dataclasses.replace(BACKEND.describe(), memory_bytes=1e5)
    monkeypatch.setattr(type(BACKEND), "describe", lambda self: small)
    assert opened.check(0).ok
    assert opened.check(1).ok
    assert opened.flags == ("gate_reduced",)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_many_steps_at_the_default_rate_stay_finite(precision: str) -> None:
    opened = session({"model": INLINE | {"vocab": 64}}, precision=precision)
    for step in range(200):
        loss = opened.run(step % 4)
    assert torch.isfinite(loss)
    assert opened.check(1).ok


def test_compiled_sessions_have_code_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo stops compiling one code object after eight times, and says so in a warning only."""
    monkeypatch.setattr(type(BACKEND), "compile", lambda self, function: function)
    first, second = (session(impl="torch.compile") for _ in range(2))
    codes = [opened._trainer._loss.__func__.__code__ for opened in (first, second)]
    assert codes[0] is not codes[1]
    assert codes[0] is not Trainer.loss.__code__
    assert float(first.run(0)) == float(second.run(0)) == float(session().run(0))  # type: ignore[arg-type]


@pytest.mark.slow
def test_compiled_session_from_end_to_end() -> None:
    if reason := BACKEND.uncompilable():
        pytest.skip(reason)
    opened = session({"model": INLINE | {"layers": 1}}, impl="torch.compile")
    first = float(opened.run(0))  # type: ignore[arg-type]
    assert float(opened.run(0)) < first  # type: ignore[arg-type]
    assert opened.check(0).ok
    assert opened.path() == "inductor flash_cpu"


def test_a_session_in_fp16_from_end_to_end() -> None:
    opened = session({"optimizer": "sgd", "lr": 1e-2, "grad_accum": 2}, precision="fp16")
    losses = [float(opened.run(0)) for _ in range(4)]
    assert losses[-1] < losses[0]
    assert opened.check(0).ok
    assert all(w.dtype == torch.float16 for w in opened._trainer.weights().values())

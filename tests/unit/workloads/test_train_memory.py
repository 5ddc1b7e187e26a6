"""train_step: how much memory a step is said to take, against what it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from perwatt.backends.cpu import BACKEND
from perwatt.models.trainer import Trainer
from perwatt.spec.data import Source
from perwatt.spec.precision import policy
from perwatt.workloads.compiled import compiled
from perwatt.workloads.train_memory import footprint
from perwatt.workloads.train_params import TrainStepParams
from perwatt.workloads.train_step import WORKLOAD
from support.memory import peak_bytes
from support.training import INLINE, MODELS, case

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("precision", "model"),
    [(precision, name) for precision in ("fp32", "bf16", "bf16_master") for name in MODELS]
    + [("bf16_autocast", "llama")],
)
def test_activations_are_what_autograd_saves(precision: str, model: str) -> None:
    """What is left out are a norm's one or two numbers a row and the weights of norms cast for products."""
    params = TrainStepParams(model=MODELS[model] | {"hidden": 96, "head_dim": 16}, batch=2, seq=32)
    trainer = Trainer(params, policy(precision), torch.device("cpu"), lambda function: function, 1)
    trainer.fill(Source(0), "normal", -4)
    standing = [*trainer.model.parameters(), *trainer.model.buffers(), trainer.tokens, trainer.labels]
    own = {tensor.untyped_storage().data_ptr() for tensor in standing}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16_autocast"):
        loss = trainer.loss(trainer.tokens[0], trainer.labels[0])
    kept = sum(storage.nbytes() for storage in saved.values())
    formula = footprint(params, policy(precision))
    log_softmax = formula.logits / 3
    assert loss.isfinite()
    assert 0.98 * kept <= formula.activations + log_softmax <= kept
    masks = {
        t.untyped_storage().data_ptr(): t
        for t in (trainer.model.places.whole, trainer.model.places.near)
        if t is not None
    }
    assert formula.masks == sum(mask.nbytes for mask in masks.values())


def test_memory_by_hand() -> None:
    """16 bytes a parameter with AdamW in fp32, and three fp32 copies of the logits when the backward pass starts."""
    params = TrainStepParams(model=INLINE, batch=1, seq=1)
    found = footprint(params, policy("fp32"))
    assert found.weights + found.moments + found.gradients == 16 * params.shape.parameters
    assert found.logits == 3 * 4 * 300
    assert footprint(params.model_copy(update={"optimizer": "sgd"}), policy("fp32")).moments == 0


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tied", [False, True])
def test_moments_are_what_the_optimizer_holds(optimizer: str, precision: str, tied: bool) -> None:
    params = TrainStepParams(model=INLINE | {"tied": tied}, batch=1, seq=8, optimizer=optimizer)
    trainer = Trainer(params, policy(precision), torch.device("cpu"), lambda function: function, 1)
    trainer.fill(Source(0), "normal", -4)
    trainer.run(0)
    tensors = (t for held in trainer.optimizer.state.values() for t in held.values() if isinstance(t, torch.Tensor))
    assert sum(t.nbytes for t in tensors if t.dim() > 0) == footprint(params, policy(precision)).moments


@pytest.mark.parametrize(
    ("params", "fits"),
    [
        ({"model": "llama-3-8b", "batch": 1, "seq": 1}, False),
        ({"model": "llama-3-8b", "batch": 1, "seq": 1, "layers": 1}, True),
        ({"model": "llama-3.2-1b", "batch": 1, "seq": 128}, True),
        ({"model": "llama-3.2-1b", "batch": 8, "seq": 4096}, False),
        ({"model": "llama-tiny", "batch": 4, "seq": 128}, True),
        ({"model": "llama-tiny", "batch": 2**20, "seq": 2**24}, False),
        ({"model": "gpt2-124m", "batch": 8, "seq": 1024}, True),
        ({"model": "mixtral-8x7b", "batch": 1, "seq": 16, "layers": 1}, False),  # 1.7 billion parameters x 16 bytes
        ({"model": "mpt-7b", "batch": 1, "seq": 2048, "layers": 2}, True),
        ({"model": "gemma-2-9b", "batch": 1, "seq": 4096, "layers": 2}, False),  # the vocabulary alone has 0.9 billion
    ],
)
def test_memory_tells_what_fits_into_24_gb(params: dict[str, Any], fits: bool) -> None:
    assert (WORKLOAD.memory(case(params)) <= 24e9) == fits


def test_compiled_code_is_asked_for_less() -> None:
    eager, both, compiled = (
        WORKLOAD.memory(case({"seq": 512}, impl=impls))
        for impls in (["torch"], ["torch", "torch.compile"], ["torch.compile"])
    )
    assert compiled < eager == both


LARGER = INLINE | {"hidden": 128, "intermediate": 352, "vocab": 1000}


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tied"), [("fp32", False), ("fp32", True), ("bf16_master", False)])
def test_a_compiled_step_takes_what_is_said(precision: str, tied: bool) -> None:
    """By torch's record of allocations, as of eager steps: neither refused without need nor out of memory."""
    if reason := BACKEND.uncompilable():
        pytest.skip(reason)
    torch.compiler.reset()
    params = TrainStepParams(model=LARGER | {"tied": tied}, batch=16, seq=32)
    trainer = Trainer(params, policy(precision), torch.device("cpu"), lambda f: compiled(f, BACKEND), 1)
    trainer.fill(Source(0), "normal", -4)
    trainer.run(0)  # compiles, and makes the optimizer's state
    trainer.optimizer.zero_grad(set_to_none=True)
    said = footprint(params, policy(precision), compiled=True)
    found = said.weights + said.moments + peak_bytes(trainer.run)
    assert 0.97 * found <= said.peak <= 1.03 * found

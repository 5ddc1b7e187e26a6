"""What ranks do in tests of a spread training step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from perwatt.accuracy import training, twin
from perwatt.models.spread import Alone, Copies, Shards
from perwatt.models.trainer import Trainer
from perwatt.spec.data import Source
from perwatt.spec.precision import policy
from perwatt.workloads.train_params import TrainStepParams

TINY: dict[str, Any] = {"hidden": 64, "intermediate": 160, "layers": 3, "heads": 4, "kv_heads": 2, "vocab": 96}
TIED = {
    "hidden": 33,
    "intermediate": 45,
    "layers": 2,
    "heads": 3,
    "kv_heads": 3,
    "head_dim": 10,
    "vocab": 97,
    "tied": True,
}
MOE = TINY | {"experts": 3, "experts_per_token": 2}
LAYOUTS: dict[str, type[Copies]] = {"fsdp": Shards, "ddp": Copies}
SHARED = ("accumulated", "ignored", "summed")  # cases that copies are tried on as well: their model is an ordinary one
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"grad_accum": 4},
    "recomputed": {"recompute": "full", "grad_accum": 2},
    "uneven": {"model": TIED},
    "experts": {"model": MOE},
    "ignored": {"ignore_index": 7},
    "summed": {"loss_reduction": "sum", "clip": 0.0, "optimizer": "sgd", "lr": 1e-4},
}
STEPS = 3
CPU = torch.device("cpu")


class Forgetful(Copies):
    """Data parallel that never sends a gradient."""

    def forward(self, model: Any) -> Any:
        return model


def trainer(spread: Alone, precision: str = "fp32", build: Any = lambda f: f, **params: Any) -> Trainer:
    asked = TrainStepParams(**{"model": TINY, "batch": 8, "seq": 16} | params)
    return Trainer(asked, policy(precision), CPU, build, 2, spread)


def steps(made: Trainer) -> dict[str, Any]:
    """Losses, first gradients, last weights and digest, each over all ranks."""
    source = Source(0)
    made.fill(source, "normal", -4)
    losses, gradients = [], {}
    for step in range(STEPS):
        losses.append(float(made.spread.total(made.backward(step % 2))))
        if step == 0:
            gradients = {name: listed(g) for name, g in made.each_gradient() if g is not None}
        made.update()
    weights = {name: listed(w) for name, w in made.each_weight()}
    moments = {name: listed(m) for name, m in made.each_moment("first")}
    return {"losses": losses, "gradients": gradients, "weights": weights, "moments": moments, "digest": source.digest()}


def listed(tensor: Tensor) -> list[float]:
    found: list[float] = tensor.detach().double().flatten().tolist()
    return found


def compiled(function: Any) -> Any:
    return torch.compile(function, dynamic=False, backend="aot_eager")


def work(rank: int, world: int) -> dict[str, Any]:
    """All of it, by what was done."""
    found: dict[str, Any] = {}
    for layout, kind in LAYOUTS.items():
        for name in CASES if layout == "fsdp" else SHARED:
            found[f"{layout} {name}"] = steps(trainer(kind(rank, world), **CASES[name]))
        for precision in ("bf16", "bf16_master"):
            found[f"{layout} {precision}"] = steps(trainer(kind(rank, world), precision))
        found[f"{layout} compiled"] = steps(trainer(kind(rank, world), build=compiled))
        for precision in ("fp32", "bf16_master"):
            found[f"{layout} gate {precision}"] = gate(kind, rank, world, precision)
        found[f"{layout} held"] = held(kind(rank, world))
    found["forgetful"] = gate(Forgetful, rank, world, "fp32")
    return found


def gate(kind: type[Copies], rank: int, world: int, precision: str) -> dict[str, Any]:
    """What the gate says of the twin, and of the real model."""
    real = trainer(kind(rank, world), precision, grad_accum=4)
    real.fill(Source(0), "normal", -4)
    small = Trainer(twin.twin_of(real.params, world), policy(precision), CPU, lambda f: f, 4, kind(rank, world))
    results = [training.examine(small, policy(precision), 1)]
    results += training.full_size(real, Source(5), policy(precision))
    return {"ok": all(one.ok for one in results), "why": [one.detail for one in results if not one.ok],
            "errors": [one.rel_err for one in results]}  # fmt: skip


def held(spread: Alone) -> int:
    """Numbers of parameters that this rank holds between steps."""
    made = trainer(spread)
    made.fill(Source(0), "normal", -4)
    made.run(0)
    return sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in made.parameters)

"""The optimizers of torch behind a training step, in the forms that torch has of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from perwatt.models.muon import Muon
from perwatt.workloads.optimizer_params import FUSED_ON

if TYPE_CHECKING:
    from perwatt.models.decoder import Decoder
    from perwatt.workloads.optimizer_params import OptimizerParams

FORMS: dict[str, dict[str, bool]] = {
    "fused": {"fused": True},
    "foreach": {"foreach": True},
    "for-loop": {"foreach": False},
}
"""What torch's optimizers are told: one kernel for everything, lists of tensors, or tensor after tensor; best first."""
PROBE = 64  # extent of the matrix that a form is tried on: enough for vectorized loops

AnyOptimizer = torch.optim.Optimizer | Muon


def make_optimizer(params: OptimizerParams, model: Decoder, form: str = "") -> AnyOptimizer:
    """The optimizer over the parameters of a model.

    Args:
        params: its constants. With ``decay: matrices`` only tensors of two dimensions or more decay.
        model: whose parameters it updates.
        form: one of :data:`FORMS`, else the best one that works. Muon itself has one only, tensor after tensor.
    """
    everything = list(model.parameters())
    if params.optimizer != "muon":
        return _over(everything, params, params.optimizer, form)
    hidden = _hidden(model)
    rest = _over([p for p in everything if id(p) not in hidden], params, "adamw", form)
    return Muon(params, model, hidden, rest)


def _hidden(model: Decoder) -> set[int]:
    """Ids of the stored parameters that hold matrices of layers; not of those that hold embedding, head or vectors."""
    weights = model.tensors(lambda parameter: parameter.detach())
    matrices = (w for name, w in weights.items() if w is not None and w.dim() == 2 and name.startswith("layers."))
    held = {weight.untyped_storage().data_ptr() for weight in matrices}
    return {id(p) for p in model.parameters() if p.untyped_storage().data_ptr() in held}


def forget(optimizer: AnyOptimizer) -> None:
    """Set the state back to that before the first step, in place: what was compiled around it stays valid."""
    for held in optimizer.state.values():
        for tensor in held.values():
            if isinstance(tensor, torch.Tensor):
                tensor.zero_()


def moments(
    optimizer: AnyOptimizer, model: Decoder, which: str, whole: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    """``first`` or ``second`` moments by weight; none before the first step, and none for SGD.

    Args:
        optimizer: that keeps them.
        model: whose weights they are of.
        which: of the two.
        whole: makes all of a moment that is spread over ranks; its views are given.
    """
    keys = {"first": ("exp_avg", "momentum_buffer"), "second": ("exp_avg_sq",)}[which]
    state = optimizer.state

    def of(updated: torch.Tensor) -> torch.Tensor | None:
        held = state.get(updated, {})
        return next((whole(held[key]) for key in keys if key in held), None)

    own = optimizer.weights if isinstance(optimizer, Muon) else {}
    found = chain(model.each(of), ((name, of(weight)) for name, weight in own.items()))
    yield from ((name, moment) for name, moment in found if moment is not None)


def best_form(name: str, device: torch.device, storage: torch.dtype, mesh: DeviceMesh | None = None) -> str:
    """The first of :data:`FORMS` that works."""
    return next(form for form in FORMS if why_not(name, form, device, storage, mesh) is None)


@cache
def why_not(
    name: str, form: str, device: torch.device, storage: torch.dtype, mesh: DeviceMesh | None = None
) -> str | None:
    """Why an optimizer has no such form on a device, seen by one step of it on a small matrix; None if it has.

    Fused SGD on CPUs leaves 16-bit parameters as they were (pytorch/pytorch#191763, torch up to 2.13). Over the devices
    of a mesh, where parameters are cut by rows, torch has no fused SGD at all.
    """
    if form == "fused" and device.type not in FUSED_ON:
        return f"torch has no fused {name} on {device.type} (it has on {' and '.join(FUSED_ON)})"
    own = torch.ones(PROBE, PROBE, device=device, dtype=storage)
    tried = torch.nn.Parameter(own if mesh is None else DTensor.from_local(own, mesh, [Shard(0)]))
    tried.grad = torch.ones_like(tried)
    try:
        _kind(name)([tried], lr=0.5, **FORMS[form]).step()
    except (RuntimeError, NotImplementedError) as error:
        return f"{name} has no {form} form on {device.type}: {str(error).splitlines()[0]}"
    wrong = int((own.float() - 0.5).abs().gt(0.1).sum())
    return f"{form} {name} leaves {storage} parameters as they were on {device.type}" if wrong else None


def _over(parameters: list[torch.nn.Parameter], params: OptimizerParams, name: str, form: str) -> torch.optim.Optimizer:
    first = parameters[0].data
    mesh = first.device_mesh if isinstance(first, DTensor) else None
    chosen = FORMS[form or best_form(name, first.device, first.dtype, mesh)]
    spared = 0.0 if params.decay == "matrices" else params.weight_decay
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": params.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": spared},
    ]
    own: dict[str, Any] = {} if name == "sgd" else {"betas": params.betas, "eps": params.eps}
    made: torch.optim.Optimizer = _kind(name)(groups, lr=params.lr, **own, **chosen)
    return made


def _kind(name: str) -> Any:
    return {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[name]

"""Muon over the hidden matrices of a model and AdamW over the rest, behind the face of one torch optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from perwatt.models.decoder import Decoder
    from perwatt.workloads.optimizer_params import OptimizerParams


class Muon:
    """``torch.optim.Muon`` for each weight by itself, although the model stores some of them together.

    Orthogonalizing queries, keys and values as one matrix is other mathematics than each apart, and larger products. A
    weight's part of a stored matrix is a block of rows, so a view of it is as good an operand as a matrix of its own:
    nothing is copied, and what this costs is one view for each weight and step on the host.

    Args:
        params: constants of both optimizers.
        model: whose stored parameters hold the weights.
        hidden: ids of the stored parameters that Muon updates.
        rest: updates all others.

    Attributes:
        weights: what Muon updates by name, as views of the stored parameters.
    """

    def __init__(self, params: OptimizerParams, model: Decoder, hidden: set[int], rest: torch.optim.Optimizer) -> None:
        self._model, self._hidden, self._rest = model, hidden, rest
        self.weights = self._cut(lambda parameter: parameter.detach())
        self._muon = torch.optim.Muon(
            list(self.weights.values()),
            lr=params.lr,
            weight_decay=params.weight_decay,
            momentum=params.momentum,
            nesterov=params.nesterov,
            ns_coefficients=params.ns_coefficients,
            eps=params.ns_eps,
            ns_steps=params.ns_steps,
            adjust_lr_fn=params.lr_adjust,
        )

    def _cut(self, of: Callable[[Tensor], Tensor | None]) -> dict[str, Tensor]:
        found = self._model.tensors(lambda parameter: of(parameter) if id(parameter) in self._hidden else None)
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def step(self) -> None:
        """One step of both from the gradients of the model's parameters; those without one stay as they are."""
        gradients = self._cut(lambda parameter: parameter.grad)
        for name, weight in self.weights.items():
            weight.grad = gradients.get(name)
        self._muon.step()
        self._rest.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients; the views of them too, or they would keep their memory."""
        for weight in self.weights.values():
            weight.grad = None
        self._model.zero_grad(set_to_none)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of both optimizers."""
        return [*self._muon.param_groups, *self._rest.param_groups]

    @property
    def state(self) -> dict[Tensor, Any]:
        """Of both optimizers, by stored parameter or by the view of a weight, in a new dictionary."""
        return {**self._muon.state, **self._rest.state}

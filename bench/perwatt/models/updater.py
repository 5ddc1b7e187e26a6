"""The optimizer's step by itself: a model's parameters with fixed gradients, and no forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perwatt.models.decoder import Decoder
from perwatt.models.formats import Formats
from perwatt.models.optimizers import forget, make_optimizer
from perwatt.models.trained import Trained
from perwatt.spec.data import Recipe, Source
from perwatt.spec.precision import Precision
from perwatt.workloads.model_params import WEIGHT_EXPONENT

if TYPE_CHECKING:
    from perwatt.workloads.optimizer_step import OptimizerStepParams

GRADIENT_EXPONENT = -4  # 0.07: its square is far from the ends of fp16
TURN = 1_000_003  # elements that gradients are moved on by: prime, so no row meets its own elements again


class Updater(Trained):
    """Parameters of a model as it stores them, gradients in the same format, and the optimizer over them.

    Args:
        params: of the optimizer's step.
        precision: policy; decides the format of weights, gradients and moments.
        device: where everything lives.
        form: of the optimizer, one of :data:`perwatt.models.optimizers.FORMS`, else the best.
    """

    def __init__(self, params: OptimizerStepParams, precision: Precision, device: torch.device, form: str = "") -> None:
        self.model = Decoder(params.shape, Formats.of(precision), 1, device)
        self.optimizer = make_optimizer(params, self.model, form)

    def step(self) -> None:
        """One step from the gradients that are there, which stay."""
        self.optimizer.step()

    def fill(self, source: Source, distribution: str) -> None:
        """Make weights and gradients from data recipes, one stream for each by name."""
        for parameter in self.model.parameters():
            parameter.grad = torch.empty_like(parameter)
        self._write(self.weights(), source, "", distribution, WEIGHT_EXPONENT)
        self._write(self._present(), source, "gradient of ", distribution, GRADIENT_EXPONENT)

    @staticmethod
    def _write(tensors: dict[str, Tensor], source: Source, prefix: str, kind: str, exponent: int) -> None:
        for name, tensor in tensors.items():
            recipe = Recipe(name=prefix + name, shape=tuple(tensor.shape), kind=kind, exponent=exponent)
            tensor.copy_(torch.from_numpy(source.array(recipe)))

    def refresh(self, generation: int) -> None:
        """Other weights and gradients in the same tensors, and no moments, without going through the host.

        The gradients are turned by some elements, and the weights become the gradients turned further and scaled to
        their own size, so that every weight meets another gradient than before.
        """
        self.turn(generation + 1)
        weights = self.weights()
        for name, gradient in self._present().items():
            weights[name].copy_(gradient.roll(TURN // 2) * 2.0 ** (WEIGHT_EXPONENT - GRADIENT_EXPONENT))
        forget(self.optimizer)

    def turn(self, times: int = 1) -> None:
        """Move the elements of every gradient on, in place."""
        for gradient in self._present().values():
            gradient.copy_(gradient.roll(TURN * times))

    def _present(self) -> dict[str, Tensor]:
        return {name: gradient for name, gradient in self.gradients().items() if gradient is not None}

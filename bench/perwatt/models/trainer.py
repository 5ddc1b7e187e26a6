"""A training loop around a model: batches on the device, gradients, clipping, optimizer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perwatt.models.decoder import Decoder
from perwatt.models.formats import Formats
from perwatt.models.optimizers import forget, make_optimizer
from perwatt.models.recompute import recompute
from perwatt.models.trained import Trained
from perwatt.spec.data import Recipe, Source
from perwatt.spec.precision import Precision

if TYPE_CHECKING:
    from perwatt.workloads.train_params import TrainStepParams

Build = Callable[[Callable[..., Any]], Callable[..., Any]]


class Trainer(Trained):
    """Model, optimizer and a few fixed batches.

    Args:
        params: of the training step.
        precision: policy; decides every number format.
        device: where everything lives.
        build: makes the impl's version of the function (tokens, labels) -> loss.
        slots: batches held on the device.

    Attributes:
        tokens: [slots, batch, seq] ids that go in.
        labels: [slots, batch, seq] ids that are to come out: the next token of each.
    """

    def __init__(
        self, params: TrainStepParams, precision: Precision, device: torch.device, build: Build, slots: int
    ) -> None:
        self.params, self._scale = params, params.loss_scale(precision)
        self.model = Decoder(params.shape, Formats.of(precision, params.logits), params.seq, device)
        self.parameters = list(self.model.parameters())
        if params.recompute == "full":
            recompute(self.model.blocks)
        self.optimizer = make_optimizer(params, self.model)
        self.tokens, self.labels = torch.empty(2, slots, params.batch, params.seq, dtype=torch.int64, device=device)
        self._loss = build(self.loss)
        self._autocast = precision.casts == "autocast"

    def loss(self, tokens: Tensor, labels: Tensor, counted: Tensor | None = None) -> Tensor:
        """Cross entropy in float32 of [batch, seq] tokens against their labels; one number.

        Args:
            tokens: of a batch, or of a part of it.
            labels: of the same.
            counted: labels of the whole batch that count; then this is the part's share of the batch's mean.
        """
        logits = self.model(tokens).flatten(0, 1).float()
        params = self.params
        reduction = params.loss_reduction if counted is None else "sum"
        loss = F.cross_entropy(logits, labels.flatten(), ignore_index=params.ignore_index, reduction=reduction)
        return loss if counted is None else loss / counted

    def backward(self, slot: int) -> Tensor:
        """Forward, loss and gradients of one batch; earlier gradients are dropped first. Returns the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._accumulated(slot) if self.params.grad_accum > 1 else self._differentiated(*self._batch(slot))
        if self._scale != 1.0:
            torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], 1 / self._scale)
        return loss

    def _batch(self, slot: int) -> tuple[Tensor, Tensor]:
        return self.tokens[slot], self.labels[slot]

    def _accumulated(self, slot: int) -> Tensor:
        """The loss of a batch, its gradients those of all micro-batches added up."""
        labels = self.labels[slot]
        counts: tuple[Tensor, ...] = ()
        if self.params.loss_reduction == "mean":
            counts = ((labels != self.params.ignore_index).sum(),)
        parts = zip(self.tokens[slot].chunk(self.params.grad_accum), labels.chunk(self.params.grad_accum), strict=True)
        return torch.stack([self._differentiated(*part, *counts) for part in parts]).sum()

    def _differentiated(self, *part: Tensor) -> Tensor:
        """The loss of a part of a batch, its gradients added to those that are there."""
        with torch.autocast(self.tokens.device.type, torch.bfloat16) if self._autocast else nullcontext():
            loss: Tensor = self._loss(*part)
        (loss * self._scale if self._scale != 1.0 else loss).backward()
        return loss.detach()

    def update(self) -> None:
        """Clip the gradients and let the optimizer step. Asks the device for no value."""
        if self.params.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.params.clip)
        self.optimizer.step()

    def run(self, slot: int) -> Tensor:
        """One whole training step. Returns the loss before it, still on the device."""
        loss = self.backward(slot)
        self.update()
        return loss

    def fill(self, source: Source, distribution: str, exponent: int) -> None:
        """Write fresh weights and tokens into the tensors that are there, and forget the optimizer's state.

        Args:
            source: of the data; one stream for each weight by its name.
            distribution: of the weight matrices and biases. Norms are ones, tokens are uniform.
            exponent: matrices are scaled by two to this power.
        """
        with torch.no_grad():
            for name, weight in self.weights().items():
                norm = weight.dim() == 1 and not name.endswith("bias")
                kind, power = ("ones", 0) if norm else (distribution, exponent)
                recipe = Recipe(name=name, shape=tuple(weight.shape), kind=kind, exponent=power)
                weight.copy_(torch.from_numpy(source.array(recipe)))
        self.fill_tokens(source)
        self.optimizer.zero_grad(set_to_none=True)
        forget(self.optimizer)

    def fill_tokens(self, source: Source) -> None:
        """Write fresh token ids; each label is the next token."""
        slots, batch, seq = self.tokens.shape
        recipe = Recipe(name="tokens", shape=(slots, batch, seq + 1), kind="ids", high=self.params.shape.vocab)
        ids = torch.from_numpy(source.array(recipe))
        self.tokens.copy_(ids[..., :-1])
        self.labels.copy_(ids[..., 1:])

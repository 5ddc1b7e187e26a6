"""A training loop around a model: batches on the device, gradients, clipping, optimizer; alone or as one of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perwatt.models import chunked_loss
from perwatt.models.decoder import Decoder
from perwatt.models.formats import Formats
from perwatt.models.kernels import FRAMEWORK, Kernels
from perwatt.models.optimizers import forget, make_optimizer
from perwatt.models.recompute import recompute
from perwatt.models.spread import Alone
from perwatt.models.trained import Trained
from perwatt.spec.data import Recipe, Source
from perwatt.spec.precision import Precision

if TYPE_CHECKING:
    from perwatt.workloads.train_params import TrainStepParams

Build = Callable[[Callable[..., Any]], Callable[..., Any]]
ALONE = Alone()


class Trainer(Trained):
    """Model, optimizer and a few fixed batches.

    Args:
        params: of the training step.
        precision: policy; decides every number format.
        device: where everything lives.
        build: makes the impl's version of the function (tokens, labels) -> loss.
        slots: batches held on the device.
        spread: over ranks; one for each trainer.
        kernels: that the model's layers call.
        chunks: has the loss taken in chunks, and is what becomes of a chunk's logits, see
            :mod:`perwatt.models.chunked_loss`; then ``build`` makes the function tokens -> what the projection takes.

    Attributes:
        params: of the whole step.
        own: of this rank's part of it.
        tokens: [slots, batch, seq] ids that go in, those of this rank.
        labels: [slots, batch, seq] ids that are to come out: the next token of each.
        counted: [slots] labels of each whole batch that count in its loss.
        scale: what losses are multiplied by before the backward pass, and gradients divided by after it.
        kernels: see above.
    """

    def __init__(
        self, params: TrainStepParams, precision: Precision, device: torch.device, build: Build, slots: int,
        spread: Alone = ALONE, kernels: Kernels = FRAMEWORK, chunks: chunked_loss.Differentiate | None = None,
    ) -> None:  # fmt: skip
        self.params, self.own, self.spread, self.kernels = params, params.part(spread.world), spread, kernels
        self.scale = params.loss_scale(precision)
        formats = Formats.of(precision, params.logits)
        self.model = spread.model(lambda where: Decoder(params.shape, formats, params.seq, where, kernels), device)
        self.parameters = list(self.model.parameters())
        self._loss = self._chunked(build, formats, chunks) if chunks else spread.call(self.model, build, self.loss)
        if params.recompute == "full":
            recompute(self.model.blocks)
        self.optimizer = make_optimizer(params, self.model)
        self.tokens, self.labels = torch.empty(2, slots, self.own.batch, params.seq, dtype=torch.int64, device=device)
        self.counted = torch.ones(slots, device=device)
        self._autocast = precision.casts == "autocast"

    def loss(self, tokens: Tensor, labels: Tensor, counted: Tensor | None = None) -> Tensor:
        """Cross entropy in float32 of [batch, seq] tokens against their labels; one number.

        Args:
            tokens: of a batch, or of a part of it.
            labels: of the same.
            counted: labels of the whole batch that count; then this is the part's share of the batch's mean.
        """
        logits = self.spread.forward(self.model)(tokens).flatten(0, 1).float()
        params = self.params
        reduction = params.loss_reduction if counted is None else "sum"
        loss = F.cross_entropy(logits, labels.flatten(), ignore_index=params.ignore_index, reduction=reduction)
        return loss if counted is None else loss / counted

    def _chunked(self, build: Build, formats: Formats, chunks: chunked_loss.Differentiate) -> Callable[..., Tensor]:
        """As :meth:`loss`, never with all logits. Only for what is not spread: hooks would miss the projection."""
        assert not self.spread.parted
        hidden, params = build(self.model.hidden), self.params
        summed = chunked_loss.differentiable(formats.products, self.scale, chunks)

        def loss(tokens: Tensor, labels: Tensor, counted: Tensor | None = None) -> Tensor:
            ids = labels.flatten()
            kept = ids != params.ignore_index
            shares = kept.float().unsqueeze(-1)
            if params.loss_reduction == "mean":
                shares /= kept.sum() if counted is None else counted
            return summed(hidden(tokens).flatten(0, 1), self.model.head, ids.where(kept, 0), shares)

        return loss

    def backward(self, slot: int) -> Tensor:
        """Forward, loss and gradients of one batch; earlier gradients are dropped first.

        Returns:
            The loss; where the batch is spread over ranks, this one's share of it.
        """
        self.optimizer.zero_grad(set_to_none=True)
        parted = self.own.grad_accum > 1 or self.spread.parted
        loss = self._accumulated(slot) if parted else self._differentiated(*self._batch(slot))
        if self.scale != 1.0:
            torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], 1 / self.scale)
        return loss

    def _batch(self, slot: int) -> tuple[Tensor, Tensor]:
        return self.tokens[slot], self.labels[slot]

    def _accumulated(self, slot: int) -> Tensor:
        """The loss of a batch, its gradients those of all micro-batches added up."""
        labels, count = self.labels[slot], self.own.grad_accum
        counts: tuple[Tensor, ...] = ()
        if self.params.loss_reduction == "mean":
            counts = (self.counted[slot] if self.spread.parted else (labels != self.params.ignore_index).sum(),)
        losses = []
        for at, part in enumerate(zip(self.tokens[slot].chunk(count), labels.chunk(count), strict=True)):
            with self.spread.accumulating(last=at == count - 1):
                losses.append(self._differentiated(*part, *counts))
        return torch.stack(losses).sum()

    def _differentiated(self, *part: Tensor) -> Tensor:
        """The loss of a part of a batch, its gradients added to those that are there."""
        with torch.autocast(self.tokens.device.type, torch.bfloat16) if self._autocast else nullcontext():
            loss: Tensor = self._loss(*part)
        factor = self.scale * self.spread.factor
        (loss * factor if factor != 1.0 else loss).backward()
        return loss.detach()

    def update(self) -> None:
        """Clip the gradients and let the optimizer step. Asks the device for no value."""
        if self.params.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.params.clip)
        self.optimizer.step()

    def run(self, slot: int) -> Tensor:
        """One whole training step. Returns what :meth:`backward` does, still on the device."""
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
            for stored, values in filled(self.model, source, distribution, exponent):
                self.spread.load(stored, values)
        self.fill_tokens(source)
        self.optimizer.zero_grad(set_to_none=True)
        forget(self.optimizer)

    def fill_tokens(self, source: Source) -> None:
        """Write fresh token ids, of the whole batch this rank's; each label is the next token."""
        slots, batch, seq = self.tokens.shape
        shape = (slots, self.params.batch, seq + 1)
        recipe = Recipe(name="tokens", shape=shape, kind="ids", high=self.params.shape.vocab)
        ids = torch.from_numpy(source.array(recipe))
        self.counted.copy_((ids[..., 1:] != self.params.ignore_index).sum(dim=(1, 2)))
        own = ids[:, self.spread.rank * batch :][:, :batch]
        self.tokens.copy_(own[..., :-1])
        self.labels.copy_(own[..., 1:])


def filled(model: Decoder, source: Source, distribution: str, exponent: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Stored parameters with fresh values for all of each, in float32 on the host.

    Norms are ones. Weights are made in the order of the model's pieces, which the source's digest depends on.
    """
    pieces = list(model.pieces())
    left = Counter(id(piece.stored) for piece in pieces)
    made: dict[int, Tensor] = {}
    for name, stored, part in pieces:
        whole = made.setdefault(id(stored), torch.empty(stored.shape))
        place = whole[part]
        norm = place.dim() == 1 and not name.endswith("bias")
        kind, power = ("ones", 0) if norm else (distribution, exponent)
        recipe = Recipe(name=name, shape=tuple(place.shape), kind=kind, exponent=power)
        place.copy_(torch.from_numpy(source.array(recipe)))
        left[id(stored)] -= 1
        if not left[id(stored)]:
            yield stored, made.pop(id(stored))

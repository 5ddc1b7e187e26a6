"""A decoder-only transformer in plain torch, of any family that :class:`ModelShape` describes.

Casts are explicit: a weight is cast to the compute format where it is used, so its gradient arrives in the format it
is stored in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perwatt.models.attention import Attention
from perwatt.models.feed_forward import Experts, FeedForward
from perwatt.models.formats import Formats
from perwatt.models.kernels import FRAMEWORK, Kernels
from perwatt.models.norms import Norm
from perwatt.models.places import Places
from perwatt.models.weights import Make, Piece, linear, under
from perwatt.spec.model import ModelShape


class Block(nn.Module):
    """One layer: attention and feed-forward, each after a norm and added to the residual stream.

    Args:
        shape: of the model; parameters are left uninitialized.
        index: which layer this is, which decides its window and how its tokens come to experts.
        device: where the parameters live.
        storage: their format.
        kernels: that it calls. Batched products of experts and the router's are the framework's all the same.
    """

    def __init__(
        self, shape: ModelShape, index: int, device: torch.device, storage: torch.dtype, kernels: Kernels = FRAMEWORK
    ) -> None:
        super().__init__()
        make = Make(device, storage)
        self.attention_norm = Norm(shape, shape.hidden, make)
        self.attention = Attention(shape, index, make, kernels)
        self.attention_post_norm = Norm(shape, shape.hidden, make) if shape.post_norm else None
        self.mlp_norm = Norm(shape, shape.hidden, make)
        self.mlp = Experts(shape, index, make) if shape.experts else FeedForward(shape, index, make, kernels)
        self.mlp_post_norm = Norm(shape, shape.hidden, make) if shape.post_norm else None

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """``x`` [batch, seq, hidden] to the same, ``seq`` being that of ``places``."""
        found: Tensor = self.attention(self.attention_norm(x), places)
        x = x + (found if self.attention_post_norm is None else self.attention_post_norm(found))
        found = self.mlp(self.mlp_norm(x), places)
        return x + (found if self.mlp_post_norm is None else self.mlp_post_norm(found))

    def pieces(self) -> Iterator[Piece]:
        """Weights by name."""
        yield from self.attention_norm.pieces("attention_norm")
        yield from self.attention.pieces()
        if self.attention_post_norm is not None:
            yield from self.attention_post_norm.pieces("attention_post_norm")
        yield from self.mlp_norm.pieces("mlp_norm")
        yield from self.mlp.pieces()
        if self.mlp_post_norm is not None:
            yield from self.mlp_post_norm.pieces("mlp_post_norm")


class Decoder(nn.Module):
    """The whole model; parameters are left uninitialized.

    Args:
        shape: of the model.
        formats: storage, compute and logits formats.
        seq: tokens of a sequence.
        device: where parameters and tables live.
        kernels: that layers call.
    """

    def __init__(
        self, shape: ModelShape, formats: Formats, seq: int, device: torch.device, kernels: Kernels = FRAMEWORK
    ) -> None:
        super().__init__()
        self.shape, self.formats, self.seq = shape, formats, seq
        make = Make(device, formats.storage)
        self.embedding = make.sure(shape.vocab, shape.hidden)
        self.positions = make(shape.max_positions, shape.hidden, when=shape.positions == "learned")
        self.blocks = nn.ModuleList(
            Block(shape, index, device, formats.storage, kernels) for index in range(shape.layers)
        )
        self.norm = Norm(shape, shape.hidden, make)
        self.head = self.embedding if shape.tied else make.sure(shape.vocab, shape.hidden)
        self.head_bias = make(shape.vocab, when=shape.head_bias)
        self.places = Places(shape, seq, device, formats.compute)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, seq, vocab] of token ids [batch, seq]."""
        logits = linear(self.hidden(tokens), self.head, self.head_bias).to(self.formats.logits)
        if self.shape.logit_softcap:
            logits = (logits / self.shape.logit_softcap).tanh() * self.shape.logit_softcap
        return logits

    def hidden(self, tokens: Tensor) -> Tensor:
        """What the output projection takes, [batch, seq, hidden], of token ids [batch, seq]."""
        shape = self.shape
        x = F.embedding(tokens, self.embedding).to(self.formats.compute)
        if shape.embedding_scale != 1:
            x = x * shape.embedding_scale
        if self.positions is not None:
            x = x + self.positions[: self.seq].to(x.dtype)
        for block in self.blocks:
            x = block(x, self.places)
        found: Tensor = self.norm(x)
        return found

    def settle(self, device: torch.device) -> None:
        """Make good what a model made on ``meta`` lost when its parameters moved to a device: tables, and the tie."""
        self.places = Places(self.shape, self.seq, device, self.formats.compute)
        if self.shape.tied:
            self.head = self.embedding

    def tensors(self, of: Callable[[Tensor], Tensor | None]) -> dict[str, Tensor | None]:
        """One tensor for each weight as a paper would list them (``layers.0.q``), cut from the stored ones.

        Args:
            of: what to take of a stored parameter: itself, its gradient, a moment. None stays None.
        """
        return dict(self.each(of))

    def each(self, of: Callable[[Tensor], Tensor | None]) -> Iterator[tuple[str, Tensor | None]]:
        """As :meth:`tensors`, one after the other; ``of`` is asked once for weights that are stored together."""
        before: Tensor | None = None
        whole: Tensor | None = None
        for name, stored, part in self.pieces():
            if stored is not before:
                before, whole = stored, of(stored)
            yield name, None if whole is None else whole[part]

    def pieces(self) -> Iterator[Piece]:
        """Every weight by name, ``layers.0.q`` for the queries of the first layer."""
        yield Piece("embedding", self.embedding)
        if self.positions is not None:
            yield Piece("positions", self.positions)
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            yield from under(f"layers.{index}.", block.pieces())
        yield from self.norm.pieces("norm")
        if not self.shape.tied:
            yield Piece("head", self.head)
        if self.head_bias is not None:
            yield Piece("head_bias", self.head_bias)

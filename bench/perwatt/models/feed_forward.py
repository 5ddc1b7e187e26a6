"""The feed-forward layer: one for all tokens, or a mixture of experts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perwatt.models.kernels import FRAMEWORK, Kernels
from perwatt.models.places import Places
from perwatt.models.weights import Make, Piece, batched_linear, linear, rows, under
from perwatt.spec.model import ModelShape


def activated(x: Tensor, activation: str) -> Tensor:
    """The nonlinearity of the first product's result; halves [gate, up] where the activation is gated."""
    if activation == "swiglu":
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up
    if activation == "geglu_tanh":
        gate, up = x.chunk(2, dim=-1)
        return F.gelu(gate, approximate="tanh") * up
    return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


def branches(shape: ModelShape, suffix: str = "") -> dict[str, int]:
    """Rows of the first product by name."""
    names = ("gate", "up") if shape.gated else ("up",)
    return {name + suffix: shape.intermediate for name in names}


class FeedForward(nn.Module):
    """Two products with a nonlinearity between; ``gate_up`` is ``up`` alone where the activation is not gated."""

    def __init__(self, shape: ModelShape, index: int, make: Make, kernels: Kernels = FRAMEWORK) -> None:
        super().__init__()
        self.shape, self.index = shape, index
        width = sum(branches(shape).values())
        self.gate_up = make.sure(width, shape.hidden)
        self.gate_up_bias = make(width, when=shape.mlp_bias)
        self.down = make.sure(shape.hidden, shape.intermediate)
        self.down_bias = make(shape.hidden, when=shape.mlp_bias)
        self._widen = kernels.product(self.gate_up, self.gate_up_bias)
        self._narrow = kernels.product(self.down, self.down_bias)

    def forward(self, x: Tensor, places: Places | None = None) -> Tensor:
        """``x`` [..., hidden] to the same, wherever its tokens are."""
        inner = activated(self._widen(x, self.gate_up, self.gate_up_bias), self.shape.activation)
        return self._narrow(inner, self.down, self.down_bias)

    def pieces(self) -> Iterator[Piece]:
        """Weights by name."""
        yield from rows(self.gate_up, **branches(self.shape))
        yield from rows(self.gate_up_bias, **branches(self.shape, "_bias"))
        yield from rows(self.down, down=self.shape.hidden)
        yield from rows(self.down_bias, down_bias=self.shape.hidden)


class Experts(nn.Module):
    """Feed-forward layers of which every token takes a few, with shares from a router; see :mod:`perwatt.spec.routing`.

    Every expert's tokens are gathered into one block, so that each of the two products is one batched product with
    static shapes. Experts with a token less than others multiply a padded row that nobody reads.
    """

    def __init__(self, shape: ModelShape, index: int, make: Make) -> None:
        super().__init__()
        self.shape, self.index = shape, index
        self.router = make.sure(shape.experts, shape.hidden)
        self.gate_up = make.sure(shape.experts, sum(branches(shape).values()), shape.hidden)
        self.down = make.sure(shape.experts, shape.hidden, shape.intermediate)

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """``x`` [batch, seq, hidden] to the same."""
        batch, seq, hidden = x.shape
        route = places.route(self.index)
        logits = linear(x, self.router).gather(-1, route.experts.expand(batch, -1, -1))
        shares = logits.float().softmax(dim=-1).to(x.dtype)
        mine = x.index_select(1, route.tokens).unflatten(1, (self.shape.experts, -1))
        inner = batched_linear(mine.transpose(0, 1).flatten(1, 2), self.gate_up)
        found = batched_linear(activated(inner, self.shape.activation), self.down)
        blocks = found.unflatten(1, (batch, -1)).transpose(0, 1).flatten(1, 2)
        chosen = blocks.index_select(1, route.slots).view(batch * seq, -1, hidden)
        return torch.bmm(shares.flatten(0, 1).unsqueeze(1), chosen).view(batch, seq, hidden)

    def pieces(self) -> Iterator[Piece]:
        """Weights by name, those of each expert apart."""
        yield Piece("router", self.router)
        for expert in range(self.shape.experts):
            own = (
                piece._replace(part=(expert, *piece.part))
                for stored, sizes in ((self.gate_up, branches(self.shape)), (self.down, {"down": self.shape.hidden}))
                for piece in rows(stored, **sizes)
            )
            yield from under(f"experts.{expert}.", own)

"""One whole layer of a Llama-style model: norms, attention with its projections, feed-forward, both additions.

Stands for: all of a training step between the embedding and the logits, which repeats it.
Formula: x + o(attention(rope(norm(x) Wqkv))), then y + down(silu(gate) * up) of its norm; RMSNorm, rotary positions,
grouped queries, SwiGLU.
FLOPs: 2 x batch x seq for each weight of the products, and 4 x pairs x heads x head_dim for attention over the
S (S + 1) / 2 visible pairs; twice as much for the backward.
Bytes: not counted, as for all composites.
Gate: result and all gradients against the layer written out in float64, whole and row by row, at most twice the error
of the same in the policy's formats.
Leaves out: the cast of master weights, dropout, and layers of other families, which `train_step` has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from perwatt.spec.model import ModelShape, Rope
from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads.base import Counts
from perwatt.workloads.compiled import compiled
from perwatt.workloads.function import FunctionWorkload, Operand, fan_in, products

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from perwatt.accuracy.reference_parts import Arithmetic
    from perwatt.backends.base import Backend
    from perwatt.models.decoder import Block
    from perwatt.models.places import Places
    from perwatt.spec.case import Case


class TransformerLayerParams(BaseModel):
    """Parameters of a layer.

    Attributes:
        batch: sequences.
        seq: tokens of a sequence.
        hidden: width of the residual stream.
        intermediate: width of the feed-forward layer, of one branch.
        heads: heads of queries.
        kv_heads: heads of keys and values; as many as ``heads`` unless given.
        head_dim: width of a head; ``hidden / heads`` unless given.
        theta: base of the rotary frequencies.
        eps: of the norms.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    batch: int = Field(default=1, ge=1, le=2**20)
    seq: int = Field(ge=1, le=2**24)
    hidden: int = Field(ge=1, le=2**24)
    intermediate: int = Field(ge=1, le=2**24)
    heads: int = Field(ge=1, le=2**14)
    kv_heads: int = Field(default=0, ge=0, le=2**14)
    head_dim: int = Field(default=0, ge=0, le=2**12)
    theta: float = Field(default=10000.0, gt=0)
    eps: float = Field(default=1e-5, gt=0, le=1)

    @model_validator(mode="after")
    def _resolve(self) -> TransformerLayerParams:
        for name in ("kv_heads", "head_dim"):
            object.__setattr__(self, name, getattr(self.shape, name))
        return self

    @property
    def shape(self) -> ModelShape:
        """The model of one such layer.

        Raises:
            ValueError: its fields make no sense together.
        """
        return ModelShape(
            hidden=self.hidden, intermediate=self.intermediate, layers=1, heads=self.heads, kv_heads=self.kv_heads,
            head_dim=self.head_dim, vocab=1, norm_eps=self.eps, rope=Rope(theta=self.theta),
        )  # fmt: skip


class TransformerLayer(FunctionWorkload):
    """See the module."""

    name = "transformer_layer"
    summary = "one whole layer of a Llama-style model"
    Params = TransformerLayerParams
    multiplies = True

    def sequence(self, params: TransformerLayerParams) -> int:
        """As given."""
        return params.seq

    def label(self, params: TransformerLayerParams) -> str:
        """``2x4096x2048x8192 heads 32/8``: batch x seq x hidden x intermediate."""
        heads = f"{params.heads}/{params.kv_heads}" if params.kv_heads != params.heads else f"{params.heads}"
        return f"{params.batch}x{params.seq}x{params.hidden}x{params.intermediate} heads {heads}"

    def counts(self, params: TransformerLayerParams, pass_: str, precision: Precision) -> Counts:
        """See the module."""
        weights = sum(one.shape[0] * one.shape[1] for one in _weights(params, precision) if len(one.shape) == 2)
        pairs = params.seq * (params.seq + 1) / 2
        forward = 2.0 * params.seq * weights + 4.0 * pairs * params.heads * params.head_dim
        return products(params.batch * forward, pass_, float(params.batch * params.seq))

    def operands(self, params: TransformerLayerParams, precision: Precision) -> Sequence[Operand]:
        """The stream and the weights as they are stored: queries, keys and values as one, gate and up as one."""
        return _stream("x", params, precision), *_weights(params, precision)

    def result(self, params: TransformerLayerParams, precision: Precision) -> Operand:
        """The stream."""
        return _stream("dy", params, precision)

    def memory(self, case: Case, devices: int = 1) -> float:
        """As declared, and with a backward what it needs of the forward: norms, projections, both branches."""
        params: TransformerLayerParams = case.params  # type: ignore[assignment]
        heads = (2 * params.heads + 2 * params.kv_heads) * params.head_dim
        kept = 2 * params.hidden + heads + 3 * params.intermediate
        held = params.batch * params.seq * kept * FORMATS[case.precision.activations]
        return super().memory(case) + (held if case.grad else 0.0)

    def at_once(self, params: TransformerLayerParams, precision: Precision, grad: bool) -> float:
        """As declared, and of a sequence the scores of all heads, its projections and branches, with gradients."""
        heads = (2 * params.heads + 2 * params.kv_heads) * params.head_dim
        inside = params.seq * (heads + 3 * params.intermediate)
        scores = 3 * params.heads * params.seq**2
        return super().at_once(params, precision, grad) + (2 if grad else 1) * (inside + scores)

    def plain(
        self, params: TransformerLayerParams, precision: Precision, device: torch.device
    ) -> Callable[..., Tensor]:
        """The layer of :mod:`perwatt.models`, its parameters exchanged for the operands.

        They are put in their places by hand: ``functional_call`` would take 0.1 ms of the host for each iteration.
        """
        block, places = _block(params, precision, device)
        homes = [(module._parameters, name) for module in block.modules() for name in module._parameters]
        homes = [(home, name) for home, name in homes if home[name] is not None]

        def layer(x: Tensor, *weights: Tensor) -> Tensor:
            for (home, name), weight in zip(homes, weights, strict=True):
                home[name] = weight  # type: ignore[assignment]
            found: Tensor = block(x, places)
            return found

        return layer

    def _graph(self, case: Case, backend: Backend) -> Callable[..., Tensor]:
        """Compilers cannot follow what is put in places by hand, and ``functional_call`` leaves no trace in a graph."""
        import torch

        params: TransformerLayerParams = case.params  # type: ignore[assignment]
        block, places = _block(params, case.precision, backend.device)
        names = [name for name, _ in block.named_parameters()]

        def layer(x: Tensor, *weights: Tensor) -> Tensor:
            found: Tensor = torch.func.functional_call(block, dict(zip(names, weights, strict=True)), (x, places))
            return found

        return compiled(layer, backend)

    def written(self, params: TransformerLayerParams, arithmetic: Arithmetic) -> Callable[..., Tensor]:
        """The layer of the reference decoder, with weights cut apart."""
        from perwatt.accuracy import reference_decoder

        queries, keys = params.heads * params.head_dim, params.kv_heads * params.head_dim

        def layer(x: Tensor, attention_norm: Tensor, qkv: Tensor, o: Tensor, mlp_norm: Tensor, *mlp: Tensor) -> Tensor:
            gate_up, down = mlp
            q, k, v = qkv.split((queries, keys, keys))
            gate, up = gate_up.split(params.intermediate)
            own: dict[str, Any] = {
                "attention_norm": attention_norm, "q": q, "k": k, "v": v, "o": o, "mlp_norm": mlp_norm, "gate": gate,
                "up": up, "down": down,
            }  # fmt: skip
            return reference_decoder.layer(own, x, params.shape, 0, arithmetic)

        return layer


def _block(params: TransformerLayerParams, precision: Precision, device: torch.device) -> tuple[Block, Places]:
    """The layer without parameters of its own, and the tables it needs."""
    import torch

    from perwatt.models.decoder import Block
    from perwatt.models.places import Places
    from perwatt_kernels.dtypes import dtype

    compute = dtype(precision.stream)
    return Block(params.shape, 0, torch.device("meta"), compute), Places(params.shape, params.seq, device, compute)


def _stream(name: str, params: TransformerLayerParams, precision: Precision) -> Operand:
    shape = (params.batch, params.seq, params.hidden)
    return Operand(name=name, shape=shape, format=precision.stream, rows=True)


def _weights(params: TransformerLayerParams, precision: Precision) -> list[Operand]:
    hidden, width, queries = params.hidden, params.intermediate, params.heads * params.head_dim

    def weight(name: str, *shape: int) -> Operand:
        matrix = len(shape) == 2
        exponent = fan_in(shape[1]) if matrix else 0
        return Operand(name=name, shape=shape, format=precision.weights, exponent=exponent, product=matrix)

    return [
        weight("attention_norm", hidden),
        weight("qkv", queries + 2 * params.kv_heads * params.head_dim, hidden),
        weight("o", hidden, queries),
        weight("mlp_norm", hidden),
        weight("gate_up", 2 * width, hidden),
        weight("down", hidden, width),
    ]


WORKLOAD = TransformerLayer()

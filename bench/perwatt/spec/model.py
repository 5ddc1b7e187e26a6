"""Shapes of transformer models, by name, inline, or from a Hugging Face ``config.json``.

A shape holds everything of a model that changes its mathematics, and no name: the same shape gives the same match
key however it was written down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from perwatt import configs
from perwatt.errors import InputError
from perwatt.spec import published
from perwatt.spec.fields import validated

EXPECTED = "a name (perwatt list models), a shape (a mapping), or the path of a config.json"
PATH = "a shape (a mapping), or a path that ends in .json"
Count = Field(ge=1, le=2**31)


class Rope(BaseModel):
    """Rotary position embedding. ``kind: llama3`` stretches low frequencies as Llama 3.1 does."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    kind: Literal["default", "llama3"] = "default"
    theta: float = Field(default=10000.0, gt=0)
    factor: float = Field(default=1.0, ge=1)
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_positions: int = Field(default=8192, ge=1)

    @model_validator(mode="after")
    def _canonical(self) -> Rope:
        if self.kind == "default":  # fields without a meaning must not change the key
            for name in ("factor", "low_freq_factor", "high_freq_factor", "original_positions"):
                object.__setattr__(self, name, type(self).model_fields[name].default)
        return self


class ModelShape(BaseModel):
    """A decoder-only transformer.

    Biases and norms are fields where families differ. Gemma's norm by ``1 + w`` is the one by ``w`` started at one
    instead of at zero: the same function and, where norms do not decay, the same steps. So it has no field.

    Attributes:
        hidden: width of the residual stream.
        intermediate: width of the feed-forward layer (of one branch, for gated activations; of one expert).
        kv_heads: heads of keys and values; ``heads`` unless given.
        head_dim: width of one head; ``hidden / heads`` unless given.
        vocab: size of the vocabulary as padded, which is what the products see.
        tied: whether the embedding is the output projection too.
        activation: of the feed-forward layer; ``swiglu`` and ``geglu_tanh`` are gated, the others are not.
        norm: before attention, before the feed-forward layer, and at the end.
        positions: ``rope``, ``learned`` (a table of ``max_positions``), or ``alibi`` (a slope for each head).
        qk_norm: whether every head of queries and keys is normalized before it is rotated.
        attention_bias: in the projections to queries, keys and values.
        output_bias: in the projection after attention.
        mlp_bias: in both products of the feed-forward layer.
        head_bias: in the output projection.
        norm_bias: in layer norms.
        post_norm: whether attention and feed-forward layer are normalized again before they are added.
        window: keys that a query sees, itself included; 0 for all before it.
        window_every: layers 0, n, 2n and so on have the window.
        attention_scale: times the scores; ``head_dim ** -0.5`` unless given.
        attention_softcap: c of ``c * tanh(score / c)``; 0 for none.
        logit_softcap: the same for logits.
        embedding_scale: times the embedding as it enters the stream.
        experts: feed-forward layers of which a token takes ``experts_per_token``; 0 for one that all tokens take.
        routing: how tokens come to experts. ``balanced`` is the fixed rule of :mod:`perwatt.spec.routing`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    hidden: int = Count
    intermediate: int = Count
    layers: int = Count
    heads: int = Count
    kv_heads: int = Field(default=0, ge=0)
    head_dim: int = Field(default=0, ge=0)
    vocab: int = Count
    tied: bool = False
    activation: Literal["swiglu", "geglu_tanh", "gelu_tanh", "gelu_erf"] = "swiglu"
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_eps: float = Field(default=1e-5, gt=0)
    positions: Literal["rope", "learned", "alibi"] = "rope"
    max_positions: int = Field(default=0, ge=0)
    rope: Rope = Rope()
    qk_norm: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    norm_bias: bool = False
    post_norm: bool = False
    window: int = Field(default=0, ge=0)
    window_every: int = Field(default=1, ge=1)
    attention_scale: float = Field(default=0.0, ge=0)
    attention_softcap: float = Field(default=0.0, ge=0)
    logit_softcap: float = Field(default=0.0, ge=0)
    embedding_scale: float = Field(default=1.0, gt=0)
    experts: int = Field(default=0, ge=0)
    experts_per_token: int = Field(default=0, ge=0)
    routing: Literal["none", "balanced"] = "none"

    @model_validator(mode="after")
    def _resolve(self) -> ModelShape:
        _set(self, "kv_heads", self.kv_heads or self.heads)
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads {self.kv_heads} does not divide heads {self.heads}")
        if not self.head_dim:
            if self.hidden % self.heads:
                raise ValueError(f"heads {self.heads} does not divide hidden {self.hidden}; give head_dim")
            _set(self, "head_dim", self.hidden // self.heads)
        if self.positions == "rope" and self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd, which rope cannot rotate")
        if self.positions == "learned" and not self.max_positions:
            raise ValueError("learned positions need max_positions")
        if self.norm_bias and self.norm == "rmsnorm":
            raise ValueError("norm_bias needs norm layernorm: rmsnorm has no bias")
        self._resolve_experts()
        self._drop_without_meaning()
        return self

    def _resolve_experts(self) -> None:
        if not self.experts and (self.experts_per_token or self.routing != "none"):
            raise ValueError("experts_per_token and routing need experts")
        if self.experts and not 1 <= self.experts_per_token <= self.experts:
            raise ValueError(f"experts_per_token {self.experts_per_token}, expected 1 to {self.experts}")
        if self.experts and self.mlp_bias:
            raise ValueError("experts have no mlp_bias yet")
        _set(self, "routing", "balanced" if self.experts else "none")

    def _drop_without_meaning(self) -> None:
        """One spelling for equal mathematics."""
        if self.positions != "learned":
            _set(self, "max_positions", 0)  # rope and alibi have no table, so their length is not mathematics
        if self.positions != "rope":
            _set(self, "rope", Rope())
        if not self.window:
            _set(self, "window_every", 1)
        if math.isclose(self.attention_scale, self.head_dim**-0.5, rel_tol=1e-12):
            _set(self, "attention_scale", 0.0)

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layer has two branches that are multiplied."""
        return self.activation in ("swiglu", "geglu_tanh")

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        return self.attention_scale or float(self.head_dim**-0.5)

    def window_of(self, layer: int) -> int:
        """Keys that a query of a layer sees at most; 0 for all before it."""
        return 0 if layer % self.window_every else self.window

    def at(self, seq: int) -> ModelShape:
        """The shape without a window that hides nothing in sequences of ``seq`` tokens."""
        return self.model_copy(update={"window": 0, "window_every": 1}) if self.window >= seq else self

    def pairs(self, seq: int) -> int:
        """Visible query-key pairs of one head and one sequence of ``seq`` tokens, over all layers."""
        near = min(self.window or seq, seq)
        windowed = -(-self.layers // self.window_every)
        return windowed * _causal(near, seq) + (self.layers - windowed) * _causal(seq, seq)

    @property
    def linear_parameters(self) -> int:
        """Weights that are operands of products for every token, the output projection once, no embedding."""
        return self._matrices(self.experts_per_token or 1)

    @property
    def product_parameters(self) -> int:
        """As :attr:`linear_parameters`, with the experts that a token does not take."""
        return self._matrices(self.experts or 1)

    def _matrices(self, experts: int) -> int:
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        branches = 3 if self.gated else 2
        router = self.hidden * self.experts
        layer = attention + experts * branches * self.hidden * self.intermediate + router
        return self.layers * layer + self.hidden * self.vocab

    @property
    def parameters(self) -> int:
        """All trainable parameters; a tied embedding counts once."""
        tables = self.hidden * (self.max_positions + (0 if self.tied else self.vocab))
        return self.product_parameters + tables + self._biases() + self._norms()

    def _biases(self) -> int:
        attention = self.attention_bias * self.head_dim * (self.heads + 2 * self.kv_heads)
        mlp = self.mlp_bias * ((2 if self.gated else 1) * self.intermediate + self.hidden)
        return self.layers * (attention + self.output_bias * self.hidden + mlp) + self.head_bias * self.vocab

    def _norms(self) -> int:
        each = 2 if self.norm_bias else 1
        layer = (4 if self.post_norm else 2) * self.hidden + 2 * self.qk_norm * self.head_dim
        return each * (self.layers * layer + self.hidden)


def _causal(window: int, seq: int) -> int:
    """Pairs of a query with itself and at most ``window - 1`` keys before it."""
    return window * (window + 1) // 2 + (seq - window) * window


def _set(model: BaseModel, name: str, value: object) -> None:
    object.__setattr__(model, name, value)


def resolve(model: str | Mapping[str, Any] | ModelShape, layers: int | None = None) -> ModelShape:
    """The shape of a model given by shipped name, path of a ``config.json``, or inline.

    Args:
        model: name, path, or mapping of the fields of :class:`ModelShape`.
        layers: cut to this many layers.

    Raises:
        InputError: unknown name, unreadable or unsupported config, fields that make no sense.
    """
    if isinstance(model, str):
        model = _from_file(Path(model)) if model.endswith(".json") else _named(model)
    if not isinstance(model, ModelShape):
        model = _validated(model)
    if layers is None:
        return model
    if layers > model.layers:
        raise InputError(f"found {layers}, expected at most the model's {model.layers}", field="layers")
    return model.model_copy(update={"layers": layers})


def context(model: str | Mapping[str, Any]) -> int:
    """Tokens of the longest sequence that a model was made for; 0 where nothing says so, as of inline shapes.

    Not a part of the shape: with rotary positions or ALiBi a longer sequence is the same mathematics.

    Raises:
        InputError: as :func:`resolve`.
    """
    if not isinstance(model, str):
        return 0
    return published.context(Path(model)) if model.endswith(".json") else int(_file(model).get("context", 0))


def _named(name: str) -> ModelShape:
    return _validated(_file(name)["shape"])


def _file(name: str) -> dict[str, Any]:
    try:
        path = configs.find("models", name)
    except InputError as error:
        raise InputError(f"{error.message}; or {PATH}", field="model") from None
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def _validated(fields: Mapping[str, Any]) -> ModelShape:
    return validated(ModelShape, fields, "model")


def _from_file(path: Path) -> ModelShape:
    fields = published.read(path)
    try:
        return _validated(fields)
    except InputError as error:
        raise error.at(file=str(path)) from None

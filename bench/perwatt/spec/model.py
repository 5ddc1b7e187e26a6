"""Shapes of transformer models, by name, inline, or from a Hugging Face ``config.json``.

A shape holds everything of a model that changes its mathematics, and no name: the same shape gives the same match
key however it was written down.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from perwatt import configs
from perwatt.errors import InputError, expected
from perwatt.spec.fields import validated

Count = Field(ge=1, le=2**31)


class Rope(BaseModel):
    """Rotary position embedding. ``kind: llama3`` stretches low frequencies as Llama 3.1 does."""

    model_config = ConfigDict(extra="forbid", frozen=True)
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

    Attributes:
        intermediate: width of the feed-forward layer (of one branch, for gated activations).
        head_dim: width of one head; ``hidden / heads`` unless given.
        vocab: size of the vocabulary as padded, which is what the products see.
        positions: ``rope``, or ``learned`` (a table of ``max_positions``).
        bias: whether linear layers have one (``attention`` in the projections to queries, keys and values).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
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

    @model_validator(mode="after")
    def _resolve(self) -> ModelShape:
        _set(self, "kv_heads", self.kv_heads or self.heads)
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads {self.kv_heads} does not divide heads {self.heads}")
        if not self.head_dim:
            if self.hidden % self.heads:
                raise ValueError(f"heads {self.heads} does not divide hidden {self.hidden}; give head_dim")
            _set(self, "head_dim", self.hidden // self.heads)
        if self.positions == "rope":
            if self.head_dim % 2:
                raise ValueError(f"head_dim {self.head_dim} is odd, which rope cannot rotate")
            _set(self, "max_positions", 0)  # rope has no table, so its length is not mathematics
        else:
            _set(self, "rope", Rope())
        if self.positions == "learned" and not self.max_positions:
            raise ValueError("learned positions need max_positions")
        return self

    @property
    def llama_style(self) -> str | None:
        """None if this is a Llama-style decoder, else the first field that is not."""
        plain = ModelShape(hidden=2, intermediate=1, layers=1, heads=1, vocab=1)
        free = {
            "hidden",
            "intermediate",
            "layers",
            "heads",
            "kv_heads",
            "head_dim",
            "vocab",
            "tied",
            "norm_eps",
            "rope",
        }
        for name in type(self).model_fields.keys() - free:
            if getattr(self, name) != getattr(plain, name):
                return f"{name}: {getattr(self, name)}"
        return None

    @property
    def linear_parameters(self) -> int:
        """Weights that are operands of products for every token, the output projection once, no embedding."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        branches = 3 if self.activation in ("swiglu", "geglu_tanh") else 2
        active = (self.experts_per_token or 1) * branches * self.hidden * self.intermediate
        router = self.hidden * self.experts
        return self.layers * (attention + active + router) + self.hidden * self.vocab

    @property
    def parameters(self) -> int:
        """All trainable parameters of a Llama-style model: a tied embedding counts once."""
        norms = self.hidden * (2 * self.layers + 1)
        return self.linear_parameters + norms + (0 if self.tied else self.hidden * self.vocab)


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


def _named(name: str) -> ModelShape:
    fields = yaml.safe_load(configs.find("models", name).read_text(encoding="utf-8"))
    return _validated(fields["shape"])


def _validated(fields: Mapping[str, Any]) -> ModelShape:
    return validated(ModelShape, fields, "model")


_ROPE_KINDS = {"default": "default", "llama3": "llama3"}


def _from_file(path: Path) -> ModelShape:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the model's config: {error.strerror}", file=str(path), field="model") from None
    except ValueError as error:
        raise InputError(f"not JSON: {error}", file=str(path), field="model") from None
    if not isinstance(config, dict) or config.get("model_type") != "llama":
        kind = config.get("model_type") if isinstance(config, dict) else config
        raise InputError(expected(kind, ["llama"]), file=str(path), field="model_type")
    try:
        return _validated(_llama_fields(config))
    except KeyError as error:
        raise InputError(f"missing key {error}", file=str(path), field="model") from None
    except InputError as error:
        raise error.at(file=str(path)) from None


def _llama_fields(config: dict[str, Any]) -> dict[str, Any]:
    """Fields of a Hugging Face Llama config; ``rope_parameters`` is the newer name of ``rope_scaling``."""
    if config.get("hidden_act", "silu") != "silu":
        raise InputError(expected(config["hidden_act"], ["silu"]), field="hidden_act")
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in _ROPE_KINDS:
        raise InputError(expected(kind, _ROPE_KINDS), field="rope_scaling.rope_type")
    rope = {"kind": kind, "theta": scaling.get("rope_theta", config.get("rope_theta", 10000.0))}
    if kind == "llama3":
        rope |= {name: scaling[name] for name in ("factor", "low_freq_factor", "high_freq_factor")}
        rope["original_positions"] = scaling["original_max_position_embeddings"]
    return {
        "hidden": config["hidden_size"],
        "intermediate": config["intermediate_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "kv_heads": config.get("num_key_value_heads") or config["num_attention_heads"],
        "head_dim": config.get("head_dim") or 0,
        "vocab": config["vocab_size"],
        "tied": bool(config.get("tie_word_embeddings", False)),
        "norm_eps": config.get("rms_norm_eps", 1e-6),
        "attention_bias": bool(config.get("attention_bias", False)),
        "mlp_bias": bool(config.get("mlp_bias", False)),
        "rope": rope,
    }

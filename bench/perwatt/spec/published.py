"""Fields of :class:`ModelShape` from a Hugging Face ``config.json``, one function for each ``model_type``.

A function refuses what the shape cannot say, rather than leave it out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from perwatt.errors import InputError, expected, shorten

Config = Mapping[str, Any]
Fields = dict[str, Any]


def read(path: Path) -> Fields:
    """The shape's fields, not yet validated.

    Raises:
        InputError: unreadable, of an unknown ``model_type``, a key missing or with a value that no shape has.
    """
    kind, config = _load(path)
    try:
        return FAMILIES[kind](config)
    except KeyError as error:
        raise InputError(f"missing key {error}", file=str(path), field="model") from None
    except InputError as error:
        raise error.at(file=str(path)) from None
    except (TypeError, AttributeError, ValueError):
        raise InputError("found a value of the wrong kind, expected numbers and names as in published configs",
                         file=str(path), field="model") from None  # fmt: skip


def context(path: Path) -> int:
    """``max_position_embeddings``, the longest sequence that the model was made for; 0 where there is none.

    Raises:
        InputError: unreadable, or of an unknown ``model_type``.
    """
    found = _load(path)[1].get("max_position_embeddings") or 0
    if type(found) is not int or found < 0:
        message = f"found {shorten(found)}, expected a whole number"
        raise InputError(message, file=str(path), field="max_position_embeddings")
    return found


def _load(path: Path) -> tuple[str, Config]:
    """Model type and config of a file."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the model's config: {error.strerror}", file=str(path), field="model") from None
    except UnicodeDecodeError as error:
        message = f"found byte 0x{error.object[error.start]:02x}, expected UTF-8"
        raise InputError(message, file=str(path), field="model") from None
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deep"
        raise InputError(f"not JSON: {reason}", file=str(path), line=line, field="model") from None
    if not isinstance(config, dict):
        raise InputError(f"found {shorten(config)}, expected an object", file=str(path), field="model")
    kind = config.get("model_type")
    if kind is None:
        raise InputError("missing key 'model_type'", file=str(path), field="model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise InputError(expected(kind, FAMILIES), file=str(path), field="model_type")
    return kind, config


def _flag(config: Config, key: str, default: bool) -> bool:
    """A key that is true or false; text in its place would count as true."""
    found = config.get(key, default)
    if not isinstance(found, bool):
        raise InputError(f"found {shorten(found)}, expected true or false", field=key)
    return found


def _llama(config: Config) -> Fields:
    _only(config, "hidden_act", "silu")
    bias = _flag(config, "attention_bias", False)
    return _common(config) | {
        "rope": _rope(config), "attention_bias": bias, "output_bias": bias,
        "mlp_bias": _flag(config, "mlp_bias", False),
    }  # fmt: skip


def _qwen3(config: Config) -> Fields:
    _only(config, "use_sliding_window", False)
    return _llama(config) | {"qk_norm": True, "head_dim": config.get("head_dim") or 128}


def _mixtral(config: Config) -> Fields:
    _only(config, "hidden_act", "silu")
    return _common(config) | {
        "rope": _rope(config, theta=1e6), "window": config.get("sliding_window") or 0,
        "experts": config["num_local_experts"], "experts_per_token": config["num_experts_per_tok"],
    }  # fmt: skip


def _gemma2(config: Config) -> Fields:
    """Layers 0, 2, 4 have the window, and the embedding is scaled by the root of its width."""
    _only(config, "hidden_activation", "gelu_pytorch_tanh")
    _only(config, "attention_bias", False)
    return _common(config, tied=True) | {
        "rope": _rope(config), "activation": "geglu_tanh", "post_norm": True, "window_every": 2,
        "window": config.get("sliding_window") or 0, "attention_scale": config["query_pre_attn_scalar"] ** -0.5,
        "attention_softcap": config.get("attn_logit_softcapping") or 0.0,
        "logit_softcap": config.get("final_logit_softcapping") or 0.0,
        "embedding_scale": config["hidden_size"] ** 0.5,
    }  # fmt: skip


def _common(config: Config, tied: bool = False) -> Fields:
    """Names that all but the oldest families share; ``tied`` is the family's own default."""
    return {
        "hidden": config["hidden_size"],
        "intermediate": config["intermediate_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "kv_heads": config.get("num_key_value_heads") or config["num_attention_heads"],
        "head_dim": config.get("head_dim") or 0,
        "vocab": config["vocab_size"],
        "tied": _flag(config, "tie_word_embeddings", tied),
        "norm_eps": config.get("rms_norm_eps", 1e-6),
    }


_ROPE_KINDS = ("default", "llama3")


def _rope(config: Config, theta: float = 10000.0) -> Fields:
    """Rotation; ``rope_parameters`` is the newer name of ``rope_scaling``, ``theta`` the family's default."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in _ROPE_KINDS:
        raise InputError(expected(kind, _ROPE_KINDS), field="rope_scaling.rope_type")
    rope = {"kind": kind, "theta": scaling.get("rope_theta", config.get("rope_theta", theta))}
    if kind == "llama3":
        rope |= {name: scaling[name] for name in ("factor", "low_freq_factor", "high_freq_factor")}
        rope["original_positions"] = scaling["original_max_position_embeddings"]
    return rope


def _gpt2(config: Config) -> Fields:
    _only(config, "activation_function", "gelu_new")
    _only(config, "scale_attn_weights", True)
    _only(config, "scale_attn_by_inverse_layer_idx", False)
    biases = dict.fromkeys(("attention_bias", "output_bias", "mlp_bias", "norm_bias"), True)
    return biases | {
        "hidden": config["n_embd"], "intermediate": config.get("n_inner") or 4 * config["n_embd"],
        "layers": config["n_layer"], "heads": config["n_head"], "vocab": config["vocab_size"],
        "tied": _flag(config, "tie_word_embeddings", True), "activation": "gelu_tanh", "norm": "layernorm",
        "norm_eps": config.get("layer_norm_epsilon", 1e-5), "positions": "learned",
        "max_positions": config["n_positions"],
    }  # fmt: skip


def _mpt(config: Config) -> Fields:
    """ALiBi replaces the learned positions that the config also names."""
    attention = config.get("attn_config") or {}
    for name, value in {"alibi": True, "alibi_bias_max": 8, "clip_qkv": None, "qk_ln": False}.items():
        _only({"alibi": True} | dict(attention), name, value, within="attn_config.")
    _only(config, "logit_scale", None)
    biases = dict.fromkeys(("attention_bias", "output_bias", "mlp_bias", "norm_bias"), not config.get("no_bias", True))
    return biases | {
        "hidden": config["d_model"], "intermediate": config.get("expansion_ratio", 4) * config["d_model"],
        "layers": config["n_layers"], "heads": config["n_heads"], "kv_heads": attention.get("kv_n_heads") or 0,
        "vocab": config["vocab_size"], "tied": _flag(config, "tie_word_embeddings", True),
        "activation": "gelu_erf", "norm": "layernorm", "norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "positions": "alibi", "attention_scale": attention.get("softmax_scale") or 0.0,
    }  # fmt: skip


def _only(config: Config, key: str, value: object, within: str = "") -> None:
    """Refuse a key that is there with a value other than the one the shape means."""
    found = config.get(key, value)
    if found != value:
        raise InputError(f"found {shorten(found)}, expected {shorten(value)}", field=f"{within}{key}")


FAMILIES: dict[str, Callable[[Config], Fields]] = {
    "gemma2": _gemma2, "gpt2": _gpt2, "llama": _llama, "mixtral": _mixtral, "mpt": _mpt, "qwen3": _qwen3,
}  # fmt: skip

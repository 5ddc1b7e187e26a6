"""A tiny shape of every family of decoder, with all that tells the family apart."""

from typing import Any

SMALL = {"hidden": 48, "intermediate": 104, "layers": 2, "heads": 6, "kv_heads": 2, "vocab": 97}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": SMALL | {"rope": {"kind": "llama3", "theta": 5e5, "factor": 8.0, "original_positions": 16}},
    "gpt2": SMALL
    | {
        "kv_heads": 6, "tied": True, "activation": "gelu_tanh", "norm": "layernorm", "positions": "learned",
        "max_positions": 45, "attention_bias": True, "output_bias": True, "mlp_bias": True, "norm_bias": True,
    },
    "qwen3": SMALL | {"head_dim": 16, "qk_norm": True, "norm_eps": 1e-6},
    "mixtral": SMALL | {"experts": 4, "experts_per_token": 2},
    "mpt": SMALL
    | {"kv_heads": 6, "tied": True, "activation": "gelu_erf", "norm": "layernorm", "positions": "alibi"},
    "gemma2": SMALL
    | {
        "layers": 3, "tied": True, "activation": "geglu_tanh", "post_norm": True, "window": 9, "window_every": 2,
        "attention_softcap": 3.0, "logit_softcap": 2.0, "embedding_scale": 48**0.5, "attention_scale": 0.3,
    },
}  # fmt: skip

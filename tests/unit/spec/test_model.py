"""Model shapes by name, inline and from a Hugging Face config."""

import json
from pathlib import Path
from typing import Any

import pytest

from perwatt import configs
from perwatt.errors import InputError
from perwatt.spec.model import context, resolve

LLAMA_1B = {  # as published with the weights
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 2048,
    "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 64, "vocab_size": 128256, "tie_word_embeddings": True, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
    "max_position_embeddings": 131072, "attention_bias": False, "mlp_bias": False, "torch_dtype": "bfloat16",
    "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
}  # fmt: skip
LLAMA_8B = {
    "model_type": "llama", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "tie_word_embeddings": False, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "rope_scaling": None,
}  # fmt: skip

GPT2 = {
    "model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05, "n_ctx": 1024, "n_embd": 768,
    "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257, "resid_pdrop": 0.1,
}  # fmt: skip
QWEN3_8B = {
    "model_type": "qwen3", "attention_bias": False, "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096,
    "intermediate_size": 12288, "max_position_embeddings": 40960, "max_window_layers": 36, "num_attention_heads": 32,
    "num_hidden_layers": 36, "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": None,
    "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": False, "use_sliding_window": False,
    "vocab_size": 151936,
}  # fmt: skip
MIXTRAL = {
    "model_type": "mixtral", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "num_local_experts": 8, "output_router_logits": False, "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02, "sliding_window": None, "tie_word_embeddings": False,
    "vocab_size": 32000,
}  # fmt: skip
MPT_7B = {
    "model_type": "mpt", "d_model": 4096, "expansion_ratio": 4, "learned_pos_emb": True, "logit_scale": None,
    "max_seq_len": 2048, "n_heads": 32, "n_layers": 32, "no_bias": True, "norm_type": "low_precision_layernorm",
    "vocab_size": 50432,
    "attn_config": {"alibi": True, "alibi_bias_max": 8, "attn_impl": "torch", "attn_pdrop": 0, "clip_qkv": None,
                    "attn_type": "multihead_attention", "prefix_lm": False, "qk_ln": False, "softmax_scale": None},
}  # fmt: skip
GEMMA_2_9B = {
    "model_type": "gemma2", "attention_bias": False, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    "head_dim": 256, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 3584,
    "intermediate_size": 14336, "max_position_embeddings": 8192, "num_attention_heads": 16, "num_hidden_layers": 42,
    "num_key_value_heads": 8, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_theta": 10000.0,
    "sliding_window": 4096, "vocab_size": 256000,
}  # fmt: skip
PUBLISHED = {
    "llama-3.2-1b": LLAMA_1B, "llama-3-8b": LLAMA_8B, "gpt2-124m": GPT2, "qwen3-8b": QWEN3_8B, "mixtral-8x7b": MIXTRAL,
    "mpt-7b": MPT_7B, "gemma-2-9b": GEMMA_2_9B,
    "gpt2-1.5b": GPT2 | {"n_embd": 1600, "n_head": 25, "n_layer": 48},
    "llama-3-70b": LLAMA_8B | {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
                               "num_attention_heads": 64},
    "llama-3.1-405b": LLAMA_8B | {"hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126,
                                  "num_attention_heads": 128,
                                  "rope_scaling": LLAMA_1B["rope_scaling"] | {"factor": 8.0}},  # type: ignore[operator]
}  # fmt: skip
BASE = {"hidden": 64, "intermediate": 128, "layers": 3, "heads": 2, "vocab": 100}


def config(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA_1B, **changes}))
    return str(path)


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items(), ids=PUBLISHED)
def test_a_name_and_its_config_are_one_shape(name: str, published: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(published))
    assert resolve(str(path)) == resolve(name) == resolve(resolve(name).model_dump())


def test_the_newer_name_of_rope_scaling_is_read(tmp_path: Path) -> None:
    parameters = {**LLAMA_1B["rope_scaling"], "rope_theta": 500000.0}  # type: ignore[dict-item]
    assert resolve(config(tmp_path, rope_scaling=None, rope_theta=None, rope_parameters=parameters)) == resolve(
        "llama-3.2-1b"
    )


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama-tiny", 5_261_568),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3-8b", 8_030_261_248),
        ("llama-3-70b", 70_553_706_496),
        ("llama-3.1-405b", 405_853_388_800),
        ("gpt2-124m", 124_439_808),
        ("gpt2-1.5b", 1_557_611_200),
        ("qwen3-8b", 8_190_735_360),
        ("mixtral-8x7b", 46_702_792_704),
        ("mpt-7b", 6_649_286_656),
        ("gemma-2-9b", 9_241_705_984),
    ],
)
def test_parameters_are_those_published(name: str, parameters: int) -> None:
    assert resolve(name).parameters == parameters


@pytest.mark.parametrize("name", configs.names("models"))
def test_every_shipped_model_resolves_and_names_its_source(name: str) -> None:
    assert resolve(name).parameters > 0
    assert "source:" in configs.find("models", name).read_text()


def test_layers_cut_a_model_but_do_not_grow_it() -> None:
    assert resolve("llama-3-8b", layers=8).layers == 8
    with pytest.raises(InputError, match="at most the model's 32"):
        resolve("llama-3-8b", layers=33)


def test_fields_without_a_meaning_do_not_tell_shapes_apart() -> None:
    base = {"hidden": 64, "intermediate": 128, "layers": 1, "heads": 2, "vocab": 100}
    assert resolve({**base, "max_positions": 2048}) == resolve(base)
    assert resolve({**base, "rope": {"original_positions": 4096}}) == resolve(base)
    assert resolve({**base, "kv_heads": 2, "head_dim": 32}) == resolve(base)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_heads": 3}, "does not divide heads"), ({"heads": 3}, "does not divide hidden"), ({"head_dim": 5}, "odd"),
        ({"layers": 0}, "expected at least 1"), ({"hiden": 3}, "did you mean 'hidden'"),
        ({"activation": "relu"}, "one of .*swiglu"), ({"vocab": "many"}, "a number"),
        ({"positions": "learned"}, "max_positions"), ({"norm_bias": True}, "rmsnorm has no bias"),
        ({"experts_per_token": 2}, "need experts"), ({"routing": "balanced"}, "need experts"),
        ({"experts": 4}, "experts_per_token 0, expected 1 to 4"),
        ({"experts": 4, "experts_per_token": 5}, "expected 1 to 4"),
        ({"experts": 4, "experts_per_token": 2, "mlp_bias": True}, "mlp_bias"),
    ],
)  # fmt: skip
def test_a_shape_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    base = {"hidden": 64, "intermediate": 128, "layers": 1, "heads": 2, "vocab": 100}
    with pytest.raises(InputError, match=message):
        resolve({**base, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "lama"}, "did you mean 'llama'"), ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_type"), ({"num_attention_heads": 31}, "kv_heads"),
        ({"rope_scaling": "yarn"}, "wrong kind"), ({"rms_norm_eps": float("inf")}, "finite"),
    ],
)  # fmt: skip
def test_a_config_that_is_not_understood_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as refused:
        resolve(config(tmp_path, **change))
    assert refused.value.file is not None


def test_a_file_that_is_no_config_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(InputError, match="cannot read"):
        resolve(str(path))
    path.write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        resolve(str(path))
    path.write_text('{"model_type": "llama"}')
    with pytest.raises(InputError, match="hidden_size"):
        resolve(str(path))


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"did you mean 'llama-3-8b'"):
        resolve("llama3-8b")


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("gpt2-124m", {"activation_function": "relu"}, "activation_function"),
        ("gpt2-124m", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("qwen3-8b", {"use_sliding_window": True}, "use_sliding_window"),
        ("mixtral-8x7b", {"hidden_act": "gelu"}, "hidden_act"),
        ("mpt-7b", {"attn_config": {"alibi": False}}, "attn_config.alibi"),
        ("mpt-7b", {"attn_config": {"alibi": True, "qk_ln": True}}, "attn_config.qk_ln"),
        ("mpt-7b", {"logit_scale": 2}, "logit_scale"),
        ("gemma-2-9b", {"hidden_activation": "gelu"}, "hidden_activation"),
    ],
)
def test_what_a_shape_cannot_say_is_refused(name: str, change: dict[str, Any], field: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(PUBLISHED[name] | change))
    with pytest.raises(InputError) as refused:
        resolve(str(path))
    assert (refused.value.field, refused.value.file) == (field, str(path))


def test_biases_and_windows_of_configs_are_read(tmp_path: Path) -> None:
    biased = resolve(config(tmp_path, attention_bias=True))
    assert (biased.attention_bias, biased.output_bias, biased.mlp_bias) == (True, True, False)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(MIXTRAL | {"sliding_window": 4096}))
    assert (resolve(str(path)).window, resolve(str(path)).window_every) == (4096, 1)


def test_scale_and_windows_have_one_spelling() -> None:
    assert resolve({**BASE, "attention_scale": 32**-0.5}) == resolve(BASE)
    assert resolve({**BASE, "attention_scale": 0.2}) != resolve(BASE)
    assert resolve({**BASE, "window_every": 2}) == resolve(BASE)
    assert resolve({**BASE, "positions": "alibi", "max_positions": 9}) == resolve({**BASE, "positions": "alibi"})


def test_experts_are_routed_by_the_fixed_rule_and_say_so() -> None:
    assert resolve(BASE).routing == "none"
    assert resolve({**BASE, "experts": 4, "experts_per_token": 2}).routing == "balanced"


def test_a_token_meets_its_experts_only() -> None:
    shape = resolve("mixtral-8x7b")
    expert = 3 * 4096 * 14336
    assert shape.product_parameters - shape.linear_parameters == 32 * 6 * expert
    assert shape.linear_parameters + 32000 * 4096 == pytest.approx(12.9e9, rel=2e-3)  # active, as published


@pytest.mark.parametrize("seq", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("fields", [{}, {"window": 4}, {"window": 4, "window_every": 2}, {"window": 1}])
def test_pairs_are_those_of_the_masks(seq: int, fields: dict[str, Any]) -> None:
    shape = resolve({**BASE, **fields})
    seen = [
        (layer, query, key)
        for layer in range(shape.layers)
        for query in range(seq)
        for key in range(query + 1)
        if not shape.window_of(layer) or query - key < shape.window_of(layer)
    ]
    assert shape.pairs(seq) == len(seen)


def test_every_second_layer_has_the_window_the_first_among_them() -> None:
    assert [resolve("gemma-2-9b").window_of(layer) for layer in range(4)] == [4096, 0, 4096, 0]


def test_how_long_a_sequence_may_be_is_known_but_not_in_the_shape(tmp_path: Path) -> None:
    assert context("llama-3-8b") == 8192
    assert context(str(config(tmp_path, max_position_embeddings=4096))) == 4096
    assert context("llama-tiny") == context({"hidden": 8}) == 0
    assert resolve(str(config(tmp_path, max_position_embeddings=16))) == resolve(str(config(tmp_path)))

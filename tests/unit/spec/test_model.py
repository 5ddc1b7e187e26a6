"""Model shapes by name, inline and from a Hugging Face config."""

import json
from pathlib import Path
from typing import Any

import pytest

from perwatt import configs
from perwatt.errors import InputError
from perwatt.spec.model import ModelShape, resolve

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


def config(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA_1B, **changes}))
    return str(path)


@pytest.mark.parametrize(("name", "published"), [("llama-3.2-1b", LLAMA_1B), ("llama-3-8b", LLAMA_8B)])
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
    [("llama-tiny", 5_261_568), ("llama-3.2-1b", 1_235_814_400), ("llama-3-8b", 8_030_261_248)],
)
def test_parameters_are_those_published(name: str, parameters: int) -> None:
    assert resolve(name).parameters == parameters


@pytest.mark.parametrize("name", configs.names("models"))
def test_every_shipped_model_resolves_and_names_its_source(name: str) -> None:
    assert resolve(name).llama_style is None
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


def test_llama_style_names_what_is_not() -> None:
    base = {"hidden": 64, "intermediate": 128, "layers": 1, "heads": 2, "vocab": 100}
    assert ModelShape(**base).llama_style is None
    assert ModelShape(**base, qk_norm=True).llama_style == "qk_norm: True"

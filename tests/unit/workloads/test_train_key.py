"""train_step: what is in the key and what is not, and messages that make the same case again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perwatt.spec.case import build
from perwatt.spec.model import ModelShape, resolve
from perwatt.workloads.train_params import ARRANGEMENT, TrainStepParams
from support.training import INLINE, case

pytestmark = pytest.mark.usefixtures("one_thread")


LEFT: dict[str, dict[str, Any]] = {
    "batch": {"batch": 4},
    "seq": {"seq": 32},
    "layers": {"layers": 1},
    "optimizer": {"optimizer": "sgd"},
    "momentum": {"optimizer": "muon", "momentum": 0.9},
    "nesterov": {"optimizer": "muon", "nesterov": False},
    "ns_steps": {"optimizer": "muon", "ns_steps": 6},
    "ns_coefficients": {"optimizer": "muon", "ns_coefficients": (3.4445, -4.775, 2.0)},
    "ns_eps": {"optimizer": "muon", "ns_eps": 1e-8},
    "lr_adjust": {"optimizer": "muon", "lr_adjust": "original"},
    "lr": {"lr": 2e-4},
    "betas": {"betas": (0.9, 0.999)},
    "eps": {"eps": 1e-6},
    "weight_decay": {"weight_decay": 0.0},
    "decay": {"decay": "all"},
    "clip": {"clip": 0},
    "loss_reduction": {"loss_reduction": "sum"},
    "ignore_index": {"ignore_index": 0},
    "dropout": {"dropout": 0.1},
    "logits": {"logits": "bf16"},
    "moments": {"moments": "bf16"},
    "accumulate": {"accumulate": "bf16"},
}

ALIBI = INLINE | {"positions": "alibi"}

MIXED = INLINE | {"experts": 4, "experts_per_token": 2}

FAMILY_FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (INLINE, {"qk_norm": True}), (INLINE, {"attention_bias": True}), (INLINE, {"output_bias": True}),
    (INLINE, {"mlp_bias": True}), (INLINE, {"head_bias": True}), (INLINE, {"norm": "layernorm"}),
    (INLINE | {"norm": "layernorm"}, {"norm_bias": True}), (INLINE, {"post_norm": True}), (INLINE, {"window": 8}),
    (INLINE | {"window": 8}, {"window_every": 2}), (INLINE, {"attention_scale": 0.2}),
    (INLINE, {"attention_softcap": 50.0}), (INLINE, {"logit_softcap": 30.0}), (INLINE, {"embedding_scale": 8.0}),
    (INLINE, {"activation": "geglu_tanh"}), (INLINE, {"activation": "gelu_tanh"}), (INLINE, {"activation": "gelu_erf"}),
    (INLINE, {"positions": "alibi"}), (ALIBI, {"positions": "learned", "max_positions": 16}),
    (INLINE | {"positions": "learned", "max_positions": 16}, {"max_positions": 17}), (INLINE, MIXED),
    (MIXED, {"experts": 5}), (MIXED, {"experts_per_token": 3}),
]  # fmt: skip

SHAPE: dict[str, Any] = {
    "hidden": 128, "intermediate": 168, "layers": 3, "heads": 8, "kv_heads": 4, "head_dim": 32, "vocab": 304,
    "tied": True, "norm_eps": 1e-6, "rope": {"theta": 5e5},
}  # fmt: skip

LLAMA3 = {"kind": "llama3", "theta": 5e5, "factor": 8.0}


def test_every_parameter_has_a_test() -> None:
    assert LEFT.keys() | {"model", *ARRANGEMENT} == TrainStepParams.model_fields.keys()


@pytest.mark.parametrize("params", LEFT.values(), ids=LEFT)
def test_parameters_change_the_key(params: dict[str, Any]) -> None:
    other = {"optimizer": "muon"} if params.get("optimizer") == "muon" else {}
    assert case(params).match_key != case(other).match_key


@pytest.mark.parametrize(("field", "value"), SHAPE.items())
def test_fields_of_the_shape_change_the_key(field: str, value: object) -> None:
    assert case({"model": INLINE | {field: value}}).match_key != case().match_key


@pytest.mark.parametrize(("model", "change"), FAMILY_FIELDS)
def test_fields_of_families_change_the_key(model: dict[str, Any], change: dict[str, Any]) -> None:
    assert case({"model": model | change}).match_key != case({"model": model}).match_key


def test_every_field_of_the_shape_has_a_test() -> None:
    changed = SHAPE.keys() | {name for _, change in FAMILY_FIELDS for name in change}
    assert changed | {"routing"} == ModelShape.model_fields.keys()


def test_routing_stands_in_the_work_of_mixtures_only() -> None:
    assert case({"model": MIXED}).work["params"]["model"]["routing"] == "balanced"
    assert case().work["params"]["model"]["routing"] == "none"


def test_rope_scaling_changes_the_key() -> None:
    keys = {
        case({"model": INLINE | {"rope": rope}}).match_key
        for rope in (
            LLAMA3,
            LLAMA3 | {"factor": 9.0},
            LLAMA3 | {"low_freq_factor": 2.0},
            LLAMA3 | {"original_positions": 4},
        )
    }
    assert len(keys) == 4


def test_precision_and_data_change_the_key() -> None:
    keys = {
        case(**fields).match_key
        for fields in ({}, {"precision": "bf16"}, {"precision": "bf16_master"}, {"data": "zeros"})
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    "fields", [{"name": "other"}, {"impl": ["torch.compile"]}, {"placement": "chip"}, {"measure": {"target_ci": 0.1}}]
)
def test_what_is_not_mathematics_leaves_the_key(fields: dict[str, Any]) -> None:
    assert case(**fields).match_key == case().match_key


@pytest.mark.parametrize(
    ("spelled", "plain"),
    [
        ({"logits": "fp32", "moments": "fp32", "accumulate": "fp32"}, {}),
        ({"layers": 2}, {}),
        ({"model": INLINE | {"head_dim": 16, "rope": {"factor": 3.0}, "max_positions": 9}}, {}),
        ({"momentum": 0.95, "nesterov": True, "ns_steps": 5}, {}),
        ({"optimizer": "sgd", "betas": [0.9, 0.95], "eps": 1e-8, "moments": "policy"}, {"optimizer": "sgd"}),
        ({"weight_decay": 0, "decay": "all"}, {"weight_decay": 0}),
        ({"model": INLINE | {"window": 16, "window_every": 2}}, {}),  # as long as the sequence
        ({"model": INLINE | {"attention_scale": 0.25}}, {}),
        ({"lr": 1}, {"lr": 1.0}),
    ],
)
def test_equal_mathematics_has_one_key(spelled: dict[str, Any], plain: dict[str, Any]) -> None:
    assert case(spelled).match_key == case(plain).match_key


def test_policy_formats_are_those_of_the_policy() -> None:
    assert case({"logits": "bf16"}, precision="bf16_master").match_key == case(precision="bf16_master").match_key
    assert case({"moments": "bf16"}, precision="bf16_master").match_key != case(precision="bf16_master").match_key


HF_1B = {
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 128256,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}


def test_name_inline_shape_and_config_have_one_key(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(HF_1B))
    named = case({"model": "llama-3.2-1b"})
    inline = case({"model": resolve("llama-3.2-1b").model_dump(mode="json")})
    configured = case({"model": str(path)})
    assert named.match_key == inline.match_key == configured.match_key
    assert "llama" not in json.dumps(named.work["params"]).replace("llama3", "")
    cut = case({"model": str(path), "layers": 4})
    assert cut.match_key == case({"model": resolve("llama-3.2-1b").model_dump(mode="json") | {"layers": 4}}).match_key


@pytest.mark.parametrize("params", [{}, {"layers": 1, "betas": [0.9, 0.99]}, {"model": "llama-3-8b", "layers": 8}])
def test_a_message_makes_the_same_case_again(params: dict[str, Any]) -> None:
    made = case(params, precision="bf16_master")
    again = build(json.loads(json.dumps(made.message())))
    assert (again.match_key, again.name, again.work) == (made.match_key, made.name, made.work)


def test_a_message_does_not_need_the_config_any_more(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(HF_1B))
    made = case({"model": str(path), "layers": 2})
    message = json.loads(json.dumps(made.message()))
    path.unlink()
    again = build(message)
    assert again.match_key == made.match_key
    assert again.workload.counts(again.params, "step", again.precision).per_layer


def test_the_loss_scale_of_fp16_is_in_the_work() -> None:
    scales = {
        (precision, reduction): case({"loss_reduction": reduction}, precision=precision)
        .work["params"]
        .get("loss_scale")
        for precision in ("fp16", "bf16")
        for reduction in ("mean", "sum")
    }
    assert scales == {("fp16", "mean"): 4096.0, ("fp16", "sum"): 1.0, ("bf16", "mean"): None, ("bf16", "sum"): None}

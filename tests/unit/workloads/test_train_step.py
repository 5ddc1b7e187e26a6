"""train_step: parameters, keys, counts, memory, impls, and a session from end to end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fakes.families import FAMILIES
from perwatt.backends.cpu import BACKEND
from perwatt.errors import InputError
from perwatt.models.trainer import Trainer
from perwatt.spec.case import Case, build
from perwatt.spec.data import Source
from perwatt.spec.model import ModelShape, resolve
from perwatt.spec.precision import policy
from perwatt.workloads.train_memory import footprint
from perwatt.workloads.train_params import ARRANGEMENT, TrainStepParams
from perwatt.workloads.train_step import WORKLOAD

INLINE: dict[str, Any] = {"hidden": 64, "intermediate": 160, "layers": 2, "heads": 4, "kv_heads": 2, "vocab": 300}
BASE: dict[str, Any] = {"model": INLINE, "batch": 2, "seq": 16}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, which lose much when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def case(params: dict[str, Any] | None = None, **fields: Any) -> Case:
    return build({"workload": "train_step", "params": BASE | (params or {}), **fields})


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


@pytest.mark.parametrize(
    ("params", "field", "words"),
    [
        ({"model": "llama-tinny"}, "params.model", "llama-tiny"),
        ({"model": INLINE | {"hiden": 3}}, "params.model.hiden", "hidden"),
        ({"model": INLINE | {"heads": 5}}, "params.model", "does not divide"),
        ({"model": INLINE | {"hidden": -1}}, "params.model.hidden", "-1"),
        ({"model": INLINE | {"norm_bias": True}}, "params.model", "rmsnorm has no bias"),
        ({"model": INLINE | {"experts": 2}}, "params.model", "experts_per_token"),
        ({"model": INLINE | {"positions": "learned", "max_positions": 15}}, "params.seq", "at most the 15"),
        ({"model": "llama-3-8b", "seq": 8193}, "params.seq", "at most the 8192 tokens"),
        ({"model": "nowhere/config.json"}, "params.model", "cannot read"),
        ({"layers": 3}, "params.layers", "at most"),
        ({"layers": 0}, "params.layers", "0"),
        ({"batch": 0}, "params.batch", "0"),
        ({"seq": 2**40}, "params.seq", str(2**40)),
        ({"lr": float("nan")}, "params.lr", "nan"),
        ({"lr": 0}, "params.lr", "0"),
        ({"lr": -1e-3}, "params.lr", "-0.001"),
        ({"betas": [0.9, 1.0]}, "params.betas[1]", "1.0"),
        ({"betas": [-0.1, 0.9]}, "params.betas[0]", "-0.1"),
        ({"optimizer": "sgd", "betas": [0.9, 0.99]}, "params.betas", "sgd has no betas"),
        ({"optimizer": "sgd", "eps": 1e-6}, "params.eps", "sgd has no eps"),
        ({"momentum": 0.9}, "params.momentum", "adamw has no momentum (muon has it)"),
        ({"nesterov": False}, "params.nesterov", "adamw has no nesterov"),
        ({"optimizer": "muon", "momentum": 1.0}, "params.momentum", "1.0"),
        ({"optimizer": "muon", "ns_steps": 100}, "params.ns_steps", "100"),
        ({"optimizer": "muon", "lr_adjust": "orignal"}, "params.lr_adjust", "original"),
        ({"optimizer": "adam"}, "params.optimizer", "adam"),
        ({"sequence": 3}, "params.sequence", "seq"),
    ],
)
def test_wrong_parameters_are_named(params: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        case(params)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("params", "precision", "words"),
    [
        ({}, "fp16", "second moments"),
        ({"optimizer": "muon"}, "fp16", "second moments"),
        ({}, "tf32", "tf32"),
        ({}, "bf16_sr", "stochastic"),
        ({}, "mxfp8", "mxfp8"),
        ({"dropout": 0.1}, "fp32", "dropout"),
        ({"moments": "bf16"}, "bf16_master", "moments"),
        ({"optimizer": "muon", "nesterov": False}, "bf16", "nesterov"),
        ({"accumulate": "bf16"}, "bf16", "accumulate"),
        ({"logits": "fp32"}, "bf16", "logits"),
        ({"logits": "fp16"}, "fp32", "logits"),
    ],
)
def test_what_cannot_be_done_is_unsupported_with_a_reason(params: dict[str, Any], precision: str, words: str) -> None:
    made = case(params, precision=precision)
    for impl in WORKLOAD.impls().values():
        assert words in (WORKLOAD.unsupported(made, impl, BACKEND) or "")


@pytest.mark.parametrize(
    ("precision", "optimizer"),
    [("fp32", "adamw"), ("bf16", "adamw"), ("bf16_master", "muon"), ("fp16", "sgd"), ("bf16_autocast", "adamw")],
)
def test_training_policies_are_supported(precision: str, optimizer: str) -> None:
    made = case({"optimizer": optimizer}, precision=precision)
    assert WORKLOAD.unsupported(made, WORKLOAD.impls()["torch"], BACKEND) is None


def test_the_loss_scale_of_fp16_is_in_the_work() -> None:
    scales = {
        (precision, reduction): case({"loss_reduction": reduction}, precision=precision)
        .work["params"]
        .get("loss_scale")
        for precision in ("fp16", "bf16")
        for reduction in ("mean", "sum")
    }
    assert scales == {("fp16", "mean"): 4096.0, ("fp16", "sum"): 1.0, ("bf16", "mean"): None, ("bf16", "sum"): None}


def test_a_session_in_fp16_from_end_to_end() -> None:
    opened = session({"optimizer": "sgd", "lr": 1e-2, "grad_accum": 2}, precision="fp16")
    losses = [float(opened.run(0)) for _ in range(4)]
    assert losses[-1] < losses[0]
    assert opened.check(0).ok
    assert all(w.dtype == torch.float16 for w in opened._trainer.weights().values())


# Counts


def megatron(shape: ModelShape, batch: int, seq: int) -> float:
    """FLOPs of a step as Megatron-LM's ``num_floating_point_operations`` has them: half the square of scores."""
    h, query_ratio = shape.hidden, shape.heads * shape.head_dim / shape.hidden
    attention = (1 + shape.kv_heads / shape.heads + seq / h / 2) * query_ratio
    mlp = shape.intermediate / h * 3 / 2
    logits = shape.vocab / (2 * shape.layers * h)
    return 12 * batch * seq * shape.layers * h * h * (attention + mlp + logits)


@pytest.mark.parametrize("seq", [128, 4096, 8192])
@pytest.mark.parametrize("model", ["llama-tiny", "llama-3.2-1b", "llama-3-8b"])
def test_flops_agree_with_megatron(model: str, seq: int) -> None:
    """We count S (S + 1) / 2 pairs, Megatron S^2 / 2: a token's own key is a pair. That is (S + 1) / S of attention."""
    params = TrainStepParams(model=model, batch=3, seq=seq)
    counts = WORKLOAD.counts(params, "step", policy("bf16_master"))
    assert counts.flops == pytest.approx(megatron(params.shape, 3, seq), rel=1e-3)
    shape = params.shape
    attention = 6 * shape.layers * seq * shape.heads * shape.head_dim * params.tokens
    assert counts.flops == pytest.approx(megatron(shape, 3, seq) + attention / seq, rel=1e-12)
    assert counts.flops == pytest.approx(
        6 * shape.linear_parameters * params.tokens + attention * (seq + 1) / seq, rel=1e-12
    )


def test_tokens_and_cuts() -> None:
    whole = WORKLOAD.counts(TrainStepParams(model="llama-tiny", batch=4, seq=128), "step", policy("fp32"))
    cut = WORKLOAD.counts(TrainStepParams(model="llama-tiny", batch=4, seq=128, layers=2), "step", policy("fp32"))
    full = WORKLOAD.counts(TrainStepParams(model="llama-tiny", batch=4, seq=128, layers=4), "step", policy("fp32"))
    assert (whole.tokens, whole.bytes, whole.per_layer, cut.per_layer, full.per_layer) == (
        512,
        None,
        False,
        True,
        False,
    )


MODELS = {"grouped": INLINE, "tied": INLINE | {"tied": True, "kv_heads": 4}} | FAMILIES


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("precision", ["fp32", "bf16_master"])
def test_flops_agree_with_the_flop_counter(model: dict[str, Any], precision: str) -> None:
    """On CPUs the counter sees the unfused path only, which computes the full square: ours is (S + 1) / 2S of it."""
    params = TrainStepParams(model=model, batch=2, seq=16)
    trainer = Trainer(params, policy(precision), torch.device("cpu"), lambda function: function, 1)
    trainer.fill(Source(0), "normal", -4)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        trainer.run(0)
    shape, seq = params.shape, params.seq
    one = 12 * params.batch * shape.head_dim * shape.heads  # FLOPs of one pair in all heads
    counted = counter.get_total_flops() - _mixing(shape, params.tokens)
    assert counted > 0
    wanted = WORKLOAD.counts(params, "step", policy(precision)).flops
    assert counted - one * seq**2 * shape.layers + one * shape.pairs(seq) == wanted


def _mixing(shape: ModelShape, tokens: int) -> int:
    """Weighting of experts' results, which is done by a small product in the model and is no product by convention."""
    return 6 * tokens * shape.experts_per_token * shape.hidden * shape.layers


# Memory


@pytest.mark.parametrize(
    ("precision", "model"),
    [(precision, name) for precision in ("fp32", "bf16", "bf16_master") for name in MODELS]
    + [("bf16_autocast", "llama")],
)
def test_activations_are_what_autograd_saves(precision: str, model: str) -> None:
    """What is left out are a norm's one or two numbers a row and the weights of norms cast for products."""
    params = TrainStepParams(model=MODELS[model] | {"hidden": 96, "head_dim": 16}, batch=2, seq=32)
    trainer = Trainer(params, policy(precision), torch.device("cpu"), lambda function: function, 1)
    trainer.fill(Source(0), "normal", -4)
    standing = [*trainer.model.parameters(), *trainer.model.buffers(), trainer.tokens, trainer.labels]
    own = {tensor.untyped_storage().data_ptr() for tensor in standing}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16_autocast"):
        loss = trainer.loss(trainer.tokens[0], trainer.labels[0])
    kept = sum(storage.nbytes() for storage in saved.values())
    formula = footprint(params, policy(precision))
    log_softmax = formula.logits / 3
    assert loss.isfinite()
    assert 0.98 * kept <= formula.activations + log_softmax <= kept
    masks = {
        t.untyped_storage().data_ptr(): t
        for t in (trainer.model.places.whole, trainer.model.places.near)
        if t is not None
    }
    assert formula.masks == sum(mask.nbytes for mask in masks.values())


def test_memory_by_hand() -> None:
    """16 bytes a parameter with AdamW in fp32, and three fp32 copies of the logits when the backward pass starts."""
    params = TrainStepParams(model=INLINE, batch=1, seq=1)
    found = footprint(params, policy("fp32"))
    assert found.weights + found.moments + found.gradients == 16 * params.shape.parameters
    assert found.logits == 3 * 4 * 300
    assert footprint(params.model_copy(update={"optimizer": "sgd"}), policy("fp32")).moments == 0


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tied", [False, True])
def test_moments_are_what_the_optimizer_holds(optimizer: str, precision: str, tied: bool) -> None:
    params = TrainStepParams(model=INLINE | {"tied": tied}, batch=1, seq=8, optimizer=optimizer)
    trainer = Trainer(params, policy(precision), torch.device("cpu"), lambda function: function, 1)
    trainer.fill(Source(0), "normal", -4)
    trainer.run(0)
    tensors = (t for held in trainer.optimizer.state.values() for t in held.values() if isinstance(t, torch.Tensor))
    assert sum(t.nbytes for t in tensors if t.dim() > 0) == footprint(params, policy(precision)).moments


@pytest.mark.parametrize(
    ("params", "fits"),
    [
        ({"model": "llama-3-8b", "batch": 1, "seq": 1}, False),
        ({"model": "llama-3-8b", "batch": 1, "seq": 1, "layers": 1}, True),
        ({"model": "llama-3.2-1b", "batch": 1, "seq": 128}, True),
        ({"model": "llama-3.2-1b", "batch": 8, "seq": 4096}, False),
        ({"model": "llama-tiny", "batch": 4, "seq": 128}, True),
        ({"model": "llama-tiny", "batch": 2**20, "seq": 2**24}, False),
        ({"model": "gpt2-124m", "batch": 8, "seq": 1024}, True),
        ({"model": "mixtral-8x7b", "batch": 1, "seq": 16, "layers": 1}, False),  # 1.7 billion parameters x 16 bytes
        ({"model": "mpt-7b", "batch": 1, "seq": 2048, "layers": 2}, True),
        ({"model": "gemma-2-9b", "batch": 1, "seq": 4096, "layers": 2}, False),  # the vocabulary alone has 0.9 billion
    ],
)
def test_memory_tells_what_fits_into_24_gb(params: dict[str, Any], fits: bool) -> None:
    assert (WORKLOAD.memory(case(params)) <= 24e9) == fits


def test_compiled_code_is_asked_for_less() -> None:
    eager, both, compiled = (
        WORKLOAD.memory(case({"seq": 512}, impl=impls))
        for impls in (["torch"], ["torch", "torch.compile"], ["torch.compile"])
    )
    assert compiled < eager == both


# Sessions


def session(params: dict[str, Any] | None = None, impl: str = "torch", seed: int = 0, **fields: Any):
    made = case(params, **fields)
    return WORKLOAD.open(made, WORKLOAD.impls()[impl], BACKEND, seed)


def test_session_from_end_to_end() -> None:
    opened = session()
    losses = [opened.run(slot) for slot in (0, 1, 2, 3, 0)]
    assert opened.slots == 4
    assert all(isinstance(loss, torch.Tensor) and not loss.requires_grad for loss in losses)
    assert float(losses[4]) < float(losses[0])  # type: ignore[arg-type]
    before, after = opened.check(0), opened.check(1)
    assert before.ok, before
    assert after.ok, after
    assert before.rel_err != after.rel_err, "the second check has inputs of its own"
    assert opened.path() == "flash_cpu"
    opened.close()


@pytest.mark.parametrize(
    ("family", "path"), [("mixtral", "flash_cpu"), ("mpt", "flash_cpu"), ("gemma2", "written_out")]
)
def test_sessions_of_families(family: str, path: str) -> None:
    opened = session({"model": FAMILIES[family], "seq": 20}, precision="bf16_master")
    assert float(opened.run(0)) > float(opened.run(0))  # type: ignore[arg-type]
    result = opened.check(0)
    assert result.ok, result
    assert opened.flags == ()
    assert opened.path() == path


def test_weights_and_tokens_are_recorded() -> None:
    assert session({"model": "llama-tiny"}).input_digest == "5fdf36d0a2be3afe"
    assert session(seed=1).input_digest != session(seed=0).input_digest


def test_the_gate_leaves_the_batches_alone() -> None:
    opened = session()
    tokens = opened._trainer.tokens.clone()
    opened.check(0)
    assert torch.equal(opened._trainer.tokens, tokens)
    assert all(gradient is None for gradient in opened._trainer.gradients().values())


def test_nan_in_the_timed_model_is_caught() -> None:
    opened = session()
    opened.run(0)
    opened._trainer.moments("first")["layers.1.up"][3, 4] = float("nan")
    result = opened.check(1)
    assert not result.ok
    assert "layers.1.up" in result.detail


def test_nan_in_a_timed_weight_is_caught() -> None:
    opened = session()
    opened._trainer.weights()["embedding"][-1, 0] = float("nan")
    assert not opened.check(1).ok


def test_zero_weights_can_be_asked_for() -> None:
    opened = session(data="zeros")
    assert not opened._trainer.weights()["layers.0.q"].any()
    assert opened.check(0).ok


def test_full_size_gate_is_left_out_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = session()
    small = dataclasses.replace(BACKEND.describe(), memory_bytes=1e5)
    monkeypatch.setattr(type(BACKEND), "describe", lambda self: small)
    assert opened.check(0).ok
    assert opened.check(1).ok
    assert opened.flags == ("gate_reduced",)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_many_steps_at_the_default_rate_stay_finite(precision: str) -> None:
    opened = session({"model": INLINE | {"vocab": 64}}, precision=precision)
    for step in range(200):
        loss = opened.run(step % 4)
    assert torch.isfinite(loss)
    assert opened.check(1).ok


def test_compiled_sessions_have_code_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo stops compiling one code object after eight times, and says so in a warning only."""
    monkeypatch.setattr(type(BACKEND), "compile", lambda self, function: function)
    first, second = (session(impl="torch.compile") for _ in range(2))
    codes = [opened._trainer._loss.__func__.__code__ for opened in (first, second)]
    assert codes[0] is not codes[1]
    assert codes[0] is not Trainer.loss.__code__
    assert float(first.run(0)) == float(second.run(0)) == float(session().run(0))  # type: ignore[arg-type]


@pytest.mark.slow
def test_compiled_session_from_end_to_end() -> None:
    if reason := BACKEND.uncompilable():
        pytest.skip(reason)
    opened = session({"model": INLINE | {"layers": 1}}, impl="torch.compile")
    first = float(opened.run(0))  # type: ignore[arg-type]
    assert float(opened.run(0)) < first  # type: ignore[arg-type]
    assert opened.check(0).ok
    assert opened.path() == "inductor flash_cpu"

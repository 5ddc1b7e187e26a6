"""train_step: parameters that make no sense, and what cannot be done yet."""

from __future__ import annotations

from typing import Any

import pytest

from perwatt.backends.cpu import BACKEND
from perwatt.errors import InputError
from perwatt.workloads.train_step import WORKLOAD
from support.training import INLINE, case

pytestmark = pytest.mark.usefixtures("one_thread")


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

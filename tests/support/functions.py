"""A small case of every workload that is one function of tensors."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "rmsnorm": {"tokens": 300, "hidden": 96},
    "softmax": {"tokens": 300, "hidden": 96},
    "cross_entropy": {"tokens": 300, "vocab": 512},
    "lm_head_loss": {"tokens": 300, "hidden": 96, "vocab": 512},
    "rope": {"tokens": 300, "heads": 4, "head_dim": 32},
    "embedding": {"tokens": 300, "vocab": 128, "hidden": 96},
    "mlp": {"tokens": 300, "hidden": 96, "intermediate": 256},
    "grouped_gemm": {"groups": 3, "tokens": 300, "hidden": 96, "intermediate": 128},
    "transformer_layer": {"batch": 2, "seq": 48, "hidden": 64, "intermediate": 176, "heads": 4},
}

MULTIPLYING = {"mlp": "bf16", "lm_head_loss": "fp32", "transformer_layer": "fp32", "grouped_gemm": "bf16"}
"""Workloads that autocast casts for, and the format of the result that it leaves."""

"""A training step and its parts as rows of one run, each with a time that a test says."""

from __future__ import annotations

from typing import Any

from perwatt.results.schema import Row
from perwatt.spec import case as cases
from support.valid_rows import make

TOKENS, HIDDEN, HEADS, INTERMEDIATE, VOCAB = 512, 256, 4, 688, 4096  # of llama-tiny, 4 sequences of 128
LINEAR = {"qkv": (768, 256), "output": (256, 256), "up": (1376, 256), "down": (256, 688)}
STEP = {"model": "llama-tiny", "batch": 4, "seq": 128, "optimizer": "adamw"}


def row(workload: str, params: dict[str, Any], seconds: float, pass_: str = "fwd", **changes: Any) -> Row:
    """One row of a run, with its real work."""
    case = cases.build(
        {"workload": workload, "params": params, "pass": pass_, "precision": changes.pop("precision", "bf16")}
    )
    cells = {
        "case": case.name, "flops": None, "tflops": None, "time_s": seconds, "time_s_lo": seconds * 0.9,
        "time_s_hi": seconds * 1.1, "time_s_p10": seconds, "time_s_p90": seconds, "cache": case.cache and "hot",
        "chip": "h100-sxm", "devices_per_chip": 1,
    }  # fmt: skip
    return make(case.work, **cells | changes)


def step(seconds: float, params: dict[str, Any] | None = None, **changes: Any) -> Row:
    """A step of llama-tiny."""
    return row("train_step", STEP | (params or {}), seconds, "step", cache=None, **changes)


def parts(seconds: float = 1e-3, **changes: Any) -> list[Row]:
    """A row for every part of the step, of the very sizes, each of which takes as long."""
    halves = [
        ("attention", {"batch": 4, "heads": HEADS, "seq": 128, "head_dim": 64}),
        ("rmsnorm", {"tokens": TOKENS, "hidden": HIDDEN}), ("rope", {"tokens": TOKENS, "heads": HEADS, "head_dim": 64}),
        ("embedding", {"tokens": TOKENS, "vocab": VOCAB, "hidden": HIDDEN}),
        ("lm_head_loss", {"tokens": TOKENS, "hidden": HIDDEN, "vocab": VOCAB}),
    ]  # fmt: skip
    products = [
        row("gemm", {"m": TOKENS, "n": n, "k": k, "product": product}, seconds, **changes)
        for n, k in LINEAR.values() for product in ("fwd", "dgrad", "wgrad")
    ]  # fmt: skip
    both = [row(name, params, seconds, half, **changes) for name, params in halves for half in ("fwd", "bwd")]
    optimizer = row("optimizer_step", {"model": "llama-tiny", "optimizer": "adamw"}, seconds, "step", cache=None)
    return [*products, *both, optimizer]

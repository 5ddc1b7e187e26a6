"""``python -m perwatt.spec.document`` prints ``docs/precision.md``, made from the table of policies."""

from __future__ import annotations

from perwatt.spec.precision import BASIC, Precision

_HEAD = """# Precision policies

A policy spells out the number format of every quantity of a training step. The whole policy is part of the work of a
case, so rows meet in a comparison only if all of it is equal; `compare --across-formats` joins by `task_key`, which
leaves it out. The list is closed: a suite names one of these, and what a device cannot do is `unsupported`.

**Autocast.** What `bf16_autocast` casts is the framework's choice, and differs by device and version. So before a run a
fixed list of operations of a training step is run under autocast, and the formats they compute in are hashed into the
policy. The list is in the run's journal; the keys of a suite that was not run have no hash yet. Weights and what layers
hand on arrive in fp32, each call makes its own casts, and gradients of what arrives are fp32; a result has the format
that autocast leaves it (a product bf16, a layer with its residual stream and a loss fp32). Workloads without products
(norms, softmax, rotation, lookup, a loss of given logits) are `unsupported` under it: nothing in them is cast.

**fp8.** These policies are for `gemm` and `train_step`; other workloads are `unsupported` under them. In a step,
"linear layers" are those of its blocks: queries, keys and values as one matrix, the output of attention, gate and up as
one, and down. Their three products quantize, each anew and from 16 bits. Embedding, output projection, attention, norms
and all else are as in `bf16_master`. Experts, whose products are batched, are `unsupported`, and so is `_outside`.

A scale is the largest magnitude over the format's largest value, in float32 (`tensor`: one for each operand; `row`: one
for each row of the left and column of the right), or OCP's power of two for each 32 elements along the depth
(`block32`). Each policy with scales has three variants by suffix: `_fast` (the device's fast accumulation), `_outside`
(operands arrive quantized), `_outside_fast` (both). Without one, operands arrive in the activations' format and are
quantized in the timed body, and sums are as exact as the device makes them. The table leaves the variants out.

`e4m3fn` is OCP's format (largest value 448, no infinities), `e4m3` the one after IEEE 754 (240, with infinities). So
fp8 on an H100 or Trn3, on a Trn2, and MXFP8 are different policies, and one task.

This page is made from `bench/perwatt/spec/precision.py` by `python -m perwatt.spec.document`.

"""
_QUANTITIES = {
    "operands of products": "compute",
    "weights": "weights",
    "activations": "activations",
    "gradients": "gradients",
    "gradients as operands, where other": "backward",
    "gradient reduction across devices": "gradient_reduction",
    "master weights": "master_weights",
    "moments": "moments",
    "inside softmax": "softmax",
    "inside norms": "norm",
    "inside the loss": "loss",
    "logits": "logits",
    "accumulation of products": "accumulate",
    "rounding": "rounding",
    "casts": "casts",
    "scales": "scaling",
    "quantization, by the timed body": "quantize",
}


def render() -> str:
    """The page: what each policy is for, then one table of quantities by policy."""
    summaries = "".join(f"- `{policy.name}`: {policy.summary}\n" for policy in BASIC)
    head = "| | " + " | ".join(f"`{policy.name}`" for policy in BASIC) + " |\n"
    rule = "|---" * (len(BASIC) + 1) + "|\n"
    rows = "".join(_line(title, field) for title, field in _QUANTITIES.items())
    return f"{_HEAD}{summaries}\n{head}{rule}{rows}"


def _line(title: str, field: str) -> str:
    return f"| {title} | " + " | ".join(_cell(policy, field) for policy in BASIC) + " |\n"


def _cell(policy: Precision, field: str) -> str:
    value = getattr(policy, field)
    return str(value) if value not in ("", "none") else "–"


if __name__ == "__main__":
    print(render(), end="")

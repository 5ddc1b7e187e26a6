"""``python -m perwatt.spec.document`` prints ``docs/precision.md``, made from the table of policies."""

from __future__ import annotations

from perwatt.spec.precision import POLICIES, Precision

_HEAD = """# Precision policies

A policy spells out the number format of every quantity of a training step. The whole policy is part of the work of a
case, so rows meet in a comparison only if all of it is equal; `compare --across-formats` joins by `task_key`, which
leaves it out. The list is closed: a suite names one of these, and what a device cannot do is `unsupported`.

`bf16_autocast` will hold the hash of the device's autocast op list in its key; no device offers it yet.

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
    "quantization in the timed body": "quantize",
}


def render() -> str:
    """The page: what each policy is for, then one table of quantities by policy."""
    summaries = "".join(f"- `{policy.name}`: {policy.summary}\n" for policy in POLICIES.values())
    head = "| | " + " | ".join(f"`{name}`" for name in POLICIES) + " |\n"
    rule = "|---" * (len(POLICIES) + 1) + "|\n"
    rows = "".join(_line(title, field) for title, field in _QUANTITIES.items())
    return f"{_HEAD}{summaries}\n{head}{rule}{rows}"


def _line(title: str, field: str) -> str:
    return f"| {title} | " + " | ".join(_cell(policy, field) for policy in POLICIES.values()) + " |\n"


def _cell(policy: Precision, field: str) -> str:
    value = getattr(policy, field)
    return str(value) if value not in ("", "none") else "–"


if __name__ == "__main__":
    print(render(), end="")

"""Precision policies: the closed list of number formats a case may be computed in (docs/precision.md).

A policy spells out the format of every quantity of a training step, so that two chips that call different
mathematics by one name never share a match key. The whole policy, not its name, is part of the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from perwatt.errors import InputError, expected

FORMATS = {
    "fp64": 8.0,
    "fp32": 4.0,
    "tf32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "e4m3fn": 1.0,
    "e4m3": 1.0,
    "e5m2": 1.0,
    "mxfp8": 1.03125,
}
"""Bytes per element as stored; MXFP8 carries one scale byte per 32 elements.

``e4m3fn`` is OCP's (largest value 448, no infinities: H100, Trn3). ``e4m3`` follows IEEE 754 (largest value 240, with
infinities: Trn1, Trn2).
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """One policy; every field is a format name of :data:`FORMATS` unless its comment says otherwise."""

    name: str
    compute: str  # format the operands of products have: what a peak is looked up by
    weights: str
    activations: str
    gradients: str
    gradient_reduction: str  # across devices
    master_weights: str  # "none" when the weights themselves are updated
    moments: str  # optimizer state
    softmax: str  # internal arithmetic of softmax
    norm: str  # internal arithmetic of normalization
    loss: str  # internal arithmetic of the loss
    logits: str
    accumulate: str  # accumulation contract of products
    rounding: str = "nearest"  # or "stochastic"
    casts: str = "explicit"  # "explicit": written in the model; "autocast": by the framework's op list
    autocast_ops: str = ""  # hash of the backend's autocast op list; empty until the policy is bound to a backend
    scaling: str = "none"  # quantization granularity: "tensor", "row", "block32"
    backward: str = ""  # format of gradients as operands of products, where it is not `compute`
    quantize: str = ""  # quantization "inside" or "outside" the timed body
    fast_accumulation: bool = False  # of fp8 products: partial sums kept as short as the device's fast mode has them
    summary: str = ""  # for people; not part of the work

    @property
    def source(self) -> str:
        """Format in which the data of products is made, before casts and quantization."""
        if self.casts == "autocast":
            return self.weights
        return self.activations if self.quantize else self.compute

    @property
    def operands(self) -> str:
        """Format in which operands of products arrive, and are read: casts and quantization may follow in the work."""
        return self.compute if self.quantize == "outside" else self.source

    @property
    def stream(self) -> str:
        """Format of what layers hand on: autocast leaves it as wide as the weights, and casts for products only."""
        return self.weights if self.casts == "autocast" else self.activations

    def bound(self, autocast_ops: str) -> Precision:
        """This policy under a backend's autocast op list, by the list's hash; the same where nothing is autocast."""
        return replace(self, autocast_ops=autocast_ops) if self.casts == "autocast" else self

    @property
    def stored(self) -> str:
        """Format of the weights that the optimizer updates."""
        return self.weights if self.master_weights == "none" else self.master_weights

    def work(self) -> dict[str, object]:
        """What enters the match key: all fields but the summary."""
        fields = asdict(self)
        del fields["summary"]
        return fields


_FP32 = Precision(
    name="fp32", compute="fp32", weights="fp32", activations="fp32", gradients="fp32", gradient_reduction="fp32",
    master_weights="none", moments="fp32", softmax="fp32", norm="fp32", loss="fp32", logits="fp32", accumulate="fp32",
    summary="everything in IEEE single precision; products not lowered to tf32",
)  # fmt: skip
_BF16 = replace(
    _FP32, name="bf16", compute="bf16", weights="bf16", activations="bf16", gradients="bf16", moments="bf16",
    logits="bf16", summary="weights, activations, gradients and moments in bfloat16, no master copy",
)  # fmt: skip
_BF16_MASTER = replace(
    _BF16, name="bf16_master", gradients="fp32", master_weights="fp32", moments="fp32",
    summary="training default: bf16 compute by explicit casts in the model, fp32 master weights and moments",
)  # fmt: skip
_FP8 = replace(
    _BF16_MASTER, name="fp8_tensor", compute="e4m3fn", backward="e5m2", scaling="tensor", quantize="inside",
    summary="linear layers in OCP fp8 (e4m3fn forward, e5m2 gradients), one scale per tensor",
)  # fmt: skip

BASIC = (
    _FP32,
    replace(_FP32, name="tf32", compute="tf32", summary="single precision storage, products in tf32"),
    _BF16,
    replace(
        _BF16, name="fp16", compute="fp16", weights="fp16", activations="fp16", gradients="fp16", moments="fp16",
        logits="fp16", summary="as bf16, in IEEE half precision, accumulated in fp32",
    ),
    _BF16_MASTER,
    replace(
        _BF16_MASTER, name="bf16_autocast", weights="fp32", master_weights="none", casts="autocast",
        summary="fp32 weights, casts chosen by the framework's autocast op list",
    ),
    replace(_BF16, name="bf16_sr", rounding="stochastic", summary="as bf16, down-casts rounded stochastically"),
    _FP8,
    replace(_FP8, name="fp8_row", scaling="row", summary="as fp8_tensor, one scale per row of the left operand and "
            "column of the right"),
    replace(_FP8, name="fp8_tensor_ieee", compute="e4m3",
            summary="as fp8_tensor, in the e4m3 that follows IEEE 754 (largest value 240): Trn1 and Trn2"),
    replace(_FP8, name="fp8_row_ieee", compute="e4m3", scaling="row", summary="as fp8_row, in that e4m3"),
    replace(
        _FP8, name="mxfp8", compute="mxfp8", backward="mxfp8", scaling="block32",
        summary="linear layers in OCP MXFP8 (e4m3fn with one power-of-two scale per 32 elements)",
    ),
)  # fmt: skip
"""Every policy but the variants of the fp8 ones."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fast": ("fast accumulation", {"fast_accumulation": True}),
    "outside": ("operands arrive quantized", {"quantize": "outside"}),
    "outside_fast": (
        "operands arrive quantized, fast accumulation",
        {"quantize": "outside", "fast_accumulation": True},
    ),
}
"""What a suffix means and changes in a policy that quantizes (``fp8_tensor_fast``)."""


def _variants(basic: Precision) -> Iterator[Precision]:
    """A policy, and where it quantizes also its variants."""
    yield basic
    for suffix, (meaning, changes) in VARIANTS.items() if basic.quantize else ():
        yield replace(basic, name=f"{basic.name}_{suffix}", summary=f"{basic.name}, {meaning}", **changes)


POLICIES: dict[str, Precision] = {policy.name: policy for basic in BASIC for policy in _variants(basic)}


def policy(name: str) -> Precision:
    """A policy by name.

    Raises:
        InputError: unknown name; the message has the nearest one.
    """
    if name not in POLICIES:
        choices = POLICIES if "fp8" in name else [basic.name for basic in BASIC]  # variants would crowd the message
        raise InputError(expected(name, choices), field="precision")
    return POLICIES[name]

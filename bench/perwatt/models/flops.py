"""FLOPs of a token as published and as counted here: model TFLOP/s of a chip over its tokens a second, as printed.

``python -m perwatt.models.flops > docs/flops.md`` writes the page anew; a test compares, and holds each residual.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from perwatt.spec.model import resolve
from perwatt.spec.precision import policy
from perwatt.workloads.train_params import TrainStepParams
from perwatt.workloads.train_step import WORKLOAD

TRN1, V5P, V6E = 190.0, 459.0, 918.0  # dense BF16 TFLOP/s, which the rows that print an MFU alone are relative to
AGREES = 0.01  # residual that printing with three to five digits, or in multiples of 64 or 128, explains
Model = str | dict[str, Any]


class Row(NamedTuple):
    """One printed result.

    Attributes:
        table: where it is printed.
        name: of model, chips and precision.
        model: name or shape; a number is FLOPs of a token that were worked out by hand.
        seq: tokens of a sequence.
        square: whether attention is counted with its whole square, as llm-foundry and MaxText do, not with the pairs
            that a causal mask leaves, as Megatron and this project do.
        tokens_per_s: of a chip.
        tflops: model TFLOP/s of a chip.
        note: why the residual is above one percent, or that nobody knows.
    """

    table: str
    name: str
    model: Model | float
    seq: int
    square: bool
    tokens_per_s: float
    tflops: float
    note: str = ""

    @property
    def published(self) -> float:
        """FLOPs of a token."""
        return self.tflops * 1e12 / self.tokens_per_s

    @property
    def ours(self) -> float:
        """FLOPs of a token by our count, with attention's whole square where the row has it."""
        if isinstance(self.model, float):
            return self.model
        params = TrainStepParams(model=self.model, batch=1, seq=self.seq)
        flops = WORKLOAD.counts(params, "step", policy("bf16_master")).flops or 0.0
        if self.square:
            shape = params.shape
            flops += 12 * shape.heads * shape.head_dim * (shape.layers * self.seq**2 - shape.pairs(self.seq))
        return flops / self.seq

    @property
    def residual(self) -> float:
        """Ours over theirs, less one."""
        return self.ours / self.published - 1


def mpt(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    """As in llm-foundry's yamls of that size."""
    return resolve("mpt-7b").model_dump(mode="json") | {
        "hidden": hidden, "intermediate": 4 * hidden, "layers": layers, "heads": heads, "kv_heads": heads,
        "head_dim": hidden // heads,
    }  # fmt: skip


def llama(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, vocab: int = 32_000) -> Model:
    """A shape of that family."""
    return {
        "hidden": hidden, "intermediate": intermediate, "layers": layers, "heads": heads, "kv_heads": kv_heads,
        "vocab": vocab,
    }  # fmt: skip


def deepseek_v3(seq: int) -> float:
    """FLOPs of a token of DeepSeek-V3 by hand (arXiv:2412.19437, section 4.2), which no shape here can say.

    Queries and keys have 128 numbers a head of their own and 64 rotated ones, values 128; both come through latent
    vectors. Three layers are dense, 58 have 8 of 256 experts and a shared one, and one more layer predicts the token
    after the next, with a product that joins two streams and the output projection again.
    """
    hidden, heads, layers, vocab = 7168, 128, 61, 129_280
    queries, latent, of_keys, rotated, values = 1536, 512, 128, 64, 128
    attention = hidden * queries + queries * heads * (of_keys + rotated)
    attention += hidden * (latent + rotated) + latent * heads * (of_keys + values) + heads * values * hidden
    dense, experts = 3 * hidden * 18_432, 9 * 3 * hidden * 2048 + 256 * hidden
    weights = (
        (layers + 1) * attention + 3 * dense + (layers - 3 + 1) * experts + 2 * hidden * hidden + 2 * hidden * vocab
    )
    pairs = (layers + 1) * (seq + 1) / 2
    return 6.0 * weights + 6.0 * pairs * heads * (of_keys + rotated + values)


QWEN3_30B = {
    "hidden": 2048, "intermediate": 768, "layers": 48, "heads": 32, "kv_heads": 4, "head_dim": 128, "vocab": 151936,
    "qk_norm": True, "experts": 128, "experts_per_token": 8,
}  # fmt: skip
GPT_OSS_120B = {  # without its attention sinks and biases, which are no products
    "hidden": 2880, "intermediate": 2880, "layers": 36, "heads": 64, "kv_heads": 8, "head_dim": 64, "vocab": 201088,
    "window": 128, "window_every": 2, "experts": 128, "experts_per_token": 4,
}  # fmt: skip
GPT3_175B = mpt(12_288, 96, 96) | {"positions": "learned", "max_positions": 2048, "vocab": 50_257}
LLAMA2_7B, LLAMA2_70B = llama(4096, 11_008, 32, 32, 32), llama(8192, 28_672, 80, 64, 8)

FOUNDRY, BRIDGE = "llm-foundry, 2024-04", "Megatron Bridge, 25.11 to 26.08"
MAXTEXT, NEURON = "MaxText", "Neuron SDK 2.15 and 2.24"
COARSE = "tokens a second are printed as a multiple of 64 or 128"
LAYERS_ONLY = "the printed count fits the products of the layers alone, without logits and attention"
HOW = "how pairs are counted is not said"
SECOND_HAND = "the MFU is second-hand, of two digits, from 6 x all parameters, the embedding too"


def _bridge(name: str, model: Model | float, seq: int, pairs: dict[str, tuple[float, float, str]]) -> Iterator[Row]:
    for chip, (tokens_per_s, tflops, note) in pairs.items():
        yield Row(BRIDGE, f"{name}, {chip}", model, seq, False, tokens_per_s, tflops, note)


ROWS: tuple[Row, ...] = (
    Row(FOUNDRY, "MPT 1B, 8 H100", mpt(2048, 24, 16), 2048, True, 45_455, 413),
    Row(FOUNDRY, "MPT 3B, 8 H100", mpt(2560, 32, 32), 1024, True, 27_046, 457),
    Row(FOUNDRY, "MPT 3B, 8 H100 FP8", mpt(2560, 32, 32), 2048, True, 30_586, 548),
    Row(FOUNDRY, "MPT 7B, 8 H100", "mpt-7b", 2048, True, 10_643, 459),
    Row(FOUNDRY, "MPT 7B, 8 A100 80", "mpt-7b", 2048, True, 4_641, 200),
    Row(FOUNDRY, "MPT 7B, 8 A100 40", "mpt-7b", 2048, True, 3_679, 158),
    Row(FOUNDRY, "MPT 13B, 8 H100", mpt(5120, 40, 40), 2048, True, 4_792, 393),
    Row(FOUNDRY, "MPT 13B, 8 A100 80", mpt(5120, 40, 40), 2048, True, 2_262, 185),
    Row(FOUNDRY, "MPT 70B, 512 H100", mpt(8192, 80, 64), 2048, True, 1_007, 408),
    Row(FOUNDRY, "MPT 70B, 128 H100", mpt(8192, 80, 64), 2048, True, 1_058, 428),
    *_bridge("Llama-3 8B", "llama-3-8b", 8192, {
        "H100 FP8": (14_451, 744, ""), "B200 FP8": (30_624, 1_576, ""), "GB200 FP8": (31_508, 1_622, ""),
        "GB300 FP8": (37_556, 1_933, ""),
    }),
    *_bridge("Llama-3 70B", "llama-3-70b", 8192, {
        "H100 FP8": (1_664, 731, f"{COARSE}, which is not enough; unexplained"), "GB200 FP8": (4_224, 1_892, ""),
        "GB200 MXFP8": (3_712, 1_664, ""), "GB200 NVFP4": (4_864, 2_202, ""), "GB300 FP8": (5_248, 2_348, ""),
        "GB300 MXFP8": (4_864, 2_186, ""), "GB300 NVFP4": (7_296, 3_253, ""),
    }),
    *_bridge("Llama-3.1 405B", "llama-3.1-405b", 8192, {
        "H100 FP8": (326, 822, ""), "B200 FP8": (661, 1_667, ""), "GB200 FP8": (843, 2_129, ""),
        "GB200 MXFP8": (783, 1_976, ""), "GB200 NVFP4": (1_166, 2_944, ""), "GB300 FP8": (1_048, 2_646, ""),
        "GB300 MXFP8": (952, 2_403, ""), "GB300 NVFP4": (1_413, 3_575, ""),
    }),
    *_bridge("DeepSeek-V3", deepseek_v3(4096), 4096, {
        "B200 FP8": (3_328, 864, ""), "GB200 MXFP8": (4_912, 1_276, ""), "GB300 MXFP8": (6_288, 1_635, ""),
    }),
    *_bridge("Qwen3 30B-A3B", QWEN3_30B, 4096, {
        "H100 FP8": (8_960, 206, ""), "B200 FP8": (27_136, 619, COARSE), "GB200 FP8": (26_112, 599, ""),
        "GB300 FP8": (31_744, 729, ""),
    }),
    *_bridge("GPT-OSS 120B", GPT_OSS_120B, 4096, {
        "H100": (5_824, 158, LAYERS_ONLY), "B200": (13_568, 369, LAYERS_ONLY), "GB200": (16_640, 452, LAYERS_ONLY),
        "B300": (15_232, 414, LAYERS_ONLY), "GB300": (19_200, 523, LAYERS_ONLY),
    }),
    Row(MAXTEXT, "Llama-3.1 8B, 256 v6e", "llama-3-8b", 8192, True, 7_207, 0.455 * V6E),
    Row(MAXTEXT, "Llama-3.1 70B, 256 v6e", "llama-3-70b", 8192, True, 960, 0.503 * V6E),
    Row(MAXTEXT, "Llama-3.1 405B, 256 v6e", "llama-3.1-405b", 8192, True, 123, 0.386 * V6E, "unexplained"),
    Row(MAXTEXT, "Llama-2 70B, 512 v5p", LLAMA2_70B, 4096, True, 692, 0.654 * V5P, "between both ways to count pairs"),
    Row(MAXTEXT, "Mixtral 8x7B, 256 v5p", "mixtral-8x7b", 4096, True, 2_909, 0.526 * V5P),
    Row(MAXTEXT, "Mixtral 8x7B, 256 v6e", "mixtral-8x7b", 4096, True, 3_899, 0.352 * V6E),
    Row(NEURON, "Llama-3.1 8B, 512 Trn1", "llama-3-8b", 8192, False, 767, 0.22 * TRN1, SECOND_HAND),
    Row(NEURON, "Llama-3.1 70B, 512 Trn1", "llama-3-70b", 8192, False, 127, 0.30 * TRN1, SECOND_HAND),
    Row(NEURON, "Llama-2 7B, 256 Trn1", LLAMA2_7B, 4096, True, 1_296, 0.308 * TRN1, HOW),
    Row(NEURON, "GPT-3 175B, 512 Trn1", GPT3_175B, 2048, True, 51, 0.331 * TRN1, "unexplained"),
)  # fmt: skip

LEFT_OUT = {
    "GPT-3 23B, 512 Trn1": "its shape is not published with it",
    "BERT-Large phase 1, 16 Trn1": "an encoder, which no shape here can say, and an MFU of an older release",
    "Trn3, dense and mixture-of-experts": "no tokens a second are published",
    "Llama-3.1 8B, 8 H100 at 500 W (torchtitan)": "an MFU of 33 to 39 % is quoted for several rows together",
    "Llama-3.1 70B and 405B, H100; Llama-3.1 8B, H200 (torchtitan)": "neither TFLOP/s nor an MFU is printed",
}
"""Rows that cannot be compared, and why."""

HEAD = f"""\
# FLOPs against published tables

Model TFLOP/s of a chip over its tokens a second is a count of FLOPs of a token. Here such counts, from printed results,
stand beside ours ([method](method.md)). It is a check of our formula, not of anybody's speed.

Two conventions are in use: *causal* counts the pairs that a causal mask leaves, as Megatron and this project do,
*square* counts all, as llm-foundry and MaxText before mid-2025 do; the column says which one a row is compared in. Rows
that print an MFU alone are relative to {TRN1:g} (Trn1), {V5P:g} (v5p) and {V6E:g} (v6e) TFLOP/s. A residual within
{AGREES:.0%} is the rounding of the printed figures; what is larger has a note.

This page is made from `bench/perwatt/models/flops.py` by `python -m perwatt.models.flops`.
"""


def render() -> str:
    """The page, as Markdown."""
    lines = [HEAD]
    for table in dict.fromkeys(row.table for row in ROWS):
        lines += [f"## {table}", "", *_table(row for row in ROWS if row.table == table), ""]
    lines += ["## Left out", "", "| row | why |", "|---|---|", *(f"| {row} | {why} |" for row, why in LEFT_OUT.items())]
    return "\n".join(lines) + "\n"


def _table(rows: Iterable[Row]) -> Iterator[str]:
    yield "| row | seq | tokens/s | TFLOP/s | pairs | published GFLOPs/token | ours | residual | note |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        cells = [
            row.name, str(row.seq), f"{row.tokens_per_s:,.0f}", f"{row.tflops:,.1f}".removesuffix(".0"),
            "square" if row.square else "causal", f"{row.published / 1e9:.1f}", f"{row.ours / 1e9:.1f}",
            f"{100 * row.residual:+.1f} %", row.note,
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(render(), end="")

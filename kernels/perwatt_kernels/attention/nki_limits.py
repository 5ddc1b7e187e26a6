"""What attention in NKI takes: formats, shapes, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perwatt_kernels.nki_interpreter.hardware import Generation

FORMATS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
DIM, LENGTH = 128, 32768  # of a head, as the array has so many rows; of queries, and of keys


def unsupported(pass_: str, sizes: Mapping[str, int], gen: Generation, size: int = 2, scale: float = 1.0) -> str | None:
    """Why attention of elements of so many bytes cannot be done on a generation, with what can; None if it can.

    Args:
        pass_: ``fwd`` or ``bwd``.
        sizes: ``heads``, ``kv_heads``, ``q_len``, ``kv_len``, ``head_dim``.
        gen: generation.
        size: bytes of an element.
        scale: of the scores.
    """
    for name, most in (("head_dim", DIM), ("q_len", LENGTH), ("kv_len", LENGTH)):
        if not 1 <= sizes[name] <= most:
            return f"found {name} {sizes[name]}, expected 1 to {most}; nearest {min(max(sizes[name], 1), most)}"
    heads, shared = sizes["heads"], sizes["kv_heads"]
    if heads < 1 or shared < 1 or heads % shared:
        nearest = max(round(heads / max(shared, 1)), 1) * max(shared, 1)
        return f"found {heads} heads for {shared} of keys, expected a multiple of those; nearest {nearest}"
    if not scale > 0:
        return f"found a scale of {scale:g}, expected one above 0"
    return (_forward if pass_ == "fwd" else _backward)(sizes, gen, size)


def _forward(sizes: Mapping[str, int], gen: Generation, size: int) -> str | None:
    """Keys and values of a head have to fit in SBUF."""
    from perwatt_kernels.attention.nki_operands import SPARE, held
    from perwatt_kernels.attention.nki_work import COLUMNS

    room = gen.sbuf_partition - SPARE
    most = room // held(COLUMNS, sizes["head_dim"], size) * COLUMNS
    if held(sizes["kv_len"], sizes["head_dim"], size) > room:
        return f"found kv_len {sizes['kv_len']} of {size} bytes, expected at most {most} on {gen.name} (SBUF)"
    return None


def _backward(sizes: Mapping[str, int], gen: Generation, size: int) -> str | None:
    """Sums of dQ of one head have to fit in SBUF."""
    from perwatt_kernels.attention.nki_backward_steps import most_queries

    most = most_queries(sizes["head_dim"], size, gen.sbuf_partition)
    if sizes["q_len"] > most:
        return f"found q_len {sizes['q_len']} of {size} bytes, expected at most {most} on {gen.name} (SBUF)"
    return None

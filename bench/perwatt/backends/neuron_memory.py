"""Bytes that the allocator of ``torch.neuron`` counts, whichever of its documented shapes the statistics have.

Early betas nest (``stats["allocated_bytes"]["peak"]``), later builds have flat names (``allocated_bytes.all.peak``).
Compiled programs (code, constants, scratchpad, rings) are the runtime's memory, and in none of these counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Moment = Literal["current", "peak"]


def allocated(statistics: Mapping[str, Any], moment: Moment) -> float | None:
    """Bytes of tensors now, or at the peak since the last reset; None where the statistics do not tell."""
    nested = statistics.get("allocated_bytes")
    if isinstance(nested, Mapping):
        inner = nested.get("all", nested)  # of some builds, as of CUDA: pool, then moment
        found = inner.get(moment) if isinstance(inner, Mapping) else None
    else:
        found = statistics.get(f"allocated_bytes.all.{moment}")
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

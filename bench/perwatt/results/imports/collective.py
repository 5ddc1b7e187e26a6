"""What rows of collective operations have in common, whichever tool measured them.

Sizes are what both tools call the size: of the whole array, in bytes. ``gbps`` is that over the time (their algbw, in
10^9 bytes); the bus bandwidth stays in ``printed``. Ranks, buffers and data are not all stated, so rows have no key.
"""

from __future__ import annotations

from typing import Any

from perwatt.errors import InputError

WORKLOAD = "collective"
GIGA, GIBI = 1e9, 2.0**30
ROUNDING = 0.005  # relative: of a printed time of three digits
DIGIT = 0.0051  # half of the last digit of a bandwidth with two decimals, and what its binary form adds


def cells(op: str | None, size: int, kind: str, seconds: float, detail: str = "") -> dict[str, Any]:
    """Cells of an operation that took so long; its label has what tells it from others of its file."""
    label = f"{op or 'operation not stated'} {size} B {kind}" + (f", {detail}" if detail else "")
    return {
        "case": label, "workload": WORKLOAD, "precision": kind, "bytes": float(size), "time_s": seconds,
        "gbps": size / seconds / GIGA, "mode": "shard", "replicas": 1, "flags": "within_run_only", "processes": 1,
    }  # fmt: skip


def unit(printed: float, size: int, seconds: float) -> float | None:
    """Bytes of the unit that a bandwidth was printed in, by the size and the time beside it; None if it fits none."""
    for bytes_ in (GIBI, GIGA):
        computed = size / seconds / bytes_
        if abs(printed - computed) <= max(DIGIT, ROUNDING * computed):
            return bytes_
    return None


def wrong_bandwidth(printed: float, size: int, seconds: float, file: str, **place: Any) -> InputError:
    """The mistake of a line whose bandwidth is not its size over its time."""
    return InputError(
        f"found {printed:g}, size / time is {size / seconds / GIGA:.4g} GB/s ({size / seconds / GIBI:.4g} GiB/s): "
        "the line is damaged", file=file, **place,
    )  # fmt: skip

"""Batches timed by CUDA events. ``surface`` is ``torch.cuda``, or what stands for it in tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from perwatt.backends.base import Timing, no_collection

Run = Callable[[int], object]


def batch(surface: Any, run: Run, order: Sequence[int], ring: list[Any]) -> Timing:
    """Events around a batch on the current stream, and the wall until all streams are done."""
    start, end = surface.Event(enable_timing=True), surface.Event(enable_timing=True)
    with no_collection():
        surface.synchronize()
        began = perf_counter()
        start.record()
        for slot in order:
            ring[slot] = None  # its memory goes to the next result, so that a hot case has one
            ring[slot] = run(slot)
        end.record()
        enqueued = perf_counter() - began
        surface.synchronize()
        wall = perf_counter() - began
    return Timing(total_s=start.elapsed_time(end) / 1e3, enqueue_s=enqueued, wall_s=wall, began=began)


def bracketed(surface: Any, before: Run, run: Run, order: Sequence[int], ring: list[Any]) -> Timing:
    """Events around each call; the device is still busy with ``before`` when it is handed over."""
    pairs = [(surface.Event(enable_timing=True), surface.Event(enable_timing=True)) for _ in order]
    enqueued = 0.0
    with no_collection():
        surface.synchronize()
        for slot, (start, end) in zip(order, pairs, strict=True):
            before(slot)
            ring[slot] = None
            start.record()
            began = perf_counter()
            ring[slot] = run(slot)
            enqueued += perf_counter() - began
            end.record()
        surface.synchronize()
    return Timing(total_s=sum(start.elapsed_time(end) for start, end in pairs) / 1e3, enqueue_s=enqueued)

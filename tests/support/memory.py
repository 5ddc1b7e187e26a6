"""Memory that one call allocates."""

from __future__ import annotations

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak_bytes(run: Callable[[int], object]) -> int:
    """Bytes at the peak of one call beyond what there was before, by torch's own record of allocations."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run(0)
    held = peak = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak

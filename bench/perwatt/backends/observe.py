"""The path that a call really takes, by the profiler, in a call that is not timed."""

from __future__ import annotations

from collections.abc import Callable

COMPUTING = ("mm", "attention", "conv", "rms_norm", "embedding", "cross_entropy")
WRAPPERS = {"matmul", "scaled_dot_product_attention"}  # they call what is meant
PLUMBING = {"to", "_to_copy", "empty", "empty_like", "empty_strided", "as_strided", "view", "reshape", "detach"}
PLUMBING |= {"slice", "select", "chunk", "split", "narrow", "unsqueeze", "expand", "resize_", "alias", "contiguous"}
"""Operations that only make room or look at it in another way."""


def operations(call: Callable[[], object]) -> str:
    """Names of the computing operations that one call really runs, by the profiler, in order and each once.

    ``inductor`` stands first where compiled code ran; the operations after it are those it left to the framework.
    Work that has no operation of note is named by all it runs.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        call()
    names = dict.fromkeys(event.name.removeprefix("aten::") for event in profiled.events())
    compiled = ["inductor"] if any("CompiledFxGraph" in name or "Torch-Compiled" in name for name in names) else []
    operations = [name for name in names if " " not in name and "Backward" not in name and ":" not in name]
    noted = [name for name in operations if any(word in name for word in COMPUTING) and name not in WRAPPERS]
    return " ".join(compiled + (noted or (compiled and []) or [name for name in operations if name not in PLUMBING]))

"""Names of Gluon that differ between the versions of Triton that have it: ``tma.async_load`` was longer before 3.8."""

# mypy: disable-error-code="attr-defined"
from __future__ import annotations

from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import tma

copy_in = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared
"""``copy_in(descriptor, at, barrier, shared)``: a block into shared memory, which then signals the barrier."""

copy_out = tma.async_store if hasattr(tma, "async_store") else tma.async_copy_shared_to_global
"""``copy_out(descriptor, at, shared)``: a block from shared memory, which ``tma.store_wait`` waits for."""

barrier = gl.barrier if hasattr(gl, "barrier") else gl.thread_barrier
"""``barrier()``: all threads of a partition meet."""

"""What an exception of the Neuron stack says: no memory, a failed compilation, a failed execution.

Names of the runtime's statuses are those of ``nrt_status.h``; phrases are those of the native product's error handler.
"""

from __future__ import annotations

NO_MEMORY = ("out of memory", "NRT_RESOURCE", "Failed to allocate resource", "NRT_FAIL_HOST_MEM_ALLOC",
             "Failed to allocate host memory", "Failed to allocate Neuron")  # fmt: skip
COMPILING = ("COMPILATION FAILED", "Compilation error occurred", "NEFFCompilationError", "neuronx-cc", "NCC_",
             "failed to compile", "BackendCompilerFailed")  # fmt: skip
EXECUTING = ("NRT EXECUTION FAILED", "NRT Execution error", "NEFFExecutionError", "Async execution error", "NRT_",
             "Hardware failure", "Operation timed out", "Execution completed with errors")  # fmt: skip


def said(error: BaseException) -> str:
    """All that an exception and those behind it say, with their kinds."""
    found: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(found) < 8:  # of a chain; nobody looks further
        found.append(f"{type(seen).__name__}: {seen}")
        seen = seen.__cause__ or seen.__context__
    return "\n".join(found)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the device or of the host."""
    return isinstance(error, MemoryError) or any(words in said(error) for words in NO_MEMORY)


def lasting(error: BaseException) -> bool:
    """Whether it may come up again in an operation that has nothing to do with it.

    A failed compilation stays pending on its stream, and a core that failed need not work before its process ends.
    """
    return any(words in said(error) for words in (*COMPILING, *EXECUTING))

"""Whether and what an NVIDIA GPU can compute, before CUDA is started: reasons in one line, each with its remedy."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from perwatt.hardware import nvml
from perwatt.hardware.torch_build import Build
from perwatt.spec.precision import Precision

VISIBLE = "CUDA_VISIBLE_DEVICES"
TENSOR_CORES = {"bf16": (8, 0), "tf32": (8, 0), "fp16": (7, 0), "e4m3fn": (8, 9)}
"""Compute capability from which products of a format have units of their own (CUDA C++ Programming Guide)."""
ROW_SCALES = (9, 0)  # from which torch's scaled product takes a scale for each row
SHOWN = 3  # processes named in a message


def lacking(build: Build | None, gpus: Callable[[], Sequence[nvml.Gpu]]) -> str | None:
    """Why no GPU at all can be used, or None.

    Args:
        build: the torch that is installed.
        gpus: asks for those that are visible.
    """
    if build is None:
        return "torch is not installed: pip install torch"
    if build.hip:
        return "this torch is built for ROCm, and AMD GPUs cannot be measured yet"
    if not build.cuda:
        return f"torch {build.version} is built without CUDA: install a CUDA build (pytorch.org)"
    try:
        driver, found = nvml.driver(), gpus()
    except nvml.NoDriver as error:
        return str(error)
    if not found:
        hidden = os.environ.get(VISIBLE)
        return "no GPU is here" if hidden is None else f"{VISIBLE}={hidden} leaves no GPU: unset it"
    if driver.cuda[0] < build.cuda[0]:  # within a major version a driver runs every minor one
        return (
            f"the driver {driver.version} runs CUDA {dotted(driver.cuda)}, torch is built for {dotted(build.cuda)}: "
            f"update the driver, or install a torch built for CUDA {driver.cuda[0]}"
        )
    return None


def in_use(gpu: nvml.Gpu, address: str) -> str | None:
    """Who computes on a GPU, or None."""
    others = nvml.Meter(gpu).processes()
    if not others:
        return None
    shown = ", ".join(f"{one.name} (pid {one.pid}{_memory(one)})" for one in others[:SHOWN])
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    return f"{address} is in use by {shown}{more}: stop that, or mark what is measured beside it by --shared"


def beyond(gpu: nvml.Gpu, precision: Precision) -> str | None:
    """Why a precision policy cannot be computed on a GPU, or None."""
    has, compute = gpu.capability, precision.compute
    needs = TENSOR_CORES.get(compute, (0, 0))
    if precision.scaling == "row" and compute == "e4m3fn":
        needs = max(needs, ROW_SCALES)
    lacks = {
        "torch has no stochastic rounding on cuda": precision.rounding == "stochastic",
        "NVIDIA GPUs have no e4m3 that follows IEEE 754": compute == "e4m3",
        "products with block scales are not built here yet": compute == "mxfp8",
        f"it needs compute capability {dotted(needs)}, {gpu.name} has {dotted(has)}": has < needs,
    }
    reason = next((reason for reason, found in lacks.items() if found), None)
    return f"precision {precision.name} is not supported on cuda: {reason}" if reason else None


def dotted(version: tuple[int, int]) -> str:
    """``9.0``."""
    return f"{version[0]}.{version[1]}"


def _memory(process: nvml.Process) -> str:
    return "" if process.memory_bytes is None else f", {process.memory_bytes / 2**30:.1f} GiB"

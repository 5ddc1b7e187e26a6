"""Which libraries the kernels of a call come from, by their names in the profiler's record of the device."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

SHORT = 60  # of an unknown kernel's name, so many characters are shown
LAST = ("aten", "memcpy", "memset")  # named behind all others, whatever time they took
_WRAPPING = re.compile(r"^(void |static |std::enable_if<[^>]*>::type )+")
_ANONYMOUS = ("(anonymous namespace)::", "<unnamed>::")

TABLE: tuple[tuple[str, str], ...] = (
    # pytorch/kineto names copies `Memcpy DtoD (Device -> Device)` (seen in neuralmagic/nm-vllm#332)
    ("memcpy", r"Memcpy "),
    ("memset", r"Memset "),
    # NCCL 2.19 and later (NVIDIA/nccl, src/device/generate.py); before it was ncclKernel_
    ("nccl", r"nccl(Dev)?Kernel_"),
    # torch/_inductor/codegen/triton.py: poi, red, per, tem and so on, for pointwise, reduction, persistent, template
    ("triton", r"triton_"),
    # cuDNN's attention on sm80, sm90, sm100 (pytorch/torchtitan#1042), its helpers, and its convolutions
    # (sm75_xmma_fprop_implicit_gemm_..., pytorch/pytorch#90204)
    ("cudnn", r"cudnn_|cudnn::|sm\d+_xmma_(fprop|dgrad|wgrad)_"),
    # torch keeps FlashAttention 2 in namespace pytorch_flash (aten/src/ATen/native/transformers/cuda/flash_attn); 3 is
    # cutlass::device_kernel<flash::FlashAttnFwdSm90<...>>, 4 has flash_attn in it (Dao-AILab/flash-attention#2564)
    ("flash", r"pytorch_flash::|flash_(fwd|bwd)_|cutlass::device_kernel<flash::|\w*flash_attn"),
    # aten/src/ATen/native/transformers/cuda/mem_eff_attention/kernels (pytorch/pytorch#176243)
    ("efficient", r"fmha_cutlass[FB]_"),
    # cuBLAS: nvjet_ since 12.8, before sm90_xmma_gemm_..._cublas (triton-lang/triton#3668), ampere_bf16_s16816gemm_...
    # (karpathy/nanochat#105), those it has from CUTLASS under a name with the architecture's number, its split-k sums,
    # and products with a vector
    ("cublas", r"nvjet_|cublas|sm\d+_xmma_gemm_|(volta|turing|ampere|ada|hopper|maxwell)_\w*gemm"),
    ("cublas", r"cutlass::Kernel2?<cutlass_\d+_(wmma_)?(tensorop|simt)_|cutlass_\d+_(wmma_)?(tensorop|simt)_"),
    ("cublas", r"(internal::)?gemvx::kernel|gemv(2T|2N|NSP)_kernel|gemmk1_kernel|gemmSN_\w+_kernel"),
    # torch's own use of CUTLASS: rows of scales in fp8, grouped products (pytorch/pytorch#133334, #156203); Inductor's
    # are cutlass_... or cutlass3x_...
    ("cutlass", r"cutlass(::|_|3x_)"),
    # aten/src/ATen/native/cuda; softmax_warp_forward is PersistentSoftmax.cuh, outside any named namespace
    ("aten", r"at::native::|at_cuda_detail::|softmax_warp_(forward|backward)"),
)  # fmt: skip
"""Family and how the names of its kernels begin, of which the first that fits counts."""
_COMPILED = tuple((name, re.compile(pattern)) for name, pattern in TABLE)


def family(kernel: str) -> str:
    """The library that a kernel comes from, or its own name, shortened, where none is known for it."""
    name = _WRAPPING.sub("", kernel.strip())
    for wrapping in _ANONYMOUS:
        name = name.removeprefix(wrapping)
    found = next((known for known, pattern in _COMPILED if pattern.match(name)), None)
    return found or "".join(re.split(r"[<(]", name, maxsplit=1)[0].split())[:SHORT] or "unnamed"


def summary(kernels: Iterable[tuple[str, float]]) -> str:
    """Families of kernels, those that took most time first, :data:`LAST` at the end.

    Args:
        kernels: names, and the time that each took.
    """
    spent: dict[str, float] = {}
    for kernel, time in kernels:
        name = family(kernel)
        spent[name] = spent.get(name, 0.0) + time
    return " ".join(sorted(spent, key=lambda name: (name in LAST, -spent[name], name)))


def families(call: Callable[[], object]) -> str:
    """Families of the kernels that one call launches, seen by the profiler; the call is not timed by anybody else.

    What the profiler saw on the host is given where it saw nothing on the device, as without CUPTI.
    """
    from perwatt.backends.observe import operations

    return summary(kernels(call)) or operations(call)


def kernels(call: Callable[[], object]) -> list[tuple[str, float]]:
    """Names and microseconds of the kernels that one call launches, by the profiler."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        call()
        torch.cuda.synchronize()
    return launched(profiled.events() or [])


def launched(events: Iterable[Any]) -> list[tuple[str, float]]:
    """Names and microseconds of what ran on the device, from a profiler's events.

    Events on the host, and ranges that a user marks, are left out.
    """
    return [
        (event.name, float(event.time_range.elapsed_us()))
        for event in events
        if event.device_type.name == "CUDA" and not getattr(event, "is_user_annotation", False)
    ]

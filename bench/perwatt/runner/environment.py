"""What a number depends on besides its case: host, software, settings. By whitelist, never the whole environment.

A process environment holds keys and tokens, and paths that name people. Only the variables below are recorded.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import perwatt
from perwatt.errors import shorten
from perwatt.hardware import machine
from perwatt.spec import work

if TYPE_CHECKING:
    from perwatt.backends.base import Backend, Device

GIT_S = 5.0  # a checkout on a slow network drive must not hold up a run
_NAMES = """
OMP_NUM_THREADS OMP_DYNAMIC OMP_PROC_BIND OMP_PLACES OMP_SCHEDULE OMP_WAIT_POLICY OMP_THREAD_LIMIT
OMP_MAX_ACTIVE_LEVELS MKL_NUM_THREADS MKL_DYNAMIC MKL_CBWR MKL_ENABLE_INSTRUCTIONS MKL_THREADING_LAYER
MKL_INTERFACE_LAYER MKL_DEBUG_CPU_TYPE KMP_AFFINITY KMP_BLOCKTIME KMP_HW_SUBSET GOMP_CPU_AFFINITY GOMP_SPINCOUNT
OPENBLAS_NUM_THREADS OPENBLAS_CORETYPE ONEDNN_MAX_CPU_ISA ONEDNN_PRIMITIVE_CACHE_CAPACITY ONEDNN_DEFAULT_FPMATH_MODE
DNNL_MAX_CPU_ISA DNNL_DEFAULT_FPMATH_MODE ATEN_CPU_CAPABILITY NPY_DISABLE_CPU_FEATURES MALLOC_ARENA_MAX MALLOC_CONF
GLIBC_TUNABLES TORCH_ALLOW_TF32_CUBLAS_OVERRIDE TORCH_CUDNN_V8_API_DISABLED TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT
TORCH_CUDNN_SDPA_DEPRIORITIZED TORCH_CUBLASLT_UNIFIED_WORKSPACE DISABLE_ADDMM_CUDA_LT
TORCH_BLAS_PREFER_CUBLASLT TORCH_BLAS_PREFER_HIPBLASLT TORCH_LINALG_PREFER_CUSOLVER TORCH_COMPILE_DISABLE
TORCHDYNAMO_DISABLE TORCH_DEVICE_BACKEND_AUTOLOAD TORCH_NCCL_AVOID_RECORD_STREAMS TORCH_NCCL_BLOCKING_WAIT
PYTORCH_ALLOC_CONF PYTORCH_CUDA_ALLOC_CONF PYTORCH_NO_CUDA_MEMORY_CACHING PYTORCH_NVML_BASED_CUDA_CHECK
PYTORCH_TUNABLEOP_ENABLED TORCHINDUCTOR_MAX_AUTOTUNE TORCHINDUCTOR_MAX_AUTOTUNE_GEMM
TORCHINDUCTOR_MAX_AUTOTUNE_GEMM_BACKENDS TORCHINDUCTOR_FREEZING TORCHINDUCTOR_COORDINATE_DESCENT_TUNING
TORCHINDUCTOR_CPP_WRAPPER TORCHINDUCTOR_COMPILE_THREADS TORCHINDUCTOR_FORCE_DISABLE_CACHES
TORCHINDUCTOR_FX_GRAPH_CACHE TORCHINDUCTOR_USE_FAST_MATH TORCHINDUCTOR_CPP_ENABLE_UNSAFE_MATH_OPT_FLAG
TORCHINDUCTOR_SIMDLEN CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER CUDA_DEVICE_MAX_CONNECTIONS CUDA_LAUNCH_BLOCKING
CUDA_FORCE_PTX_JIT CUDA_MPS_ACTIVE_THREAD_PERCENTAGE
CUDA_MODULE_LOADING CUBLAS_WORKSPACE_CONFIG CUBLASLT_WORKSPACE_SIZE CUDNN_LOGINFO_DBG NVIDIA_TF32_OVERRIDE
NVIDIA_VISIBLE_DEVICES NVTE_FUSED_ATTN NVTE_FLASH_ATTN NVTE_ALLOW_NONDETERMINISTIC_ALGO NCCL_ALGO NCCL_PROTO
NCCL_NTHREADS NCCL_MIN_NCHANNELS NCCL_MAX_NCHANNELS NCCL_P2P_DISABLE NCCL_SHM_DISABLE NCCL_IB_DISABLE NCCL_NVLS_ENABLE
NCCL_CROSS_NIC NCCL_BUFFSIZE FI_PROVIDER FI_EFA_USE_DEVICE_RDMA FI_EFA_FORK_SAFE NEURON_RT_VISIBLE_CORES
NEURON_RT_NUM_CORES NEURON_LOGICAL_NC_CONFIG NEURON_RT_VIRTUAL_CORE_SIZE NEURON_RT_EXEC_TIMEOUT
NEURON_RT_VALIDATE_HASH NEURON_RT_ASYNC_EXEC_MAX_INFLIGHT_REQUESTS NEURON_RT_ALLOW_LEGACY_NEFF
NEURON_RT_STOCHASTIC_ROUNDING_EN NEURON_RT_STOCHASTIC_ROUNDING_SEED NEURON_RT_ENABLE_OCP
NEURON_RT_ENABLE_OCP_SATURATION NEURON_RT_ONE_THREAD_PER_CORE NEURON_RT_LOW_LATENCY_TASKS_CPU_AFFINITY
NEURON_RT_DBG_DMA_PACKETIZATION_SIZE NEURON_RT_DBG_CC_DMA_PACKET_SIZE NEURON_RT_INSPECT_ENABLE NEURON_CC_FLAGS
NEURON_COMPILER_OPT_LEVEL NEURON_FALLBACK_ENABLED NEURON_LAUNCH_BLOCKING NEURON_PLATFORM_TARGET_OVERRIDE
NEURON_EXTRACT_GRAPHS_ONLY NEURON_EAGER_MODEL_CACHE_SIZE NEURON_PJRT_WORLD_SIZE NEURON_PJRT_PROCESSES_NUM_DEVICES
NEURON_USE_SPLIT_ALLGATHER NEURON_USE_SPLIT_REDUCE_SCATTER COLLECTIVE_BUCKETSIZE_IN_MB COLLECTIVE_MIN_BUCKETS
TORCH_NEURONX_DISABLE_FALLBACK_EXECUTION TORCH_NEURONX_FALLBACK_ONLY_FOR_UNIMPLEMENTED_OPS
TORCH_NEURONX_COMPLEX_DECOMPOSE TORCH_NEURONX_DYNAMO_DISABLE_CPU_AUTOCOPY TORCH_NEURONX_ENABLE_ASYNC_NRT
TORCH_NEURONX_ENABLE_CONCATENATION TORCH_NEURONX_ENABLE_PROLOGUE TORCH_NEURONX_ENABLE_NKI_SDPA
TORCH_NEURONX_ENABLE_HOST_CC TORCH_NEURONX_DISABLE_NEFF_CACHE XLA_USE_BF16 XLA_DOWNCAST_BF16 XLA_FLAGS
XLA_DISABLE_FUNCTIONALIZATION XLA_IR_DEBUG XLA_HLO_DEBUG PJRT_DEVICE
"""
VARIABLES = tuple(_NAMES.split())
"""Environment variables that can change a number. Each by its name: a prefix would let in what nobody looked at."""

Record = dict[str, Any]


def record(device: Device, in_worker: Mapping[str, Any]) -> Record:
    """The environment record, as it stands in ``env.json``.

    Args:
        device: what the backend found.
        in_worker: :func:`torch_facts` of the worker; this process has no torch.
    """
    return {
        "perwatt": {"version": perwatt.__version__, "git_sha": git_sha()},
        "host": hashlib.sha256(f"perwatt host {platform.node()}".encode()).hexdigest()[:16],
        "system": {
            "python": platform.python_version(),
            "os": platform.system(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "libc": " ".join(platform.libc_ver()),
        },
        "cpu": {
            "model": machine.cpu_model(),
            "logical_cores": machine.logical_cores(),
            "physical_cores": machine.physical_cores(),
            "usable_cores": machine.usable_cores(),
            "governors": machine.governors(),
            "turbo": machine.turbo(),
            "virtual": machine.virtual(),
        },
        "memory_gb": round(device.memory_bytes / 1e9),  # rounded: the last bytes change from boot to boot
        "device": {name: value for name, value in asdict(device).items() if name != "memory_bytes"},
        "libraries": dict(in_worker),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ} | _preloaded(),
    }


def _preloaded() -> dict[str, str]:
    """Libraries that replace the allocator or the threads of others, without their folders."""
    paths = os.environ.get("LD_PRELOAD", "").replace(":", " ").split()
    return {"LD_PRELOAD": " ".join(os.path.basename(path) for path in paths)} if paths else {}


def env_id(facts: Record) -> str:
    """Key of all in a record that can change a number."""
    return work.key_of(work.canonical(_decisive(facts)))


def differences(before: Record, now: Record) -> list[str]:
    """What of two records can change a number and is not equal: ``cpu.governors: found ..., expected ...``."""
    old, new = _flat(_decisive(before)), _flat(_decisive(now))
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return [f"{name}: found {shorten(new.get(name))}, expected {shorten(old.get(name))}" for name in names]


def _decisive(facts: Record) -> Record:
    """A record without which host of its kind it is, and which commit."""
    return {name: value for name, value in facts.items() if name != "host"} | {"perwatt": facts["perwatt"]["version"]}


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Record:
    found: Record = {}
    for name, value in facts.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def torch_facts(backend: Backend) -> Record:
    """Versions and settings of torch as the started backend left them. Only the worker may call this."""
    import numpy
    import torch

    return {
        "torch": torch.__version__,
        "torch_config": work.key_of(torch.__config__.show()),
        "numpy": numpy.__version__,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "backend": backend.name,
        "numerics": backend.numerics(),
        **backend.facts(),
    }


def git_sha() -> str | None:
    """Commit of the checkout that perwatt runs from, ``+`` behind it for local changes; None if it is installed."""
    package = Path(perwatt.__file__).resolve().parent
    top = package.parent.parent
    if not (top / ".git").exists() or package != top / "bench" / "perwatt":
        return None
    commit = _git(top, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    return commit + ("+" if _git(top, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *command: str) -> str:
    words = ["git", "--no-optional-locks", *command]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=GIT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()

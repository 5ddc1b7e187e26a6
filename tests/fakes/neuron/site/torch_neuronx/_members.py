"""What the names of ``torch.neuron`` and ``torch_neuronx`` do. Which of them there are, ``_surface`` says."""

from __future__ import annotations

import contextlib
import os
from types import SimpleNamespace
from typing import Any

import torch

from . import _compiler, _extension, _faults, _kernels, _runtime

C = _extension.C


def index_of(device: Any) -> int:
    """Number of a device, the current one without any."""
    if device is None:
        return int(C.current_device())
    if isinstance(device, int):
        return device
    chosen = torch.device(device)
    if chosen.type != "neuron":
        raise ValueError(f"Expected neuron device, got {chosen.type}")
    return int(C.current_device()) if chosen.index is None else chosen.index


def event(enable_timing: bool, blocking: bool) -> torch.Event:
    """Keeps a time of the host: what lies between two of them is not the work's time."""
    return torch.Event("neuron", enable_timing=enable_timing, blocking=blocking)


def synchronize(device: Any) -> None:
    if device is not None and not 0 <= index_of(device) < _runtime.device_count():
        raise ValueError(f"Invalid device id: {device}")
    C.synchronize()
    _faults.waited()


def set_device(device: Any) -> None:
    index = index_of(device)
    if not 0 <= index < _runtime.device_count():
        raise ValueError(f"Invalid device id: {index}. Valid range is 0 to {_runtime.device_count() - 1}")
    C.set_device(index)


@contextlib.contextmanager
def device(device_spec: Any) -> Any:
    before = C.current_device()
    set_device(device_spec)
    try:
        yield
    finally:
        C.set_device(before)


def get_device_name(device: Any) -> str:
    if not isinstance(device, int | torch.device):
        raise ValueError(f"Expected int or torch.device, got {type(device).__name__}")
    return f"neuron:{index_of(device)}"


def get_device_properties(device: Any) -> Any:
    _runtime.start()
    return SimpleNamespace(name=f"neuron:{index_of(device)}", total_memory=_runtime.machine().memory_bytes)


def memory_stats(device: Any) -> dict[str, Any]:
    """Flat names; nested ones as the early betas had them with ``FAKE_NEURON_STATS=nested``."""
    flat: dict[str, Any] = C.figures(index_of(device))
    if os.environ.get("FAKE_NEURON_STATS") != "nested":
        return flat
    kinds = ("allocated_bytes", "reserved_bytes", "active_bytes")
    nested = {kind: {part: flat[f"{kind}.all.{part}"] for part in ("current", "peak")} for kind in kinds}
    return nested | {name: value for name, value in flat.items() if "." not in name}


def figure(name: str) -> Any:
    return lambda device: C.figures(index_of(device))[name]


def get_dynamo_metrics() -> list[Any]:
    C.synchronize()
    return list(_compiler.compiled)


def seeded(seed: int) -> None:
    torch.default_generator.manual_seed(seed)


def accelerator_stream(device: Any) -> torch.Stream:
    return torch.accelerator.current_stream(index_of(device))


def default_stream(device: Any) -> torch.Stream:
    return torch.Stream(stream_id=0, device_index=index_of(device), device_type=accelerator_stream(device).device_type)


NEURON: dict[str, Any] = {
    "init": _runtime.start,
    "is_initialized": _runtime.started,
    "is_available": lambda: _runtime.device_count() > 0,
    "device_count": _runtime.device_count,
    "current_device": C.current_device,
    "set_device": set_device,
    "device": device,
    "get_device_name": get_device_name,
    "get_device_properties": get_device_properties,
    "synchronize": synchronize,
    "Stream": lambda **kwargs: torch.Stream(device="neuron", **kwargs),
    "stream": lambda stream: contextlib.nullcontext() if stream is None else stream,
    "current_stream": accelerator_stream,
    "default_stream": default_stream,
    "set_stream": torch.accelerator.set_stream,
    "wait_stream": lambda stream: accelerator_stream(None).wait_stream(stream),
    "wait_event": lambda event: accelerator_stream(None).wait_event(event),
    "record_event": lambda event: accelerator_stream(None).record_event(event),
    "query": lambda: accelerator_stream(None).query(),
    "Event": event,
    "manual_seed": seeded,
    "manual_seed_all": seeded,
    "seed": torch.default_generator.seed,
    "seed_all": torch.default_generator.seed,
    "initial_seed": torch.default_generator.initial_seed,
    "get_rng_state": lambda device: torch.default_generator.get_state(),
    "set_rng_state": lambda state, device: torch.default_generator.set_state(state),
    "memory_stats": memory_stats,
    "memory_allocated": figure("allocated_bytes.all.current"),
    "max_memory_allocated": figure("allocated_bytes.all.peak"),
    "memory_reserved": figure("reserved_bytes.all.current"),
    "max_memory_reserved": figure("reserved_bytes.all.peak"),
    "reset_peak_memory_stats": lambda device: C.reset_peak(index_of(device)),
    "reset_accumulated_memory_stats": lambda device: None,
    "memory_summary": lambda device, abbreviated: str(C.figures(index_of(device))),
    "empty_cache": C.empty_cache,
    "get_amp_supported_dtype": lambda: [torch.float32, torch.float16, torch.bfloat16],
    "is_bf16_supported": lambda: True,
    "get_dynamo_metrics": get_dynamo_metrics,
    "reset_dynamo_metrics": _compiler.compiled.clear,
    "_is_in_bad_fork": _runtime.in_bad_fork,
    "_sleep": lambda cycles: None,
}
PACKAGE: dict[str, Any] = {
    "get_fallback_ops": C.fallen_back,
    "get_executed_ops": C.executed,
    "clear_op_tracking": C.clear_tracking,
    "is_neuron_runtime_initialized": _runtime.started,
    "nki_op": _kernels.nki_op,
    "wrap_nki": _kernels.wrap_nki,
}

"""The native torch-neuronx as its documents have it, on a device that computes on the CPU.

Importing it writes environment defaults, loads the extension, names the device and registers ``torch.neuron``, the
compiler and the process group; the runtime starts at the first use of the device, or with the process group. Without a
device the import raises. ``FAKE_NEURON_MACHINE`` is the folder of the machine (``fakes/neuron/machine.py``),
``FAKE_NEURON_FAULT`` what goes wrong on it. With ``FAKE_NEURON_BETA`` the process group has a module of its own.
"""

from __future__ import annotations

import os

__version__ = "0.1.0"

_DEFAULTS = {
    "NEURON_LAUNCH_BLOCKING": "0", "TORCH_NEURONX_FALLBACK_ONLY_FOR_UNIMPLEMENTED_OPS": "1",
    "TORCH_NEURONX_MLIR_ATEN_OPS": "1", "TORCH_NEURONX_RETAIN_DEVICE_MODE": "0", "NEURON_RT_ALLOW_LEGACY_NEFF": "1",
    "NEURON_RT_DBG_ZEROCOPY": "1", "TORCH_NEURONX_ENABLE_ASYNC_NRT": "1", "TORCH_NEURONX_ENABLE_STACK_TRACE": "0",
    "JAX_LOGGING_LEVEL": "WARNING",
}  # fmt: skip
for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)


def _autoload() -> None:
    """Entry point of ``torch.backends``: the import of this module has done all."""


import torch  # noqa: E402

from . import _extension, _faults, _native_ops, _runtime, _surface  # noqa: E402

_extension.load(_runtime.device_count(), _runtime.machine().memory_bytes)
_extension.C.own(_faults.without_fallen(_native_ops.names()))
_extension.C.start_with(_runtime.start)

from . import _compiler  # noqa: E402

_extension.C.compile_with(_compiler.eager)
torch.utils.rename_privateuse1_backend("neuron")
torch._register_device_module("neuron", _surface.module("torch.neuron"))
torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)

if not os.environ.get("FAKE_NEURON_BETA"):
    from .distributed import backend  # noqa: F401

_surface.fill(globals(), "torch_neuronx")
_faults.plan()

"""What goes wrong on the machine: ``FAKE_NEURON_FAULT`` names one or more, with commas.

In the device: ``hang``, ``hw_error``, ``fallback``, ``late_fallback``, ``late_recompile``, ``compile_failure``,
``eager_compile_failure``, ``ecc``, ``exec_error``, ``rank_dies``, ``rank_hangs``. Of the machine, laid out by its
maker: ``oom``, ``unhealthy``, ``driver_mismatch``, ``old_runtime``, ``lnc_mismatch``, ``core_taken``, ``xla_product``,
``placeholder``, ``no_driver``. Those that come late come after ``FAKE_NEURON_AFTER`` waits for the device.
"""

from __future__ import annotations

import os
import time

from . import _extension, _runtime

FAULTS = frozenset(filter(None, os.environ.get("FAKE_NEURON_FAULT", "").split(",")))
AFTER = int(os.environ.get("FAKE_NEURON_AFTER", "60"))
FALLEN = frozenset({"aten::mm", "aten::bmm", "aten::addmm", "aten::add", "aten::mul", "aten::copy_"})
HW_ERROR = "nrt_execute failed with status 1201 (NRT_EXEC_HW_ERR_HBM_UE)"
_waits = 0


def without_fallen(names: set[str]) -> set[str]:
    """The device's own operations."""
    return names - FALLEN if "fallback" in FAULTS else names


def plan() -> None:
    """Have the queue fail."""
    if "hang" in FAULTS:
        _extension.C.plan("hang", "", AFTER)
    if "hw_error" in FAULTS:
        _extension.C.plan("error", HW_ERROR, AFTER)


def waited() -> None:
    """Called once for each wait for the device: what comes late comes now."""
    global _waits
    _waits += 1
    if _waits < AFTER:
        return
    from . import _compiler

    if "late_recompile" in FAULTS:
        _compiler.graph(f"late {_waits}", nodes=1)
    if "late_fallback" in FAULTS and _waits == AFTER:
        from . import _native_ops

        _extension.C.own(_native_ops.names() - FALLEN)
    if "ecc" in FAULTS:
        _runtime.machine().count("mem_ecc_uncorrected")
    if "exec_error" in FAULTS:
        _runtime.machine().count("hw_error")
    if os.environ.get("RANK", "0") == "1" and _waits == AFTER:
        if "rank_dies" in FAULTS:
            os._exit(9)
        while "rank_hangs" in FAULTS:
            time.sleep(60)

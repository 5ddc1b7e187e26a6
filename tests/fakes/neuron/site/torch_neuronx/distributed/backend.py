"""The process group ``neuron``, known once this is imported: collectives through gloo, in the device's memory."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from .. import _extension, _runtime

_broken = False
_joined = False


def register() -> None:
    """Make ``init_process_group(backend="neuron")`` known."""
    if dist.is_available() and "NEURON" not in dist.Backend._plugins:
        dist.Backend.register_backend("neuron", create, devices=["neuron"])


def create(store: Any, rank: int, world: int, timeout: timedelta) -> Any:
    """A process group. The first one of a process starts the runtime.

    Raises:
        RuntimeError: the runtime is up already, the world is no power of two, or an earlier start failed.
        AssertionError: this process sees more than one core.
    """
    global _broken, _joined
    if not _joined:
        if _runtime.started():
            raise RuntimeError("Neuron runtime is initialized already: call init_process_group before any use of it")
        if not os.environ.get("NEURON_RT_VISIBLE_CORES"):
            os.environ["NEURON_RT_VISIBLE_CORES"] = os.environ["LOCAL_RANK"]
        assert len(_runtime.visible()) == 1, "a rank has to see one NeuronCore"
        _runtime.start()
    if _broken or world & (world - 1):
        _broken = True
        raise RuntimeError(f"nrt_barrier failed: device barrier with {world} participants, status 1 (NRT_FAILURE)")
    _joined = True
    gloo = dist.ProcessGroupGloo(store, rank, world, timeout)
    return _extension.C.Group(gloo, rank, world)


register()

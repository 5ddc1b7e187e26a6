"""The CUDA backend as a whole on a machine without a GPU: everything of it but the silicon.

The driver's library and ``torch.cuda`` are fakes; tensors live on the CPU, which does the work at once, so that events
and wall agree. ``PRETEND_FAULT`` says what goes wrong: ``throttle``, ``power_cap``, ``neighbour``, ``busy``,
``clock_drop``, ``ecc``, ``context_loss``, ``side_stream``, ``capture``, ``old_driver``, ``no_instance``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from time import perf_counter
from typing import Any

import torch

from fakes import nvml
from fakes.cuda_surface import Graph, Surface
from fakes.nvml import Card, NvmlLibrary
from perwatt.backends import observe
from perwatt.backends.cuda import Cuda
from perwatt.hardware.torch_build import Build

FAULT = os.environ.get("PRETEND_FAULT", "")
LOADED, IDLE = (1980, 2619, 55, 0), (345, 2619, 31, 0x1)
READINGS = {
    "throttle": [LOADED, (1200, 2619, 91, 0x20), LOADED],
    "power_cap": [(1755, 2619, 64, 0x4)],
    "clock_drop": [LOADED, LOADED, (600, 2619, 50, 0)] * 1000,  # again and again: some readings fall between samples
}
LOSS_AFTER = 40  # waits for the device, which come before and after every batch


class Fragile(Surface):
    """A surface whose context is lost in the middle of the first case that comes that far."""

    def __init__(self) -> None:
        super().__init__(clock=perf_counter)
        self.waits = 0
        self.event_scale = 0.5 if FAULT == "side_stream" else 1.0

    def synchronize(self) -> None:
        self.waits += 1
        self.lost |= FAULT == "context_loss" and self.waits > LOSS_AFTER and self.fragile
        super().synchronize()

    @contextmanager
    def graph(self, graph: Graph) -> Iterator[None]:
        with super().graph(graph):
            yield
            graph.spoilt = True

    fragile = False


class Pretend(Cuda):
    """See the module."""

    name = "pretend-cuda"
    priority = -1  # never chosen by itself

    def __init__(self, index: int = 0) -> None:
        super().__init__(index)
        self._card = Card(
            readings=list(READINGS.get(FAULT, [LOADED])),
            ecc=[3, 5] if FAULT == "ecc" else [0],
            processes=[4711] if FAULT == "busy" else [],
            mig=[] if FAULT == "no_instance" else None,
        )
        nvml.install(NvmlLibrary(self._card, cuda=12020 if FAULT == "old_driver" else 13000))

    def build(self) -> Build:
        return Build(version=torch.__version__, cuda=(13, 0), hip=None)

    @cached_property
    def surface(self) -> Fragile:
        return Fragile()

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def uncompilable(self) -> str | None:
        return "nothing is compiled on a GPU that is not there"

    def uncapturable(self) -> str | None:
        return None if FAULT == "capture" else "nothing is captured on a GPU that is not there"

    def observed(self, call: Any) -> Any:
        return observe.operations(call)

    def busy_s(self, call: Any) -> None:
        """No kernels are launched."""

    def prepare(self, precision: Any) -> None:
        """The first case of a fragile context is the one in fp16."""
        super().prepare(precision)
        self.surface.fragile = precision.name == "fp16"

    @contextmanager
    def watched(self) -> Iterator[None]:
        if FAULT == "neighbour":
            self._card.processes.append(4711)
        with super().watched():
            yield


BACKEND = Pretend()

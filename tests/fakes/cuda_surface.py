"""``torch.cuda`` in Python: streams and events on a clock of their own, by torch's and CUDA's documentation.

Work is handed over in host time and done in device time; streams run at once, a stream in order. An event keeps the
moment its stream gets to it. Asking two events for the time between them fails as in torch: without ``enable_timing``,
before both were recorded, before both are over. After a lost context every call fails.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

RESOLUTION_MS = 0.0005  # of cudaEventElapsedTime: about half a microsecond
ARCHES = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
LOST = "CUDA error: an illegal memory access was encountered"


@dataclass
class Stream:
    """What was handed over to it is done at ``free_at``."""

    free_at: float = 0.0

    def wait_stream(self, other: Stream) -> None:
        self.free_at = max(self.free_at, other.free_at)


class Event:
    def __init__(self, surface: Surface, enable_timing: bool) -> None:
        self._surface, self._timing = surface, enable_timing
        self.at: float | None = None

    def record(self, stream: Stream | None = None) -> None:
        self._surface.alive()
        stream = stream or self._surface.current
        self.at = max(stream.free_at, self._surface.now())

    def synchronize(self) -> None:
        self._surface.wait_until(self.at or 0.0)

    def elapsed_time(self, end: Event) -> float:
        if not (self._timing and end._timing):
            raise RuntimeError("CUDA error: invalid resource handle")
        if self.at is None or end.at is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        if max(self.at, end.at) > self._surface.now() + 1e-12:
            raise RuntimeError("CUDA error: device not ready")
        milliseconds = (end.at - self.at) * 1e3 * self._surface.event_scale
        return round(milliseconds / RESOLUTION_MS) * RESOLUTION_MS


class Surface:
    """Stands for the module ``torch.cuda``.

    Args:
        clock: seconds of the host; None for a clock that stands still but for what is done here.
        wait_s: what a wait for the device costs the host beyond the device's own time.

    Attributes:
        event_scale: faulty events that see only a part of the work.
    """

    def __init__(self, clock: Callable[[], float] | None = None, wait_s: float = 0.0) -> None:
        self._clock, self._virtual, self._wait_s = clock, 0.0, wait_s
        self.default = self.current = Stream()
        self.streams = [self.default]
        self.lost = False
        self.event_scale = 1.0
        self.capturing: list[Callable[[], object]] | None = None
        self.emptied = self.peak_resets = 0
        self.held_bytes, self.peak_bytes = 0, 123_000_000
        self.initialized = False
        self.arches = list(ARCHES)
        self.capability = (9, 0)

    # time

    def now(self) -> float:
        return self._clock() if self._clock else self._virtual

    def host(self, seconds: float) -> None:
        """The host is busy."""
        self._virtual += seconds

    def wait_until(self, moment: float) -> None:
        self._virtual = max(self._virtual, moment)

    def launch(self, device_s: float, host_s: float = 5e-6, stream: Stream | None = None) -> None:
        """Hand work over to a stream."""
        self.alive()
        stream = stream or self.current
        self.host(host_s)
        stream.free_at = max(stream.free_at, self.now()) + device_s

    def alive(self) -> None:
        if self.lost:
            raise RuntimeError(LOST)

    # the surface

    def init(self) -> None:
        self.initialized = True

    def get_device_properties(self, index: int) -> SimpleNamespace:
        assert self.initialized, "cudaGetDeviceProperties before cudaInit"
        if index:
            raise AssertionError("Invalid device id")
        major, minor = self.capability
        return SimpleNamespace(major=major, minor=minor, L2_cache_size=50 * 2**20, multi_processor_count=132)

    def get_arch_list(self) -> list[str]:
        return self.arches

    def synchronize(self) -> None:
        self.alive()
        self.wait_until(max(stream.free_at for stream in self.streams))
        self.host(self._wait_s)

    def Event(self, enable_timing: bool = False) -> Event:
        return Event(self, enable_timing)

    def Stream(self) -> Stream:
        self.streams.append(Stream())
        return self.streams[-1]

    def current_stream(self) -> Stream:
        return self.current

    @contextlib.contextmanager
    def stream(self, chosen: Stream) -> Iterator[None]:
        before, self.current = self.current, chosen
        yield
        self.current = before

    def reset_peak_memory_stats(self) -> None:
        self.peak_resets += 1

    def memory_allocated(self) -> int:
        return self.held_bytes

    def max_memory_allocated(self) -> int:
        return self.peak_bytes

    def empty_cache(self) -> None:
        self.emptied += 1

    def CUDAGraph(self) -> Graph:
        return Graph(self)

    @contextlib.contextmanager
    def graph(self, graph: Graph) -> Iterator[None]:
        assert max(stream.free_at for stream in self.streams) <= self.now(), "capture while work is pending"
        graph.capturing = True
        yield
        graph.capturing, graph.recorded = False, True


class Graph:
    def __init__(self, surface: Surface) -> None:
        self._surface, self.capturing, self.recorded, self.replays = surface, False, False, 0

    def replay(self) -> Any:
        assert self.recorded, "replay of a graph that holds nothing"
        self.replays += 1

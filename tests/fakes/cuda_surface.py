"""``torch.cuda`` in Python: streams and events on a clock of their own, by torch's and CUDA's documentation.

Work is handed over in host time and done in device time; streams run at once, a stream in order. An event keeps the
moment its stream gets to it. Asking two events for the time between them fails as in torch: without ``enable_timing``,
before both were recorded, before both are over. After a lost context every call fails.

A capture takes its work down instead of doing it, on a stream of its own. Waiting for the device spoils it, which shows
in the call and again at its end; then torch stays on that stream, and its allocator counts a capture for ever (torch
before 2.12), so that it cannot be emptied any more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

RESOLUTION_MS = 0.0005  # of cudaEventElapsedTime: about half a microsecond
ARCHES = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
LOST = "CUDA error: an illegal memory access was encountered"
CAPTURING = "CUDA error: operation not permitted when stream is capturing"
SPOILT = "CUDA error: operation failed due to a previous error during capture"


@dataclass(eq=False)
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
        self._surface.refuse_to_wait()
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
        self.capturing: Graph | None = None
        self.captures_underway = 0
        self._of_captures: Stream | None = None
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
        if self.capturing is not None:
            self.capturing.device_s += device_s
            return
        stream.free_at = max(stream.free_at, self.now()) + device_s

    def alive(self) -> None:
        if self.lost:
            raise RuntimeError(LOST)

    def refuse_to_wait(self) -> None:
        """What a capture does to whoever waits for the device."""
        if self.capturing is not None:
            self.capturing.spoilt = True
            raise RuntimeError(CAPTURING)

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
        self.refuse_to_wait()
        self.wait_until(max(stream.free_at for stream in self.streams))
        self.host(self._wait_s)

    def Event(self, enable_timing: bool = False) -> Event:
        return Event(self, enable_timing)

    def Stream(self) -> Stream:
        self.streams.append(Stream())
        return self.streams[-1]

    def current_stream(self) -> Stream:
        return self.current

    def set_stream(self, stream: Stream) -> None:
        self.current = stream

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
        if self.captures_underway:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED, please report a bug to PyTorch.")
        self.emptied += 1

    def CUDAGraph(self) -> Graph:
        return Graph(self)

    @contextlib.contextmanager
    def graph(self, graph: Graph) -> Iterator[None]:
        self.synchronize()
        self.empty_cache()
        self._of_captures = self._of_captures or self.Stream()
        before, self.current = self.current, self._of_captures
        self.capturing, self.captures_underway = graph, self.captures_underway + 1
        try:
            yield
        finally:
            self.capturing = None
            if graph.spoilt:
                raise RuntimeError(SPOILT)
            self.captures_underway -= 1
            self.current = before
        graph.recorded = True


class Graph:
    def __init__(self, surface: Surface) -> None:
        self._surface, self.recorded, self.spoilt, self.device_s = surface, False, False, 0.0

    def replay(self) -> None:
        if not self.recorded:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        self._surface.launch(self.device_s)

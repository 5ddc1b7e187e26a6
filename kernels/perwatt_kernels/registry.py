"""Which implementations exist for an operation. A kernel is one file, found by a scan of this package.

A kernel module defines ``KERNELS``, a tuple of :class:`Kernel`, and imports its framework inside ``build``, so that
listing kernels needs none. Other distributions add theirs through the entry point ``perwatt.kernels``.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import Any

from perwatt import plugins


class Refusal(NotImplementedError):
    """What an implementation finds that it cannot do at its first call, having changed nothing.

    Of a kernel of its own any other NotImplementedError is a fault by then: the framework's dispatcher raises it, too.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a kernel is asked to do.

    Attributes:
        device: torch device type (``cpu``, ``cuda``, ``neuron``).
        compute: format that the operands are multiplied in (``fp32``, ``bf16``, ...).
        output: format of the result.
        gradients: whether a backward pass follows.
        params: the operation's own parameters.
        compile: the backend's ``torch.compile``.
        backward: format that gradients are multiplied in, where it is another.
        scaling: granularity of the scales of quantized operands: ``none``, ``tensor``, ``row``, ``block32``.
        quantize: whether operands are quantized ``inside`` or arrive so from ``outside``; empty without scales.
        fast_accumulation: whether partial sums may be as short as the device's fast mode has them.
        chip: name of the device by its sheet or its driver; empty where nobody knows it.
        capability: CUDA compute capability of the device; None for what is no NVIDIA GPU.
        uncompilable: why ``compile`` compiles nothing here, or None.
        tunable: whether ``compile`` takes ``autotune=True``.
        threads: of the host that the device computes with, where it is a CPU.
        memory_bytes: of the device.
        time: seconds that so many calls take on the device; None where nothing is to be measured for a choice.
        on: the torch device of operands.
    """

    device: str
    compute: str
    output: str
    gradients: bool
    params: Mapping[str, Any]
    compile: Callable[..., Callable[..., Any]]
    backward: str = ""
    scaling: str = "none"
    quantize: str = ""
    fast_accumulation: bool = False
    chip: str = ""
    capability: tuple[int, int] | None = None
    uncompilable: Callable[[], str | None] = lambda: None
    tunable: bool = False
    threads: int | None = None
    memory_bytes: float = math.inf
    time: Callable[[Callable[[], object], int], float] | None = None
    on: Callable[[], Any] = lambda: "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """What an implementation that chooses among others took for a request.

    Attributes:
        impl: name of the implementation.
        impl_class: its class.
        why: in a few words, for the row.
        flags: marks for the row.
    """

    impl: str
    impl_class: str
    why: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """One implementation of one operation.

    What it declares is looked at before ``unsupported`` is asked, and is what ``perwatt list kernels`` shows.

    Attributes:
        operation: ``matmul``, ``linear``, ``attention``; its package's docstring says what ``build`` returns.
        impl: name of the implementation, as suites spell it.
        impl_class: ``eager``, ``graph`` (compiled as a whole) or ``kernel`` (a kernel of its own).
        build: makes the callable for a request. What it cannot do after all is NotImplementedError from ``build``, or
            :class:`Refusal` from the first call.
        unsupported: why a request cannot be done, or None.
        devices: torch device types that it runs on; empty for all.
        formats: formats of operands of products that it takes; empty for all that the device has.
        gradients: whether it gives gradients.
        since: lowest CUDA compute capability, where it runs on ``cuda``.
        until: the first compute capability beyond it, where there is one.
        module: Python module that it needs beside torch.
        distribution: that has the module, whose version choices depend on.
        install: how one gets it.
        shapes: which shapes it takes, in words.
        extra_bytes: device memory that it takes beside operands, results and gradients, where that is much.
        emulated: whether an interpreter runs it in this process, on a CPU and for tests: its time says nothing, so
            ``auto`` does not measure it.
        choose: of one that chooses among others, what it takes for a request; ``build`` then builds that.
    """

    operation: str
    impl: str
    impl_class: str
    build: Callable[[Request], Callable[..., Any]]
    unsupported: Callable[[Request], str | None] = lambda request: None
    summary: str = ""
    devices: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    gradients: bool = True
    since: tuple[int, int] | None = None
    until: tuple[int, int] | None = None
    module: str = ""
    distribution: str = ""
    install: str = ""
    shapes: str = "any"
    extra_bytes: Callable[[Request], float] = lambda request: 0.0
    emulated: Callable[[], bool] = lambda: False
    choose: Callable[[Request], Chosen] | None = None

    @property
    def name(self) -> str:
        """Unique name among all kernels."""
        return f"{self.operation}/{self.impl}"

    @property
    def capability(self) -> str:
        """CUDA compute capabilities that it runs on, in words; empty where any will do."""
        since = f"from {_dotted(self.since)}" if self.since else ""
        return f"{since} below {_dotted(self.until)}".strip() if self.until else since

    @property
    def installed(self) -> bool:
        """Whether the module that it needs is there."""
        return not self.module or _importable(self.module)

    def refusal(self, request: Request) -> str | None:
        """Why it cannot do a request, by what it declares and by what it says itself; None where it can.

        Args:
            request: what is asked.
        """
        return next(filter(None, _undeclared(self, request)), None) or self.unsupported(request)


def _undeclared(kernel: Kernel, request: Request) -> Iterator[str]:
    """What a kernel's declarations exclude, each in one line with what was found and expected."""
    elsewhere = kernel.devices and request.device not in kernel.devices
    if elsewhere and not (request.device == "cpu" and kernel.emulated()):
        yield f"{kernel.impl} runs on {' or '.join(kernel.devices)}, not on {request.device}"
    if request.device == "cuda" and request.capability is not None:
        found = ".".join(map(str, request.capability))
        if kernel.since and request.capability < kernel.since:
            yield f"{kernel.impl} needs compute capability {_dotted(kernel.since)}, {request.chip} has {found}"
        if kernel.until and request.capability >= kernel.until:
            yield f"{kernel.impl} needs a compute capability below {_dotted(kernel.until)}, {request.chip} has {found}"
    if kernel.impl_class == "graph" and (reason := request.uncompilable()):
        yield reason
    if kernel.formats and request.compute not in kernel.formats:
        yield f"{kernel.impl} takes {', '.join(kernel.formats)}, not {request.compute}"
    if request.gradients and not kernel.gradients:
        yield f"{kernel.impl} gives no gradients: use pass fwd"
    if not kernel.installed:
        yield f"{kernel.impl} needs {kernel.module}" + (f": {kernel.install}" if kernel.install else "")


def _importable(module: str) -> bool:
    """Whether a module can be found, its package not imported: that may load a library, and take seconds."""
    name, *inner = module.split(".")
    spec = importlib.util.find_spec(name)
    for part in inner:
        if spec is None or spec.submodule_search_locations is None:
            return False
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec is not None


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def kernels(operation: str) -> dict[str, Kernel]:
    """Implementations of an operation by the name suites use."""
    found = plugins.find("perwatt_kernels", "KERNELS", "perwatt.kernels")
    return {kernel.impl: kernel for kernel in found.values() if kernel.operation == operation}


def operations() -> tuple[str, ...]:
    """Operations that have kernels, in alphabetical order."""
    found = plugins.find("perwatt_kernels", "KERNELS", "perwatt.kernels")
    return tuple(sorted({kernel.operation for kernel in found.values()}))

"""Where NKI kernels are launched: generation and cores of a device, or why none can be launched there.

Looks at files, the installer's records and variables only, as backends do (docs/trainium.md): no runtime is started,
and neither torch nor ``nki`` is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

from perwatt.hardware import neuron_stack, neuron_tools
from perwatt.hardware.neuron_software import INDEX
from perwatt.hardware.neuron_stack import Stack
from perwatt_kernels.nki_interpreter.api import OLDEST
from perwatt_kernels.nki_interpreter.hardware import Generation, generation

TARGET, SIMULATOR = "NEURON_PLATFORM_TARGET_OVERRIDE", "NKI_SIMULATOR"
TARGETS = {"Trainium2": "trn2", "Trainium3": "trn3"}  # by the driver's name for the chip; native torch has no others
INSTALL = f"pip install nki --extra-index-url {INDEX}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Where kernels run.

    Attributes:
        target: generation of the cores, as ``trn2``.
        lnc: physical cores of a device, which is what ``kernel[lnc]`` has to be (api/nki jit).
        simulated: on the CPU, by simulation.
    """

    target: str
    lnc: int
    simulated: bool = False

    @property
    def generation(self) -> Generation:
        """Of the cores: its limits."""
        return generation(self.target)


_simulated: ContextVar[Site | None] = ContextVar("simulated", default=None)


@contextmanager
def simulated(target: str, lnc: int) -> Iterator[Site]:
    """Have kernels that are asked for on the CPU run in simulation, of a generation such as ``trn2``."""
    site = Site(target=generation(target).targets[0], lnc=lnc, simulated=True)
    before, os.environ[TARGET] = os.environ.get(TARGET), target
    token = _simulated.set(site)
    try:
        yield site
    finally:
        _simulated.reset(token)
        if before is None:
            del os.environ[TARGET]
        else:
            os.environ[TARGET] = before


def declared() -> dict[str, Any]:
    """What every NKI kernel declares of where it runs, as fields of :class:`perwatt_kernels.registry.Kernel`."""
    return {"devices": ("neuron",), "emulated": lambda: inside("cpu") is not None}


def inside(device: str) -> Site | None:
    """The simulation that kernels for a device of torch run in, or None."""
    return _simulated.get() if device == "cpu" else None


def site(device: str) -> Site:
    """Where kernels for a device of torch run.

    Raises:
        NotImplementedError: none can be launched there, with the reason and the remedy.
    """
    if (simulation := inside(device)) is not None:
        return simulation
    if device != "neuron":
        raise NotImplementedError(f"NKI kernels run on neuron devices, found {device}: use an impl of the framework")
    return of(_look(), os.environ)


def missing(device: str) -> str | None:
    """Why no kernel can be launched on a device of torch, with the remedy, or None."""
    try:
        site(device)
    except NotImplementedError as reason:
        return str(reason)
    return None


def of(stack: Stack, variables: Mapping[str, str]) -> Site:
    """The site that a Neuron stack is.

    Raises:
        NotImplementedError: see :func:`site`.
    """
    if reason := stack.missing() or _software(stack):
        raise NotImplementedError(reason)
    kind = stack.device_name or ""
    if kind not in TARGETS:
        raise NotImplementedError(f"NKI kernels run on {' and '.join(TARGETS)}, found {kind}: use a framework's impl")
    gen = generation(TARGETS[kind])
    if variables.get(SIMULATOR) == "1":
        raise NotImplementedError(f"{SIMULATOR}=1 has kernels simulated, not run on the device: unset it")
    if (target := variables.get(TARGET)) and target.lower() not in gen.targets:
        raise NotImplementedError(f"{TARGET}={target} has kernels compiled for another chip than {kind}: unset it")
    return Site(target=TARGETS[kind], lnc=stack.lnc)


def _software(stack: Stack) -> str | None:
    """Why the installed NKI is not what these kernels are written in, with the remedy."""
    found = stack.software.nki
    if found is None:
        return f"nki is not installed: {INSTALL}"
    if found == "placeholder":
        return f"nki is an empty placeholder of the public index: pip uninstall nki, then {INSTALL}"
    if (neuron_tools.number(found) or (0, 0)) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return f"nki {found} is older than {wanted}, whose instructions these kernels use: {INSTALL}"
    return None


@cache
def _look() -> Stack:
    """What is here; asked once, as tools take their time and nothing of it changes while a process lives."""
    return neuron_stack.look(dict(os.environ))

"""The ``nki`` of the SDK as its pages have it (api/nki, jit; get-started/about/lnc), on the stand-in device.

A kernel on ``neuron`` tensors is compiled, as a program on disk by its shapes, formats and other arguments, and then
computed by perwatt's interpreter, which refuses what the instruction pages forbid. It waits for its operands and is
done when the call returns, unlike on the device.
"""

from __future__ import annotations

import functools
import os
from typing import Any

TARGET = "NEURON_PLATFORM_TARGET_OVERRIDE"
CHIPS = {"Trainium1": "trn1", "Trainium2": "trn2", "Trainium3": "trn3"}


class Kernel:
    """A kernel and the cores it is launched on: 1 unless ``kernel[n]`` says another number."""

    def __init__(self, function: Any, lnc: int = 1) -> None:
        functools.update_wrapper(self, function)
        self.function, self.lnc = function, lnc

    def __getitem__(self, lnc: int) -> Kernel:
        if isinstance(lnc, bool) or not isinstance(lnc, int):
            raise TypeError(f"kernel[{lnc!r}]: the LNC degree is an int")
        return type(self)(self.function, lnc)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        import torch

        tensors = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
        if not tensors:
            raise TypeError("nki.jit: found neither torch tensors nor jax or numpy arrays among the arguments")
        for one in tensors:
            if type(one) is not torch.Tensor and type(one) is not torch.nn.Parameter:
                raise TypeError(f"nki.jit: found a {type(one).__name__}, which the compiler does not trace")
            if one.device.type != "neuron":
                raise RuntimeError(f"nki.jit: expected tensors on a neuron device, found one on {one.device}")
            if not one.is_contiguous():
                raise RuntimeError(f"nki.jit: expected contiguous tensors, found strides {one.stride()}")
        return _run(self, args, kwargs)

    def compute(self, args: Any, kwargs: Any, target: str) -> Any:
        """On the CPU: results as tensors."""
        from perwatt_kernels.nki_interpreter import launch
        from perwatt_kernels.nki_interpreter.hardware import generation

        return launch.interpret(launch.Kernel(self.function, self.lnc), args, kwargs, generation(target)).results


def jit(fn: Any = None, **kwargs: Any) -> Any:
    """Make a kernel of a function."""
    return (lambda found: Kernel(found)) if fn is None else Kernel(fn)


def simulate(kernel: Kernel) -> Any:
    """A function that runs a kernel on the CPU."""
    from perwatt_kernels.nki_interpreter import launch

    return launch.simulate(launch.Kernel(kernel.function, kernel.lnc))


def _run(kernel: Kernel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    import torch
    from torch_neuronx import _compiler, _runtime

    from perwatt_kernels.nki_interpreter.hardware import generation

    own, target = CHIPS[_runtime.machine().kind], os.environ.get(TARGET)
    if kernel.lnc != _runtime.lnc():
        raise RuntimeError(
            f"nrt_load failed: a kernel for LNC {kernel.lnc}, the runtime has NEURON_LOGICAL_NC_CONFIG={_runtime.lnc()}"
        )
    if target and generation(target) != generation(own):
        raise RuntimeError(f"nrt_load failed: a kernel for {target} on {own}")
    _compiler.eager(f"nki {kernel.__name__} {kernel.lnc} {[_key(one) for one in (*args, *kwargs.values())]}")
    held = {id(one): one.detach().cpu() for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)}
    versions = {key: one._version for key, one in held.items()}
    given = [held.get(id(one), one) for one in args]
    named = {name: held.get(id(one), one) for name, one in kwargs.items()}
    results = kernel.compute(given, named, own)
    for one in (*args, *kwargs.values()):
        if id(one) in held and held[id(one)]._version != versions[id(one)]:
            one.detach().copy_(held[id(one)])
    if isinstance(results, tuple):
        return tuple(one.to("neuron") for one in results)
    return results.to("neuron")


def _key(one: Any) -> str:
    return f"{one.dtype}{tuple(one.shape)}" if hasattr(one, "dtype") else repr(one)

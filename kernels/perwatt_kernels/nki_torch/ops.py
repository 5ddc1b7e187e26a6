"""Making operations of torch of NKI kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perwatt_kernels.nki_torch.site import Site

NAMESPACE = "perwatt"


def launcher(kernel: Callable[..., Any], site: Site) -> Callable[..., Any]:
    """A kernel on all physical cores of a device: ``nki.jit(kernel)[lnc]``, or its simulation.

    Args:
        kernel: in the part of Python that the compiler takes; not decorated.
        site: where it runs.
    """
    from perwatt_kernels.nki_interpreter.api import nki

    launched: Callable[..., Any] = nki.jit(kernel)[site.lnc]
    if not site.simulated:
        return launched
    simulate: Callable[..., Any] = nki.simulate(launched)
    return simulate


def operation(
    site: Site, name: str, function: Callable[..., Any], fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None, keep: Callable[..., None] | None = None,
) -> Callable[..., Any]:  # fmt: skip
    """A custom operation of torch, whole in eager mode and autograd; ``torch.compile`` is unproven (docs/nki.md).

    Args:
        site: where its kernel runs.
        name: within the namespace ``perwatt``.
        function: launches the kernel; typed, as the schema is made of its annotations. Takes and gives tensors that are
            contiguous, and changes none.
        fake: the shapes and formats of its results, from tensors without values.
        backward: gradients of its arguments, from the context and gradients of its results.
        keep: what the context keeps for that: ``keep(ctx, inputs, output)``.

    Raises:
        NotImplementedError: this TorchNeuron cannot register kernels.
    """
    made = _register(site)(f"{NAMESPACE}::{name}", mutates_args=())(function)
    made.register_fake(fake)
    if backward is not None:
        made.register_autograd(backward, setup_context=keep)
    found: Callable[..., Any] = made
    return found


def _register(site: Site) -> Callable[..., Any]:
    if site.simulated:
        from torch.library import custom_op

        return custom_op
    import torch_neuronx

    try:
        register: Callable[..., Any] = torch_neuronx.nki_op
    except AttributeError:
        raise NotImplementedError("torch_neuronx has no nki_op, which makes kernels operations: update it") from None
    return register

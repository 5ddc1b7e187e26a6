"""Dynamo's graphs, forward and backward, to programs: static shapes only, one program for each graph and its shapes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd

from torch_neuronx import _compiler, _extension


def neuron_backend(module: Any, inputs: Sequence[Any], *, options: Any = None, mode: str = "default") -> Any:
    """Entry point of ``torch_dynamo_backends``."""
    if mode != "default":
        logging.warning("Neuron backend does not support mode='%s', falling back to default mode.", mode)
    _refuse_dynamic(inputs)
    return aot_autograd(fw_compiler=_program, keep_inference_input_mutations=True)(module, inputs)


def _refuse_dynamic(inputs: Sequence[Any]) -> None:
    sizes = [size for one in inputs if isinstance(one, torch.Tensor) for size in one.shape]
    if any(isinstance(one, torch.SymInt | torch.SymFloat) for one in [*inputs, *sizes]):
        raise RuntimeError("dynamic shapes are not supported by the neuron backend: use dynamic=False")


def _program(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    from functorch.compile import make_boxed_func

    _refuse_dynamic(inputs)
    shapes = [(tuple(one.shape), one.stride(), one.dtype) for one in inputs if isinstance(one, torch.Tensor)]
    try:
        _compiler.graph(f"{graph.code}{shapes}", nodes=len(graph.graph.nodes))
    except RuntimeError as error:
        if os.environ.get("TORCH_NEURONX_DISABLE_FALLBACK_EXECUTION", "1") == "1":
            raise RuntimeError(f"Neuron backend NEFF execution setup failed with unexpected error: {error}") from error
        _extension.C.latch("")
    return make_boxed_func(graph.forward)

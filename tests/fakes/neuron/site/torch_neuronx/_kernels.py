"""NKI kernels as operations: ``nki_op`` and ``wrap_nki`` (nki/guides/framework_custom_op, torch/guides; nki_hop)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import torch
from torch._subclasses.functional_tensor import FunctionalTensorMode
from torch.library import custom_op, infer_schema


def nki_op(name: str, mutates_args: str | Iterable[str] = ()) -> Callable[[Callable[..., Any]], Any]:
    """A custom operation whose function launches kernels; the function itself gives the shapes until told others.

    A graph takes the function apart, as in ``nki_hop``, where a kernel that is called bare is not seen.
    """
    if name.count("::") != 1:
        raise ValueError(f"nki_op: expected namespace::name, found {name!r}")

    def register(function: Callable[..., Any]) -> Any:
        schema = infer_schema(function, mutates_args=mutates_args)

        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            before = [one._version for one in args if isinstance(one, torch.Tensor)]
            found = function(*args, **kwargs)
            after = [one._version for one in args if isinstance(one, torch.Tensor)]
            if not mutates_args and before != after:
                raise RuntimeError(f"{name}: a kernel wrote to an argument that mutates_args does not name")
            return found

        made = custom_op(name, checked, mutates_args=mutates_args, schema=schema)
        made.register_fake(function)

        def traced(mode: Any, operation: Any, types: Any, args: Any, kwargs: Any) -> Any:
            with mode:
                return function(*args, **kwargs)

        made.register_torch_dispatch(FunctionalTensorMode, traced)
        return made

    return register


def wrap_nki(kernel: Any) -> Any:
    """The kernel, for graphs."""
    import nki

    if not isinstance(kernel, nki.Kernel):
        raise TypeError(f"wrap_nki: expected a kernel of nki.jit, found {type(kernel).__name__}")
    return kernel

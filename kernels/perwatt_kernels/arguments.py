"""Refusing arguments of kernels: one ValueError that names the argument, what was found and what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def refuse(argument: str, found: object, expected: object) -> ValueError:
    """The error to raise.

    Args:
        argument: its name in the call.
        found: what it is.
        expected: what it should be.
    """
    return ValueError(f"{argument}: found {_plain(found)}, expected {_plain(expected)}")


def of_shape(argument: str, tensor: Tensor, shape: Sequence[int | None]) -> None:
    """Refuse a tensor of another shape; None stands for any extent.

    Raises:
        ValueError: it has another one.
    """
    fits = tensor.dim() == len(shape) and all(
        wanted in (None, found) for found, wanted in zip(tensor.shape, shape, strict=False)
    )
    if not fits:
        spelled = ", ".join("any" if extent is None else str(extent) for extent in shape)
        raise refuse(argument, f"shape {list(tensor.shape)}", f"[{spelled}]")


def of_dtype(argument: str, tensor: Tensor, *dtypes: torch.dtype) -> None:
    """Refuse a tensor of another format.

    Raises:
        ValueError: it has none of these.
    """
    if tensor.dtype not in dtypes:
        raise refuse(argument, tensor.dtype, " or ".join(map(_plain, dtypes)))


def on(argument: str, tensor: Tensor, device: torch.device) -> None:
    """Refuse a tensor that is elsewhere.

    Raises:
        ValueError: it is.
    """
    if tensor.device != device:
        raise refuse(argument, f"a tensor on {tensor.device}", device)


def _plain(value: object) -> str:
    return str(value).removeprefix("torch.")

"""What calls do on the device: what was compiled, what ran on the CPU instead, what is known to be slow.

The stack's lists name an operation once. Conditions of the attention kernel and costs: ``docs/trainium.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from perwatt.backends.observe import COMPUTING, PLUMBING, WRAPPERS

if TYPE_CHECKING:
    import torch

SLOW_INDEX, UNFUSED, FUSED = "slow_index", "attention_unfused", "attention_fused"
OWN = "perwatt"  # namespace of kernels as operations, which the stack's list need not have
SLOW = ("gather", "scatter", "scatter_add", "scatter_reduce", "nll_loss")
"""Operations that were measured to be 291 to 2486 times slower with int64 indices, and the loss, which gathers by its
labels; `index_select` and `embedding` were not slower (a third party, torch-neuronx 2.12.3)."""
LENGTHS, MOST_WIDTH, MOST_HEADS = 512, 128, 512  # of the NKI kernel: multiples of, at most, at most batch x heads


class Counted:
    """Counts that only grow, from counters that look at the same things in several ways."""

    def __init__(self) -> None:
        self._last: tuple[int, ...] = ()
        self._compilations = self._fallbacks = 0

    def compiled(self, *counters: int) -> int:
        """Compilations so far: of counters that each see most of them, the one that saw most since the last look."""
        if self._last:
            self._compilations += max(0, *(now - before for now, before in zip(counters, self._last, strict=True)))
        self._last = counters
        return self._compilations

    def fell_back(self, operations: Iterable[str]) -> int:
        """CPU fallbacks so far: operations seen since the last look are added."""
        self._fallbacks += len(set(operations))
        return self._fallbacks


def path(executed: Iterable[str], fallbacks: Iterable[str], *, graph: bool, kernels: Iterable[str] = ()) -> str:
    """Operations of note that ran on the device, kernels of perwatt's first, then those that ran on the CPU.

    Args:
        executed: names that the stack gives.
        fallbacks: the same.
        graph: whether compiled programs ran.
        kernels: perwatt's own that were launched.
    """
    names = sorted({_plain(name) for name in executed})
    noted = [name for name in names if any(word in name for word in COMPUTING) and name not in WRAPPERS]
    noted = [*kernels, *noted]
    shown = noted or ([] if graph else [name for name in names if name not in PLUMBING])
    lost = sorted({f"cpu:{_plain(name)}" for name in fallbacks})
    return " ".join((["neff"] if graph else []) + shown + lost)


def called(call: Callable[[], object]) -> tuple[str, ...]:
    """Run a call once, operation by operation.

    Returns:
        Marks of what is slow in it, :data:`FUSED`, and operations that are kernels of perwatt's.
    """
    from torch.nn.functional import scaled_dot_product_attention
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    found: dict[str, None] = {}

    class Functions(TorchFunctionMode):
        """Sees attention as it is called, before torch chooses what computes it."""

        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            if func is scaled_dot_product_attention:
                found[FUSED if fused(*args, **(kwargs or {})) else UNFUSED] = None
            return func(*args, **(kwargs or {}))

    class Operations(TorchDispatchMode):
        """Sees operations as the device gets them, those of the backward too."""

        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            if func.namespace == OWN:
                found[f"{OWN}::{func.overloadpacket.__name__}"] = None
            if _indexes_slowly(str(func.overloadpacket).rpartition(".")[2], args):
                found[SLOW_INDEX] = None
            return func(*args, **(kwargs or {}))

    with Functions(), Operations():  # type: ignore[no-untyped-call]
        call()
    return tuple(found)


def kernel(mark: str) -> bool:
    """Whether a mark of :func:`called` names a kernel."""
    return mark.startswith(f"{OWN}::")


def _indexes_slowly(name: str, args: tuple[Any, ...]) -> bool:
    import torch

    return name.startswith(SLOW) and any(isinstance(one, torch.Tensor) and one.dtype == torch.int64 for one in args)


def fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, **others: Any,
) -> bool:  # fmt: skip
    """Whether the NKI attention kernel takes these operands (``[batch, heads, length, width]``), by its conditions."""
    return (
        key.shape == value.shape
        and attn_mask is None
        and dropout_p == 0.0
        and query.shape[-2] % LENGTHS == key.shape[-2] % LENGTHS == 0
        and query.shape[-1] <= MOST_WIDTH
        and query.shape[:-2].numel() <= MOST_HEADS
    )


def _plain(name: str) -> str:
    return name.rpartition("::")[2].partition(".")[0]

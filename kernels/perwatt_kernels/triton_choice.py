"""Which tile a Triton kernel takes for a shape: the fastest of a few, measured once on the device.

The answer is one of :mod:`perwatt_kernels.choices`, so it is kept on the machine or shipped; a process remembers it.
Nothing is measured where there is no device to measure on (the interpreter), or where nothing may run on its own (a
CUDA graph that is being captured): there an answer that is kept decides, else the first candidate, which each kernel
makes the one that works everywhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from perwatt_kernels.choices import measure, sources, store
from perwatt_kernels.choices.question import Question, versions

if TYPE_CHECKING:
    import torch

DIFFERENCE = 2e-2
"""Relative Frobenius difference from the first candidate's result above which a tile computes something else: all sum
the same terms in another order, and round the result to eight bits of mantissa or more."""


class Tile(Protocol):
    """What is chosen: how a kernel is cut and launched."""

    @property
    def name(self) -> str:
        """Unique among the candidates of a question, and the same in every version that means the same."""


T = TypeVar("T", bound=Tile)
_remembered: dict[tuple[str, object, torch.device], Tile] = {}


def tile_for(
    about: str, shape: tuple[tuple[str, object], ...], device: torch.device, candidates: Sequence[T],
    call: Callable[[T], object],
) -> T:  # fmt: skip
    """The tile for a shape on a device.

    Args:
        about: the kernel, as ``attention/triton forward``.
        shape: names and values of all that the choice depends on beside device and versions; values as JSON has them,
            tuples for lists.
        device: where it runs, with its index.
        candidates: to choose from, the one that works everywhere first.
        call: launches the kernel with a tile; gives the tensor that it wrote, to compare, or None.
    """
    if len(candidates) == 1:
        return candidates[0]
    key = (about, shape, device)
    found = _remembered.get(key)
    if found is None:
        if device.type != "cuda":
            return candidates[0]
        found = _chosen(_question(about, dict(shape), device), {tile.name: tile for tile in candidates}, call, key)
    return found  # type: ignore[return-value]


def forget() -> None:
    """Look tiles up anew, as a new process does."""
    _remembered.clear()


def _question(about: str, shape: Mapping[str, object], device: torch.device) -> Question:
    import torch

    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in shape.items()}
    compiler = {name: version for name, version in versions().items() if name == "triton"}  # no other has a part in it
    return Question(about=about, shape=plain, device=torch.cuda.get_device_name(device),
                    versions=compiler | sources.of_kernel(about))  # fmt: skip


def _chosen(
    question: Question, candidates: Mapping[str, T], call: Callable[[T], object], key: tuple[str, object, torch.device]
) -> T:
    import torch

    first = next(iter(candidates.values()))
    if torch.cuda.is_current_stream_capturing():
        kept = store.look(question)
        return candidates[kept.chosen] if kept is not None and kept.covers(candidates) else first
    calls = {name: partial(partial, call, tile) for name, tile in candidates.items()}
    with warnings.catch_warnings():  # a tile that a chip has no room for is no news: the answer keeps the reason
        warnings.filterwarnings("ignore", message=".*is passed over", category=UserWarning)
        try:
            found = candidates[measure.chosen(question, calls, _seconds, _Agreement(), measure.PATIENCE_S).chosen]
        except NotImplementedError:
            return first  # whoever launches it meets the error itself
    _remembered[key] = found
    return found


def _seconds(call: measure.Call, times: int) -> float:
    """Seconds that so many calls take, by events of the device."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


class _Agreement:
    """Whether a candidate's result is that of the first one that worked."""

    def __init__(self) -> None:
        self._expected: torch.Tensor | None = None

    def __call__(self, name: str, result: object) -> str | None:
        import torch

        if not isinstance(result, torch.Tensor):
            return None
        if self._expected is None:
            self._expected = result.clone()  # candidates may write to the same place
            return None
        size = float(self._expected.norm(dtype=torch.float32))
        if not 0 < size < float("inf"):  # operands that are zero, infinite or NaN show nothing
            return None
        away = float((result - self._expected).norm(dtype=torch.float32)) / size
        return None if away <= DIFFERENCE else f"its result is {away:.1e} away from another tile's"

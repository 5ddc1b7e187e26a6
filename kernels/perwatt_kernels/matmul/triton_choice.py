"""Which tile a product takes: measured at the first call of a shape on a GPU, else by rule.

The first is measured with operands of its own, random normal in the strides of those that were given, where that is
possible: not in a capture, not in the interpreter, not for operands whose elements share memory. What was measured is
kept on the machine or shipped (:mod:`perwatt_kernels.choices`), and remembered by the process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor

from perwatt_kernels.choices import measure
from perwatt_kernels.choices.question import Question, versions
from perwatt_kernels.matmul.triton_launch import Call, chip, launch, turned
from perwatt_kernels.matmul.triton_tiles import Tile, candidates

ABOUT = "matmul/triton"
APART = 0.05  # relative Frobenius difference between two tiles above which one of them computes something else

_remembered: dict[tuple[object, ...], Tile] = {}


def multiply(call: Call) -> Tensor:
    """The product by the tile that is chosen for it."""
    return launch(call, tile_for(call))


def tile_for(call: Call) -> Tile:
    """The tile of a product."""
    key = _key(call)
    if key not in _remembered:
        found = candidates(call.work, chip(call.a.device))
        if len(found) > 1 and not _measurable(call):
            return found[0]  # and measured another time
        _remembered[key] = found[0] if len(found) == 1 else _measured(call, {tile.name: tile for tile in found})
    return _remembered[key]


def forget() -> None:
    """Choose anew, as a new process does."""
    _remembered.clear()


def _key(call: Call) -> tuple[object, ...]:
    """All that the choice of a tile depends on, and whether descriptors reach these very operands."""
    scales = call.scales and call.scales[0].shape
    return (
        call.a.shape, call.a.stride(), call.a.dtype, call.b.shape, call.b.stride(), call.b.dtype, call.output,
        call.compute, call.bias is None, scales, call.after, call.fast, call.work.described, call.a.device,
    )  # fmt: skip


def question_of(call: Call) -> Question:
    """What a tile is chosen for."""
    shape = {
        **asdict(call.work), "a": _stored(call.a), "b": _stored(call.b), "output": str(call.output),
        "after": call.after, "bias": call.bias is not None, "scaled": call.scales is not None,
    }  # fmt: skip
    return Question(
        about=ABOUT, shape=shape, device=torch.cuda.get_device_name(call.a.device),
        versions={name: version for name, version in versions().items() if name == "triton"},
    )  # fmt: skip


def _stored(x: Tensor) -> str:
    return f"{x.dtype} {'columns' if turned(x) or x.stride(-1) != 1 else 'rows'}".removeprefix("torch.")


def _measurable(call: Call) -> bool:
    """Whether tiles can be tried now."""
    apart = all(0 not in x.stride() or x.numel() <= 1 for x in (call.a, call.b))
    return apart and not torch.cuda.is_current_stream_capturing()


def _measured(call: Call, tiles: dict[str, Tile]) -> Tile:
    """The fastest of some; the first of them where none works, so that the caller sees why.

    The plainest comes first in the measurement, as others have to agree with it.
    """
    own = replace(call, a=_random(call.a), b=_random(call.b))
    plainest = sorted(tiles.items(), key=lambda item: (item[1].persistent, item[1].splits))
    makers = {name: partial(_launching, own, tile) for name, tile in plainest}
    try:
        answer = measure.chosen(question_of(call), makers, seconds, _Agreement())
    except NotImplementedError:
        return next(iter(tiles.values()))
    return tiles[answer.chosen]


def _random(x: Tensor) -> Tensor:
    """Random normal numbers in the strides and format of a tensor."""
    made = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)
    return made.copy_(torch.randn(x.shape, device=x.device))


def _launching(call: Call, tile: Tile) -> Callable[[], object]:
    return lambda: launch(call, tile)


def seconds(call: Callable[[], object], count: int) -> float:
    """That so many calls take on the current device, by its events."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


class _Agreement:
    """Whether a tile's result is that of the one that was tried first."""

    def __init__(self) -> None:
        self._expected: Tensor | None = None

    def __call__(self, name: str, result: object) -> str | None:
        assert isinstance(result, Tensor)
        if self._expected is None:
            self._expected = result.float()
        away = float((result.float() - self._expected).norm() / self._expected.norm().clamp_min(1e-30))
        return None if away <= APART else f"its result is {away:.1e} away from that of the tile tried first"

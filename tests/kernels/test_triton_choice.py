"""Tiles of Triton kernels: the fastest that works is taken, once, and never where nothing may be measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from perwatt_kernels import triton_choice
from perwatt_kernels.attention import triton_tiles
from perwatt_kernels.choices import measure, store

DEVICE = torch.device("cuda", 0)


@dataclass(frozen=True)
class Cut:
    """A tile that takes so long, and what comes of it."""

    name: str
    seconds: float
    result: Any = None
    error: str = ""


class Gpu:
    """A device whose time is what tiles take."""

    def __init__(self) -> None:
        self.now, self.calls, self.capturing, self.lost = 0.0, 0, False, False

    def run(self, tile: Cut) -> Any:
        self.calls += 1
        if tile.error:
            self.lost = "illegal" in tile.error
            raise RuntimeError(tile.error)
        self.now += tile.seconds
        return tile.result

    def event(self, enable_timing: bool) -> Any:
        gpu, at = self, [0.0]

        class Event:
            def record(self) -> None:
                if gpu.lost:
                    raise RuntimeError("CUDA error: an illegal memory access was encountered")
                at[0] = gpu.now

            def synchronize(self) -> None:
                pass

            def elapsed_time(self, other: Any) -> float:
                return 1e3 * (other.when() - at[0])

            def when(self) -> float:
                return at[0]

        return Event()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gpu]:
    made = Gpu()
    monkeypatch.setenv("PERWATT_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "Event", made.event)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a chip")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: made.capturing)
    for forget in (measure.forget, triton_choice.forget):
        forget()
    yield made
    for forget in (measure.forget, triton_choice.forget):
        forget()


def chosen(gpu: Gpu, *tiles: Cut, device: torch.device = DEVICE, length: int = 8) -> str:
    shape = (("length", length), ("documents", (3, 5)))
    return triton_choice.tile_for("op/triton", shape, device, tiles, gpu.run).name


def test_the_fastest_is_taken_and_measured_once_on_a_machine(gpu: Gpu) -> None:
    tiles = Cut("slow", 3e-3), Cut("fast", 1e-3), Cut("middling", 2e-3)
    assert chosen(gpu, *tiles) == "fast"
    measured = gpu.calls
    assert chosen(gpu, *tiles) == "fast"
    for forget in (measure.forget, triton_choice.forget):  # as a new process does
        forget()
    assert chosen(gpu, *tiles) == "fast"
    assert gpu.calls == measured
    ((question, answer),) = store.entries()
    assert (question.about, question.device, answer.chosen) == ("op/triton", "a chip", "fast")
    assert question.shape == {"length": 8, "documents": [3, 5]}
    assert question.versions.keys() == {"triton"}  # another torch has the same tiles
    assert chosen(gpu, *tiles, length=9) == "fast"
    assert gpu.calls > measured


@pytest.mark.filterwarnings("error")
def test_a_tile_that_does_not_fit_or_gives_something_else_is_left_out_quietly(gpu: Gpu) -> None:
    right = torch.ones(4)
    tiles = (
        Cut("works", 3e-3, right), Cut("large", 1e-3, right, "OutOfResources: shared memory"),
        Cut("wrong", 1e-3, torch.tensor([1.0, 1, 1, 2])), Cut("broken", 1e-3, torch.full((4,), torch.nan)),
        Cut("near", 2e-3, right * 1.001),
    )  # fmt: skip
    assert chosen(gpu, *tiles) == "near"
    ((_, answer),) = store.entries()
    assert set(answer.failed) == {"large", "wrong", "broken"}


def test_a_tile_that_costs_the_process_its_gpu_is_not_tried_by_the_next(gpu: Gpu) -> None:
    """Launching the first tile would fail as well then, and nothing that is timed after it means anything."""
    tiles = Cut("works", 2e-3), Cut("astray", 1e-3, error="an illegal memory access"), Cut("later", 1e-3)
    with pytest.raises(measure.Lost, match="op/triton: astray is not tried again"):
        chosen(gpu, *tiles)
    assert list(store.entries()) == []
    gpu.lost = False
    measure.forget()
    assert chosen(gpu, *tiles) == "later"
    ((_, answer),) = store.entries()
    assert answer.failed == {"astray": "RuntimeError: an illegal memory access"}


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_operands_that_show_nothing_decide_by_time_alone(gpu: Gpu, value: float) -> None:
    assert chosen(gpu, Cut("slow", 2e-3, torch.full((4,), value)), Cut("fast", 1e-3, torch.zeros(4))) == "fast"


def test_where_none_works_the_first_is_left_to_say_why(gpu: Gpu) -> None:
    assert chosen(gpu, Cut("first", 1e-3, error="no room"), Cut("second", 1e-3, error="none either")) == "first"
    assert list(store.entries()) == []


def test_where_memory_ran_out_that_is_said_and_a_tile_is_tried_again_another_time(gpu: Gpu) -> None:
    short = "CUDA out of memory. Tried to allocate 1.00 GiB"
    with pytest.raises(MemoryError, match="CUDA out of memory"):
        chosen(gpu, Cut("first", 2e-3, error=short), Cut("split", 1e-3, error=short))
    assert chosen(gpu, Cut("first", 2e-3), Cut("split", 1e-3, error=short)) == "first"
    assert list(store.entries()) == []
    for forget in (measure.forget, triton_choice.forget):
        forget()
    assert chosen(gpu, Cut("first", 2e-3), Cut("split", 1e-3)) == "split"


@pytest.mark.parametrize(
    "kernel", ["matmul/triton", "matmul/gluon", "attention/triton keys", "attention/gluon forward"]
)
def test_an_answer_depends_on_the_kernels_own_sources(gpu: Gpu, kernel: str) -> None:
    triton_choice.tile_for(kernel, (), DEVICE, (Cut("a", 1e-3), Cut("b", 2e-3)), gpu.run)
    ((question, _),) = store.entries()
    assert question.versions.keys() == {"triton", "perwatt_kernels"}


def test_while_a_graph_is_captured_nothing_is_measured_and_nothing_remembered(gpu: Gpu) -> None:
    tiles = Cut("first", 3e-3), Cut("fast", 1e-3)
    gpu.capturing = True
    assert chosen(gpu, *tiles) == "first"
    assert gpu.calls == 0
    gpu.capturing = False
    assert chosen(gpu, *tiles) == "fast"
    triton_choice.forget()
    gpu.capturing = True
    assert chosen(gpu, *tiles) == "fast"  # as it is kept


def test_off_the_device_the_first_is_taken(gpu: Gpu) -> None:
    assert chosen(gpu, Cut("first", 3e-3), Cut("fast", 1e-3), device=torch.device("cpu")) == "first"
    assert gpu.calls == 0


@pytest.mark.parametrize("width", [16, 64, 128, 256])
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("capability", [(8, 0), (9, 0), (12, 0)])
def test_tiles_of_attention_have_names_of_their_own_and_begin_with_a_small_one(
    width: int, bits: int, capability: tuple[int, int]
) -> None:
    lists = [triton_tiles.forward(width, bits, capability, True), triton_tiles.queries(width, bits, capability, True)]
    lists += [triton_tiles.keys(width, bits, capability, True, 4, busy) for busy in (False, True)]
    for tiles in lists:
        assert len({tile.name for tile in tiles}) == len(tiles)
        assert not tiles[0].tma
        assert any(tile.tma for tile in tiles) == (capability >= (9, 0) and bits <= 16)
        assert all(tile.rows * tile.columns >= tiles[0].rows * tiles[0].columns for tile in tiles)
    assert any(tile.splits == 4 for tile in lists[2])
    assert all(tile.splits == 1 for tile in lists[3])

"""Runs a function in a few processes that talk through gloo, and brings back what each of them found."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import multiprocessing


def run(work: Callable[[int, int], Any], world: int) -> list[Any]:
    """What ``work(rank, world)`` returns in each rank, by rank; it has to be importable, and its results JSON."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_rank, (work, world, folder), nprocs=world)  # type: ignore[no-untyped-call]
        return [json.loads(Path(folder, str(rank)).read_text()) for rank in range(world)]


def _rank(rank: int, work: Callable[[int, int], Any], world: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=timedelta(seconds=120))
    Path(folder, str(rank)).write_text(json.dumps(work(rank, world)))
    dist.barrier()
    dist.destroy_process_group()

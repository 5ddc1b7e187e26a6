"""The reduced twin of a training step has every flag of the real one."""

from __future__ import annotations

import pytest

from perwatt.accuracy import twin
from perwatt.spec.model import resolve
from perwatt.workloads.train_params import TrainStepParams

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ["llama-tiny", "llama-3.2-1b", "llama-3-8b"])
def test_twin_keeps_every_flag(name: str) -> None:
    whole, small = resolve(name), twin.shrunk(resolve(name))
    assert (small.tied, small.rope.kind, small.norm_eps) == (whole.tied, whole.rope.kind, whole.norm_eps)
    assert small.heads // small.kv_heads == whole.heads // whole.kv_heads
    assert small.parameters < 600_000


def test_twin_keeps_optimizer_settings() -> None:
    params = TrainStepParams(
        model="llama-tiny", batch=4, seq=128, layers=2, betas=(0.5, 0.6), clip=0.3, loss_reduction="sum"
    )
    small = twin.twin_of(params)
    assert (small.betas, small.clip, small.loss_reduction, small.cut) == ((0.5, 0.6), 0.3, "sum", False)

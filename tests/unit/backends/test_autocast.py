"""What autocast does is seen, hashed, and asked for in a process of its own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from perwatt.backends import autocast
from perwatt.backends.cpu import Cpu
from perwatt.errors import MissingHardware
from perwatt.runner import worker
from perwatt.spec.case import build

CPU = torch.device("cpu")


def test_the_list_says_what_torch_documents() -> None:
    ops = autocast.probe(CPU)
    assert ops["linear fp32"] == ops["scaled_dot_product_attention fp32"] == "bf16 -> bf16"
    assert ops["nll_loss bf16"] == "fp32 -> fp32"
    assert ops["embedding fp32"] == "fp32 -> fp32"
    assert ops["add_mixed fp32"] == "bf16 fp32 -> fp32"
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    "other",
    [
        lambda x, approximate="none": torch.sigmoid(x.bfloat16()).to(x.dtype),  # seen inside only
        lambda x, approximate="none": x.half(),
        lambda x, approximate="none": torch.ones(3).view(2),
    ],
    ids=["inside", "result", "failure"],
)
def test_another_list_has_another_key(other, monkeypatch: pytest.MonkeyPatch) -> None:
    before = autocast.key_of(autocast.probe(CPU))
    assert autocast.key_of(autocast.probe(CPU)) == before
    monkeypatch.setattr(F, "gelu", other)
    assert autocast.key_of(autocast.probe(CPU)) != before


def test_another_process_sees_the_same() -> None:
    assert autocast.asked(Cpu()) == autocast.probe(CPU)


def test_a_backend_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cpu, "name", "nowhere")
    with pytest.raises(MissingHardware, match="nowhere"):
        autocast.asked(Cpu())


def test_a_worker_refuses_a_key_of_another_list() -> None:
    backend = Cpu()
    plain = build({"workload": "gemm", "params": {"m": 8, "n": 8, "k": 8}, "precision": "bf16_autocast"})
    worker._check_casts(plain.bound(autocast.own_key(backend)), backend)
    for other in (plain, plain.bound("0" * 16)):
        with pytest.raises(RuntimeError, match="autocast"):
            worker._check_casts(other, backend)

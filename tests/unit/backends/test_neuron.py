"""The Neuron backend on the stand-in device, in a process of a machine that has one; see :mod:`fakes.neuron.inside`."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from fakes.neuron.inside import inside, process  # noqa: F401 - a fixture
from perwatt.backends.neuron import Neuron
from perwatt.errors import InputError
from perwatt.spec.precision import policy

GUARDS = {"compilations": 0, "graph_breaks": 0, "cpu_fallbacks": 0}


@cache
def started() -> Neuron:
    backend = Neuron(2)
    backend.start()
    return backend


def since(before: dict[str, int]) -> dict[str, int]:
    return {name: count - before[name] for name, count in started().guards().items()}


def tensor(*shape: int) -> Any:
    return torch.full(shape, 0.5).to(started().device)


@inside
def test_what_is_here_is_known_without_the_runtime() -> None:
    backend = Neuron()
    found = backend.describe()
    assert (backend.missing(), backend.mistake(), backend.busy()) == (None, None, None)
    assert (found.chip, found.devices_per_chip, found.lnc, found.instance_type) == ("trainium2", 4, 2, "trn2.3xlarge")
    assert found.memory_bytes == 24 * 2**30
    assert backend.count() == 4
    assert (backend.target().chips, backend.target(4).partial) == (("0",), "")
    assert "3 of its 4 devices idled" in backend.target().partial
    assert not torch.neuron.is_initialized()


@inside
def test_worlds_that_the_stack_cannot_join_are_refused_with_those_that_it_can() -> None:
    backend = Neuron()
    assert [backend.unsupported_world(world) for world in (1, 2, 4)] == [None, None, None]
    assert "expected 2 or 4" in (backend.unsupported_world(3) or "")
    assert "4 can be used" in (backend.unsupported_world(8) or "")
    assert "--device neuron:1 is one of them" in (Neuron(1).unsupported_world(2) or "")
    with pytest.raises(InputError, match="found core 4, expected 0 to 3"):
        backend.at(4)


@inside
def test_it_takes_one_core_and_pins_what_changes_numbers() -> None:
    backend = started()
    assert os.environ["NEURON_RT_VISIBLE_CORES"] == "2"
    assert os.environ["NEURON_LOGICAL_NC_CONFIG"] == "2"
    assert "--auto-cast=none" in os.environ["NEURON_CC_FLAGS"]
    assert backend.device == torch.device("neuron")
    assert torch.neuron.device_count() == 1
    assert backend.numerics() == {"accumulate": "fp32", "auto_cast": "none", "fp8": "e4m3", "rounding": "nearest"}
    assert backend.unsupported(policy("bf16")) is None
    facts = backend.facts()
    assert (facts["generation"], facts["driver"], facts["runtime"]) == ("native", "2.31.7.0", "2.35.30.0")
    assert not any("/" in str(value) for value in facts["variables"].values())
    assert backend.address == "neuron:2"


@inside
def test_time_is_that_of_the_work_and_not_of_its_handing_over() -> None:
    backend, x = started(), tensor(700, 700)
    ring: list[Any] = [None]
    backend.time(lambda slot: x @ x, 2, 0, ring)
    began = time.perf_counter()
    timing = backend.time(lambda slot: x @ x, 6, 0, ring)
    assert timing.enqueue_s < 0.5 * timing.total_s <= 0.5 * (time.perf_counter() - began)
    assert timing.began is not None
    assert timing.began >= began
    assert timing.wall_s is None


@inside
def test_a_bracketed_time_has_nothing_of_what_comes_before() -> None:
    backend, x, small = started(), tensor(900, 900), tensor(8, 8)
    ring: list[Any] = [None]
    whole = backend.time(lambda slot: x @ x, 5, 0, ring)
    timing = backend.time_bracketed(lambda slot: x @ x, lambda slot: small @ small, 5, 0, ring)
    assert 0.0 < timing.total_s < 0.5 * whole.total_s


@inside
def test_guards_stand_still_where_nothing_new_happens() -> None:
    backend, x = started(), tensor(16, 16)
    x @ x
    before = backend.guards()
    for _ in range(3):
        x @ x
    assert since(before) == GUARDS


@inside
def test_a_new_shape_is_a_compilation_in_eager_mode_too() -> None:
    backend, x = started(), tensor(17, 23)
    before = backend.guards()
    x @ x.T
    assert since(before)["compilations"] >= 1


@inside
def test_a_fallback_counts_again_though_the_stack_names_it_once() -> None:
    backend, x = started(), tensor(16, 16)
    x.normal_()
    for _ in range(2):
        before = backend.guards()
        x.normal_()
        assert since(before)["cpu_fallbacks"] == 1


@inside
def test_a_compiled_function_is_cold_once_then_warm() -> None:
    backend, x = started(), tensor(31, 31)

    def work(x: Any) -> Any:
        return F.gelu(x @ x)

    backend.empty_compiler_cache()
    before = backend.guards()
    first = backend.compile(work)(x)
    assert backend.cold()
    assert since(before)["compilations"] >= 1
    backend.forget_compiled()
    backend.empty_compiler_cache()
    torch.testing.assert_close(backend.compile(work)(x).cpu(), first.cpu())
    assert not backend.cold()
    compiled = backend.compile(work)
    assert backend.observed(lambda: compiled(x)).startswith("neff")


@inside
def test_the_path_and_what_is_slow_in_it() -> None:
    backend, labels = started(), torch.zeros(16, dtype=torch.int64).to(started().device)
    x, q = tensor(16, 16), tensor(1, 2, 512, 16)
    assert (backend.observed(lambda: x @ x), backend.doubts()) == ("mm", ())
    assert "cpu:normal_" in backend.observed(lambda: x.normal_() @ x)
    backend.observed(lambda: F.cross_entropy(x, labels))
    assert backend.doubts() == ("slow_index",)
    path = backend.observed(lambda: F.scaled_dot_product_attention(q, q, q, is_causal=True))
    assert (path.split()[-1], backend.doubts()) == ("nki", ())
    backend.observed(lambda: F.scaled_dot_product_attention(q[:, :, :100], q, q))
    assert backend.doubts() == ("attention_unfused",)


@inside
def test_memory_is_read_behind_the_work() -> None:
    backend = started()
    backend.release()
    held = backend.held_memory()
    backend.reset_peak_memory()
    kept = tensor(1 << 20)
    there = backend.held_memory()
    del kept
    backend.release()
    assert there == held + 4 * 2**20
    assert backend.peak_memory() == there
    assert backend.held_memory() == held


@inside
def test_nothing_else_is_lost_when_a_call_is_wrong() -> None:
    backend, x = started(), tensor(4, 5)
    with pytest.raises(RuntimeError) as caught:
        x @ x
    assert not backend.poisoned(caught.value)
    assert not backend.is_out_of_memory(caught.value)
    assert float((x @ x.T).sum().cpu()) == 20.0


@inside
def test_what_autocast_does_is_seen_on_the_device() -> None:
    found = started().autocast_ops()
    assert found["mm fp32"] == "bf16 -> bf16"
    assert found["softmax bf16"].endswith("fp32")


@inside
def test_health_while_it_is_watched() -> None:
    backend, x = started(), tensor(64, 64)
    with backend.watched():
        x @ x
        backend.synchronize()
    found = backend.health([])
    assert (found.ecc, found.device_errors, found.unhealthy, found.limiter) == (0, 0, "", "unknown")
    assert found.chip_id

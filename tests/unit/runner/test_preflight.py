from __future__ import annotations

from dataclasses import replace

import pytest

from perwatt import backends
from perwatt.backends.base import Device
from perwatt.backends.cpu import Cpu
from perwatt.backends.neuron import Neuron
from perwatt.runner import preflight
from perwatt.spec.case import build

pytestmark = pytest.mark.usefixtures("faulty")


@pytest.fixture
def backend(monkeypatch):
    cpu = backends.available()["cpu"]
    device = Device(chip="Test CPU", devices_per_chip=1, memory_bytes=10e9, cache_bytes=1e6)
    monkeypatch.setattr(type(cpu), "describe", lambda self: device)
    return cpu


def case(**fields):
    return build({"workload": "faulty", "impl": ["good", "good2", "nan", "refuses"], **fields})


def test_what_fits_is_supported(backend):
    assert preflight.unsupported(case(params={"size_gb": 9}), "good", backend, 1) is None


def test_what_the_impl_refuses(backend):
    assert preflight.unsupported(case(), "refuses", backend, 1) == "not on Sundays"


def test_what_the_backend_cannot_compute(backend):
    assert "mxfp8" in preflight.unsupported(case(precision="mxfp8"), "good", backend, 1)


def test_memory_is_told_in_both_figures(backend):
    reason = preflight.unsupported(case(params={"size_gb": 12.5}), "good", backend, 1)
    assert reason == "needs at least 12.5 GB of memory, the device has 10 GB"


def test_a_twin_needs_as_much_again(backend):
    assert preflight.unsupported(case(params={"size_gb": 6}), "good", backend, 2) is not None


def test_several_hosts_are_for_later(backend):
    assert preflight.unsupported(replace(case(), placement="cluster"), "good", backend, 1) == (
        "placement cluster cannot be measured yet, only device, chip and node"
    )


@pytest.mark.parametrize("placement", ["device", "chip", "node"])
def test_every_placement_on_one_host(backend, placement):
    assert preflight.unsupported(replace(case(), placement=placement), "good", backend, 1) is None


def test_a_part_of_a_chip_is_no_chip(backend, monkeypatch):
    device = replace(backend.describe(), devices_per_chip=None)
    monkeypatch.setattr(type(backend), "describe", lambda self: device)
    assert "a part of a chip" in preflight.unsupported(replace(case(), placement="chip"), "good", backend, 1)
    assert preflight.unsupported(case(), "good", backend, 1) is None


def test_worlds_that_cannot_be_are_refused_before_anything_starts(backend, monkeypatch):
    device = replace(backend.describe(), devices_per_chip=6)
    monkeypatch.setattr(type(backend), "describe", lambda self: device)
    monkeypatch.setattr(backend, "unsupported_world", lambda world: f"has {world} devices: 4 or 8 work")
    on_chip = replace(case(), placement="chip")
    assert preflight.unsupported(on_chip, "good", backend, 1) == "placement chip has 6 devices: 4 or 8 work"
    assert preflight.most([case(), on_chip], backend) == 1


def test_devices_that_are_missing(backend, monkeypatch):
    device = replace(backend.describe(), devices_per_chip=4)
    monkeypatch.setattr(type(backend), "describe", lambda self: device)
    monkeypatch.setattr(type(backend), "count", lambda self: 2)
    reason = preflight.unsupported(replace(case(), placement="chip"), "good", backend, 1)
    assert reason == "placement chip needs 4 devices, 2 can be used"


def test_the_largest_placement_of_a_suite(backend, monkeypatch):
    device = replace(backend.describe(), devices_per_chip=4)
    monkeypatch.setattr(type(backend), "describe", lambda self: device)
    cases = [replace(case(), placement=placement) for placement in ("cluster", "device", "chip")]
    assert [preflight.world(one, backend) for one in cases] == [1, 1, 4]
    assert preflight.most(cases, backend) == 4


def test_memory_is_that_of_one_device_of_the_placement(backend, monkeypatch):
    params = {"model": "llama-3-8b", "batch": 4, "seq": 512, "recompute": "full"}
    step = build({"workload": "train_step", "params": params, "precision": "bf16_master", "placement": "chip"})
    device = replace(backend.describe(), devices_per_chip=4, memory_bytes=40e9)
    monkeypatch.setattr(type(backend), "describe", lambda self: device)
    step = replace(step, mode="shard")
    assert preflight.unsupported(step, "torch", backend, 1) is None
    assert "GB of memory, the device has 40 GB" in preflight.unsupported(
        replace(step, placement="device"), "torch", backend, 1
    )
    monkeypatch.setattr(type(backend), "describe", lambda self: replace(device, memory_bytes=20e9))
    assert "GB of memory on each, the device has 20 GB" in preflight.unsupported(step, "torch", backend, 1)
    monkeypatch.setattr(type(backend), "describe", lambda self: replace(device, memory_bytes=40e9))
    copies = replace(step, mode="replicate")
    assert "GB of memory on each, the device has 40 GB" in preflight.unsupported(copies, "torch", backend, 1)


@pytest.mark.parametrize(("size_gb", "sessions", "together"), [(0, 1, 4), (3, 1, 3), (3, 2, 1), (9, 1, 1)])
def test_impls_that_fit_at_once(backend, size_gb, sessions, together):
    assert preflight.fitting(case(params={"size_gb": size_gb}), backend, sessions) == together


def test_an_impl_is_refused_for_its_own_memory_only(backend, monkeypatch):
    params = {"model": "llama-tiny", "batch": 64, "seq": 512}
    step = build({"workload": "train_step", "params": params, "impl": ["torch", "torch.compile"]})
    needs = {impl: step.workload.memory(replace(step, impls=(impl,))) for impl in step.impls}
    device = replace(backend.describe(), memory_bytes=sum(needs.values()) / 2)
    monkeypatch.setattr(type(backend), "describe", lambda self: device)
    assert needs["torch.compile"] < needs["torch"]
    assert "GB of memory" in preflight.unsupported(step, "torch", backend, 1)
    assert "GB of memory" not in (preflight.unsupported(step, "torch.compile", backend, 1) or "")


def test_the_gate_of_one_session_has_to_fit_too(backend, monkeypatch):
    norm = build({"workload": "rmsnorm", "params": {"tokens": 2**15, "hidden": 2**10}, "impl": ["torch"]})
    body, gate = norm.workload.memory(norm), norm.workload.gate_memory(norm)
    assert gate > 0
    for sessions in (1, 2):
        for there, fits in ((sessions * body + gate, True), (sessions * body + gate - 1, False)):
            device = replace(backend.describe(), memory_bytes=there)
            monkeypatch.setattr(type(backend), "describe", lambda self, device=device: device)
            reason = preflight.unsupported(norm, "torch", backend, sessions)
            assert (reason is None) == fits
            assert preflight.fitting(replace(norm, impls=("torch", "torch.compile")), backend, sessions) == 1


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"workload": "attention", "params": {"heads": 2, "head_dim": 64, "q_len": 512, "kv_len": 40_960}}, 40_960),
        ({"workload": "train_step", "params": {"model": "llama-tiny", "batch": 1, "seq": 36_865}}, 36_865),
        ({"workload": "gemm", "params": {"m": 65_536, "n": 8, "k": 8}}, 0),
        ({"workload": "attention", "params": {"heads": 2, "head_dim": 64, "seq": 36_864}}, 0),
    ],
)
def test_sequences_that_the_stack_does_not_take_are_refused_before(fields, tokens):
    class Short(Cpu):
        longest_sequence = Neuron.longest_sequence

    made = build(fields)
    reason = preflight.unsupported(made, made.impls[0], Short(), 1) or ""
    words = f"sequences of {tokens} tokens are longer than the 36864 that attention takes here"
    assert (reason == words) if tokens else ("longer" not in reason)
    assert "longer" not in (preflight.unsupported(made, made.impls[0], Cpu(), 1) or "")

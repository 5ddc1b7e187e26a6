"""The CPU backend behind the protocol of all backends."""

import dataclasses
import os
import subprocess
import sys
from time import sleep
from typing import Any

import pytest
import torch

from perwatt import backends
from perwatt.backends.base import Backend
from perwatt.backends.cpu import Cpu
from perwatt.backends.neuron import Neuron
from perwatt.errors import InputError, MissingHardware
from perwatt.hardware import machine
from perwatt.spec.precision import POLICIES


@pytest.fixture
def cpu() -> Cpu:
    return Cpu()


def test_it_is_found_by_scan_and_chosen_where_nothing_else_is() -> None:
    assert isinstance(backends.available()["cpu"], Cpu)
    assert backends.choose("cpu").name == "cpu"
    assert backends.choose("auto").missing() is None


def test_the_cpu_is_no_stand_in_for_an_accelerator_that_is_here_and_broken(monkeypatch: pytest.MonkeyPatch):
    broken = Neuron()
    monkeypatch.setattr(broken, "missing", lambda: "no driver to speak of: mend it")
    monkeypatch.setattr(backends, "available", lambda: {"cpu": Cpu(), "neuron": broken})
    monkeypatch.setattr(broken, "stands", lambda: False)
    assert backends.choose("auto").name == "cpu"
    monkeypatch.setattr(broken, "stands", lambda: True)
    with pytest.raises(MissingHardware, match="a device neuron is here and cannot be used: no driver to speak of"):
        backends.choose("auto")


def test_what_a_user_set_and_cannot_hold_is_wrong_input(monkeypatch: pytest.MonkeyPatch):
    cpu = Cpu()
    monkeypatch.setattr(cpu, "mistake", lambda: InputError("found 3, expected 1 or 2", field="LNC"))
    monkeypatch.setattr(backends, "available", lambda: {"cpu": cpu})
    for device in ("auto", "cpu"):
        with pytest.raises(InputError, match="LNC: found 3"):
            backends.choose(device)


def test_an_unknown_device_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'cpu'"):
        backends.choose("cpus")


def test_a_device_that_is_not_here_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cpu, "missing", lambda self: "unplugged: plug it in")
    with pytest.raises(MissingHardware, match="unplugged: plug it in"):
        backends.choose("cpu")


def test_describe_does_not_import_torch() -> None:
    code = (
        "import sys; from perwatt import backends; backends.choose('auto').describe(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_describe_finds_memory_cache_and_threads(cpu: Cpu) -> None:
    device = cpu.describe()
    assert device.devices_per_chip == 1
    assert device.memory_bytes > 2**28
    assert device.cache_bytes >= 2**15
    assert device.threads is not None
    assert device.threads >= 1
    assert device.chip


def test_threads_follow_the_environment(cpu: Cpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cpu.threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert cpu.threads() >= 1


def test_unsupported_policies_say_so(cpu: Cpu) -> None:
    refused = {name: cpu.unsupported(policy) for name, policy in POLICIES.items()}
    assert {name for name, reason in refused.items() if reason is None} == {
        "fp32", "bf16", "fp16", "bf16_master", "bf16_autocast",
        "fp8_tensor", "fp8_row", "fp8_tensor_outside", "fp8_row_outside",
    }  # fmt: skip
    words = {"tf32": "tf32 products", "bf16_sr": "stochastic", "mxfp8": "MXFP8", "fp8_row_ieee": "IEEE 754",
             "fp8_tensor_fast": "fast accumulation"}  # fmt: skip
    assert all(phrase in (refused[name] or "") for name, phrase in words.items())


def test_a_batch_calls_each_slot_in_turn_and_keeps_results(cpu: Cpu) -> None:
    seen: list[int] = []
    ring: list[Any] = [None] * 3

    def run(slot: int) -> str:
        seen.append(slot)
        return f"result {slot}"

    timing = cpu.time(run, 5, 1, ring)
    assert seen == [1, 2, 0, 1, 2]
    assert ring == ["result 0", "result 1", "result 2"]
    assert timing.total_s == timing.enqueue_s > 0


def test_brackets_leave_the_set_up_out(cpu: Cpu) -> None:
    calls: list[str] = []
    timing = cpu.time_bracketed(
        lambda slot: (calls.append("before"), sleep(0.02)), lambda slot: calls.append("run"), 3, 0, [None]
    )
    assert calls == ["before", "run"] * 3
    assert timing.total_s < 0.02


def test_out_of_memory_is_told_from_other_errors(cpu: Cpu) -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60, dtype=torch.uint8)
    assert cpu.is_out_of_memory(refused.value)
    assert cpu.is_out_of_memory(MemoryError())
    assert not cpu.is_out_of_memory(RuntimeError("shapes do not fit"))


def test_guards_count_compilations_and_graph_breaks(cpu: Cpu) -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        torch._dynamo.graph_break()
        return y * 2

    before = cpu.guards()
    torch.compile(broken, backend="eager")(torch.ones(2))
    after = cpu.guards()
    assert after["compilations"] - before["compilations"] == 2
    assert after["graph_breaks"] - before["graph_breaks"] == 1


def test_without_a_compiler_nothing_can_be_compiled(cpu: Cpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    assert "C++ compiler" in (cpu.uncompilable() or "")


def test_what_others_use_of_the_processor_is_seen(cpu: Cpu) -> None:
    spin = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(spin) for _ in range(machine.usable_cores())]
    try:
        with cpu.watched():
            sleep(1.0)
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert cpu.health([]).others is not None
    assert cpu.health([]).others > 0.1 * machine.usable_cores() / machine.logical_cores()


def test_each_cold_compilation_has_an_empty_cache(cpu: Cpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/before")
    cpu.empty_compiler_cache()
    first = os.environ["TORCHINDUCTOR_CACHE_DIR"]
    cpu.empty_compiler_cache()
    assert len({"/before", first, os.environ["TORCHINDUCTOR_CACHE_DIR"]}) == 3
    assert os.listdir(first) == []


def test_the_worker_start_pins_threads_products_and_an_empty_compiler_cache() -> None:
    code = (
        "import os; from perwatt.backends.cpu import BACKEND as b; b.start(); import torch;"
        "assert torch.get_num_threads() == b.threads();"
        "assert torch.get_float32_matmul_precision() == 'highest';"
        "assert os.listdir(os.environ['TORCHINDUCTOR_CACHE_DIR']) == []"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_protocol_is_abstract() -> None:
    with pytest.raises(TypeError):
        Backend()  # type: ignore[abstract]


# Energy


def test_its_power_is_that_of_the_host_whatever_else_it_does(cpu: Cpu) -> None:
    target = cpu.target()
    assert (target.backend, target.chip, target.chips, target.partial) == ("cpu", machine.cpu_model(), (), "")
    assert target.count == 1


@pytest.mark.parametrize(
    ("devices", "partial"),
    [(1, ""), (8, "7 of its 8 devices idled, and the power of a chip cannot be divided among them"),
     (None, "some devices idled, and the power of a chip cannot be divided among them")],
)  # fmt: skip
def test_a_device_of_several_on_a_chip_has_no_power_of_its_own(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, devices: int | None, partial: str
) -> None:
    found = dataclasses.replace(cpu.describe(), devices_per_chip=devices)
    monkeypatch.setattr(Cpu, "describe", lambda self: found)
    assert cpu.target().partial == partial


def test_what_is_handed_over_is_done_when_the_flag_says_so(cpu: Cpu) -> None:
    slots: list[int] = []
    ring: list[Any] = [None] * 3
    cpu.submit(lambda slot: slots.append(slot) or f"result {slot}", 5, 2, ring)
    cpu.flag()()
    assert slots == [2, 0, 1, 2, 0]
    assert ring == ["result 0", "result 1", "result 2"]


def test_a_processor_divided_in_two(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "usable_cores", lambda: 6)
    whole = backends.available()["cpu"]
    half = whole.divided(2)
    assert (half.address, half.count(), half.describe().devices_per_chip, half.threads()) == ("cpu/2", 2, 2, 3)
    assert half.describe().memory_bytes == whole.describe().memory_bytes // 2
    assert [half.world_of(placement) for placement in ("device", "chip", "node", "cluster")] == [1, 2, 2, None]
    assert (half.target(2).partial, half.target(1).partial[:24]) == ("", "1 of its 2 devices idled")
    assert (whole.address, whole.count(), whole.threads()) == ("cpu", 1, 6)
    again = backends.addressed(half.address)
    assert (again.address, again.threads()) == ("cpu/2", 3)
    assert half.unsupported_world(3) == "needs 3 devices, 2 can be used"


@pytest.mark.parametrize("devices", [0, 7])
def test_a_processor_has_no_more_devices_than_cores(monkeypatch, devices):
    monkeypatch.setattr(machine, "usable_cores", lambda: 6)
    with pytest.raises(InputError, match=f"found {devices}, expected 1 to 6, the cores that can be used"):
        backends.available()["cpu"].divided(devices)

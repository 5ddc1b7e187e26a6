"""What about GPUs, driver and torch is told, each planted fault with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from fakes import nvml as fake
from fakes.nvml import GIB, H100, Card, Instance, NvmlLibrary
from perwatt.backends.cuda_findings import findings
from perwatt.finding import Finding
from perwatt.hardware import pci
from perwatt.hardware.torch_build import Build

CUDA = Build(version="2.13.0+cu130", cuda=(13, 0), hip=None)
CPU = Build(version="2.13.0+cpu", cuda=None, hip=None)
Look = Callable[..., dict[str, Finding]]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Look]:
    """Findings on these cards, by what was looked at."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with fake.installing() as put:

        def run(*cards: Card, build: Build | None = CUDA, on_bus: int = 0, **library: Any) -> dict[str, Finding]:
            for slot in range(on_bus):
                folder = tmp_path / pci.DEVICES / f"0000:{slot:02}:00.0"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "vendor").write_text("0x10de\n")
                (folder / "class").write_text("0x030200\n")
            run.library = put(*cards, **library)  # type: ignore[attr-defined]
            found = list(findings(build, tmp_path))
            assert all(one.remedy for one in found if one.state in ("problem", "warning"))
            assert len({one.what for one in found}) == len(found)
            return {one.what: one for one in found}

        yield run


def wrong(found: dict[str, Finding]) -> dict[str, str]:
    return {what: one.state for what, one in found.items() if one.state in ("problem", "warning")}


def test_a_healthy_gpu(look: Look) -> None:
    found = look(Card())
    assert {one.state for one in found.values()} == {"ok"}
    assert found["driver"].found == "580.159.04, runs CUDA 13.0"
    assert found["torch"].found == "torch 2.13.0+cu130, built for CUDA 13.0"
    assert found["GPUs"].found == f"1 x {H100}"
    assert found["GPU 0"].found == f"{H100}, power limit 700 W"


def test_nothing_is_set(look: Look) -> None:
    """The fake refuses everything with Set or Clear in its name; this is what was called."""
    look(Card())
    called = set(look.library.called)  # type: ignore[attr-defined]
    assert "nvmlDeviceGetPersistenceMode" in called
    assert {name for name in called if not name.startswith(("nvmlDeviceGet", "nvmlSystemGet"))} == {"nvmlInitWithFlags"}


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (CPU, "a GPU is here, but torch 2.13.0+cpu is built without CUDA"),
        (Build(version="2.13.0+rocm7", cuda=None, hip="7.0"), "built for ROCm"),
        (None, "a GPU is here, torch is not"),
    ],
)
def test_a_torch_that_cannot_use_the_gpu(look: Look, build: Build | None, words: str) -> None:
    found = look(Card(), build=build)
    assert wrong(found) == {"torch": "problem"}
    assert words in found["torch"].found
    assert "CUDA (pytorch.org)" in found["torch"].remedy


def test_a_machine_without_a_gpu_has_no_problem(look: Look) -> None:
    found = look(failing=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, build=CPU)
    assert [(one.what, one.state) for one in found.values()] == [("driver", "absent")]


def test_a_gpu_without_a_driver_is_seen_on_the_bus(look: Look) -> None:
    found = look(failing=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, build=CPU, on_bus=2)
    assert wrong(found) == {"driver": "problem", "torch": "problem"}
    assert found["driver"].found.endswith("; GPUs on the PCI bus: 2")
    assert found["driver"].remedy == "install it, or give the container its GPUs"
    assert found["torch"].found.startswith("2 GPUs are here")


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (pynvml.NVML_ERROR_NO_PERMISSION, "ask for access to /dev/nvidia*"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "restart the machine"),
    ],
)
def test_a_driver_that_does_not_answer(look: Look, code: int, remedy: str) -> None:
    found = look(failing=code, on_bus=1)
    assert (found["driver"].state, found["driver"].remedy) == ("problem", remedy)


def test_a_driver_too_old_for_torch(look: Look) -> None:
    found = look(Card(), cuda=12020)
    assert wrong(found) == {"CUDA": "problem"}
    assert "runs CUDA 12.2, torch is built for 13.0" in found["CUDA"].found


def test_several_gpus_and_those_that_are_hidden(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = Card(uuid="GPU-a"), Card(uuid="GPU-b", persistence=False)
    found = look(*cards)
    assert found["GPUs"].found == f"2 x {H100}; --device cuda:N takes another than the first"
    assert wrong(found) == {"GPU 1: persistence": "warning"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert look(*cards)["GPUs"].found == f"1 x {H100}; CUDA_VISIBLE_DEVICES=1 leaves 1 of 2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    found = look(*cards)["GPUs"]
    assert (found.state, found.remedy) == ("problem", "unset CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("card", "what", "state", "words", "remedy"),
    [
        (Card(mig=[]), "MIG", "problem", "no instance", "nvidia-smi mig -cgi"),
        (Card(remapped=(0, 1, True, False)), "memory", "problem", "waits to be replaced", "restart"),
        (Card(remapped=(0, 9, False, True)), "memory", "problem", "could not be replaced", "exchanged"),
        (Card(capability=(7, 0), pages_waiting=True), "memory", "problem", "waits", "restart"),
        (Card(ecc=[2]), "memory errors", "warning", "2 that could not be corrected", "restart"),
        (Card(ecc_modes=(True, False)), "ECC", "warning", "will be off", "restart"),
        (Card(ecc_modes=(False, False)), "ECC", "warning", "neither seen", "nvidia-smi -e 1"),
        (Card(power_limit_mw=500_000), "power limit", "warning", "500 W, the card's own is 700 W", "-pl 700"),
        (Card(application_mhz=(1200, 1980)), "clocks", "warning", "set to 1200 MHz", "-rac"),
        (Card(readings=[(900, 2619, 91, 0x40)]), "clocks", "warning", "held down by heat at 91 degrees", "cooling"),
        (Card(readings=[(900, 2619, 60, 0x88)]), "clocks", "warning", "held down by the hardware", "power supply"),
        (Card(compute_mode=pynvml.NVML_COMPUTEMODE_PROHIBITED), "compute mode", "problem", "nobody", "-c DEFAULT"),
        (Card(persistence=False), "persistence", "warning", "forgets", "-pm 1"),
    ],
)
def test_each_fault_has_its_finding(look: Look, card: Card, what: str, state: str, words: str, remedy: str) -> None:
    found = look(card)
    assert wrong(found) == {f"GPU 0: {what}": state}
    assert words in found[f"GPU 0: {what}"].found
    assert remedy in found[f"GPU 0: {what}"].remedy


def test_a_slowdown_without_a_cause_is_not_believed(look: Look) -> None:
    """NVML tells of a mere change of the P-state in the same words."""
    assert wrong(look(Card(readings=[(900, 2619, 60, 0x8)]))) == {}


def test_an_instance_of_a_card(look: Look) -> None:
    card = Card(name="NVIDIA A100-SXM4-40GB", capability=(8, 0), mig=[Instance("MIG-0", "3g.20gb", 20 * GIB)])
    assert wrong(look(card)) == {"GPU 0 3g.20gb: MIG": "warning"}


def test_a_card_that_tells_little_is_no_fault(look: Look) -> None:
    silent = Card(power_limit_mw=None, default_limit_mw=None, application_mhz=None, ecc_modes=None, persistence=None)
    found = look(silent)
    assert wrong(found) == {}
    assert found["GPU 0"].found == H100


def test_a_look_that_fails_hides_no_other_card(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: NvmlLibrary, handle: Any, target: Any) -> int:
        broken = self._card(handle).uuid == "GPU-a"
        return int(pynvml.NVML_ERROR_MEMORY) if broken else self._gives(handle, target, 1)

    monkeypatch.setattr(NvmlLibrary, "_nvmlDeviceGetPersistenceMode", refuse)
    found = look(Card(uuid="GPU-a"), Card(uuid="GPU-b"))
    assert (found["GPU 0"].state, found["GPU 1"].state) == ("problem", "ok")
    assert "does not answer" in found["GPU 0"].found

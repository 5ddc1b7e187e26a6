"""The kernel's list of PCI devices."""

from __future__ import annotations

from pathlib import Path

from perwatt.hardware import pci


def plug(root: Path, slot: str, vendor: str, kind: str) -> None:
    folder = root / pci.DEVICES / slot
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")


def test_gpus_are_told_from_their_sound_and_from_other_makers(tmp_path: Path) -> None:
    plug(tmp_path, "0000:00:01.0", "0x10de", "0x030200")
    plug(tmp_path, "0000:00:01.1", "0x10de", "0x040300")  # its sound
    plug(tmp_path, "0000:00:02.0", "0x10de", "0x030000")
    plug(tmp_path, "0000:00:03.0", "0x1d0f", "0x030000")
    plug(tmp_path, "0000:00:04.0", "0x10de", "0x068000")  # a bridge
    assert pci.nvidia_gpus(tmp_path) == 2


def test_a_machine_without_a_bus(tmp_path: Path) -> None:
    assert pci.nvidia_gpus(tmp_path) == 0

"""Accelerators on the PCI bus by the kernel's own list, which is there where no driver is."""

from __future__ import annotations

from pathlib import Path

from perwatt.hardware.cgroup import ROOT, read

DEVICES = "sys/bus/pci/devices"
NVIDIA = "0x10de"
DISPLAYS = ("0x0300", "0x0302")  # VGA and 3D controllers, by PCI's class codes: a GPU's own sound is another device


def nvidia_gpus(root: Path = ROOT) -> int:
    """NVIDIA GPUs, with or without a driver. A container may see those that it was not given."""
    folders = (root / DEVICES).glob("*")
    return sum(
        read(folder / "vendor") == NVIDIA and (read(folder / "class") or "").startswith(DISPLAYS) for folder in folders
    )

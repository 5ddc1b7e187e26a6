"""A whole machine in a folder: the driver's files, the command-line tools, the installed packages, and who owns a core.

``Machine(folder).environment()`` is what a process needs to run on it. The root of the file system is the real one but
for the driver's files and the firmware's tables; a ``sitecustomize`` in front of everything points perwatt to it, so
that the product needs no switch for tests. Versions are those of the SDK's release notes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fakes import neuron_driver
from fakes.neuron import build
from fakes.neuron_driver import NeuronDriver

OWN = Path(__file__).parent
TESTS = OWN.parents[1]
STATUSES = (
    "success", "failure", "timeout", "exec_bad_input", "hw_error", "generic_error", "resource_error",
    "resource_nc_error", "invalid_error", "unsupported_neff_version", "oob_error", "execute_failed_to_queue",
    "execute_completed_with_error", "execute_completed_with_num_error", "hw_collectives_error", "hw_hbm_ue_error",
    "hw_nc_ue_error", "hw_dma_abort_error", "hw_repairable_hbm_ue_error",
)  # fmt: skip
SITE = """
import pathlib
try:
    from perwatt.hardware import cgroup
except ImportError:
    pass
else:
    cgroup.ROOT = pathlib.Path({root!r})
"""
ENTRY_POINTS = """[torch.backends]
torch_neuronx = torch_neuronx:_autoload

[torch_dynamo_backends]
neuron = torch_neuronx.neuron_dynamo_backend.backend:neuron_backend
"""
PLACEHOLDER = "0.0.1"
XLA = "2.9.0.2.15.32035"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An instance: its chips, and what a device of one has."""

    model: neuron_driver.Model
    instance: str
    chips: int
    lnc: int
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Release:
    """Versions of one SDK."""

    driver: str
    runtime: str
    compiler: str
    nki: str


TRN2 = Kind(model=neuron_driver.TRN2, instance="trn2.3xlarge", chips=1, lnc=2, memory_bytes=24 << 30)
TRN3 = Kind(model=neuron_driver.TRN3, instance="trn3pd98.3xlarge", chips=1, lnc=2, memory_bytes=36 << 30)
TRN1 = Kind(model=neuron_driver.TRN1, instance="trn1.2xlarge", chips=1, lnc=1, memory_bytes=16 << 30)
SDK_33 = Release(driver="2.31.7.0", runtime="2.35.30.0", compiler="2.28.7631.0", nki="0.7.0")
SDK_32 = Release(driver="2.30.2.0", runtime="2.34.10.0", compiler="2.27.5334.0", nki="0.6.0")


class Machine:
    """See the module.

    Args:
        folder: an empty one, which the machine lives in.
        kind: instance.
        release: of the SDK.
        faults: what is wrong with it or goes wrong on it: see ``torch_neuronx/_faults.py``.
    """

    def __init__(
        self, folder: Path, kind: Kind = TRN2, release: Release = SDK_33, faults: Iterable[str] = ()
    ) -> None:  # fmt: skip
        self.folder, self.kind, self.release, self.faults = folder, kind, release, frozenset(faults)
        self.root = folder / "root"
        self._held: list[Any] = []
        for name in ("bin", "site", "cores", "neff", "locks"):
            (folder / name).mkdir(parents=True)
        self._lay_root()
        if "no_driver" not in self.faults:
            self._lay_driver()
        self._lay_tools()
        self._lay_packages()
        if "core_taken" in self.faults:
            self._hold_core()

    def environment(self, **more: str) -> dict[str, str]:
        """Variables of a process on this machine, beside those of the process that asks."""
        paths = [str(self.folder / "site"), str(TESTS), *sys.path]
        return {
            "PATH": os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "FAKE_NEURON_MACHINE": str(self.folder),
            "FAKE_NEURON_LIBRARY": str(build.library()),
            "FAKE_NEURON_FAULT": ",".join(sorted(self.faults)),
            "TORCH_NEURONX_NEFF_CACHE_DIR": str(self.folder / "neff"),
            "TORCH_NEURONX_NEFF_LOCAL_CACHE_DIR": str(self.folder / "locks"),
            **more,
        }

    def file(self, name: str, chip: int = 0) -> Path:
        """The one file of the driver with that name, wherever this driver has it."""
        (found,) = [path for path in self.driver.folder(chip).rglob(name) if "subsystem" not in path.parts]
        return found

    def programs(self) -> int:
        """Compiled programs on the disk."""
        return sum(1 for _ in (self.folder / "neff").rglob("*.neff"))

    def _lay_root(self) -> None:
        """The real root by links, its own where the driver and the firmware have their files."""
        own = {self.root, self.root / "sys", self.root / "sys/devices", self.root / "sys/devices/virtual"}
        for folder in sorted(own):
            folder.mkdir()
            for entry in (Path("/") / folder.relative_to(self.root)).iterdir():
                if folder / entry.name not in own and entry.name not in ("module", "dmi", "neuron_device"):
                    (folder / entry.name).symlink_to(entry)
        firmware = self.root / "sys/devices/virtual/dmi/id"
        firmware.mkdir(parents=True)
        (firmware / "sys_vendor").write_text("Amazon EC2\n")
        (firmware / "product_name").write_text(f"{self.kind.instance}\n")

    def _lay_driver(self) -> None:
        kind, release = self.kind, self.release
        self.driver = NeuronDriver(
            self.root, lambda chip, die, when: 0.0, model=kind.model, chips=kind.chips, version=release.driver
        )
        for chip in range(kind.chips):
            for core in range(kind.model.cores):
                self._lay_statuses(self.driver.folder(chip) / f"neuron_core{core}")
        if "unhealthy" in self.faults:
            self.file("unhealthy_components").write_text("hbm\n")
        runtime = "2.32.31.0" if "old_runtime" in self.faults else release.runtime
        description = {
            "chips": kind.chips, "cores": kind.model.cores, "lnc": kind.lnc, "driver": release.driver,
            "runtime": runtime, "memory_bytes": 1 << 16 if "oom" in self.faults else kind.memory_bytes,
        }  # fmt: skip
        (self.folder / "machine.json").write_text(json.dumps(description))

    def _lay_statuses(self, core: Path) -> None:
        """Where driver 2.31 has them is not documented: below another folder here."""
        stats = "stats" if self.release.driver.startswith("2.30") else "counters"
        for name in STATUSES:
            for part in ("total", "present"):
                file = core / stats / "status" / name / part
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("0\n")

    def _lay_tools(self) -> None:
        """Programs on the path. The facts that they tell are in ``tools.json`` beside them."""
        names = (
            ["neuronx-cc"] if "no_driver" in self.faults else ["neuron-ls", "neuron-monitor", "neuronx-cc", "modinfo"]
        )
        for name in [*names, "dpkg-query"]:
            script = self.folder / "bin" / name
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -I {OWN / "tools.py"} {self.folder} {name} "$@"\n')
            script.chmod(0o755)
        facts = {
            "instance": self.kind.instance, "compiler": self.release.compiler,
            "driver_file": "2.30.2.0" if "driver_mismatch" in self.faults else self.release.driver,
            "lnc": 3 - self.kind.lnc if "lnc_mismatch" in self.faults else self.kind.lnc,
            "chip_bytes": self.kind.memory_bytes * self.kind.model.cores // self.kind.lnc,
            "monitor": str(TESTS / "fakes/neuron_monitor.py"), "dpkg-query": shutil.which("dpkg-query"),
        }  # fmt: skip
        (self.folder / "bin" / "tools.json").write_text(json.dumps(facts))

    def _lay_packages(self) -> None:
        """What the installer's records say, and the modules that belong to it."""
        site = self.folder / "site"
        (site / "sitecustomize.py").write_text(SITE.format(root=str(self.root)))
        if "placeholder" in self.faults:
            self._distribution("torch-neuronx", PLACEHOLDER)
            (site / "torch_neuronx").mkdir()
            (site / "torch_neuronx" / "__init__.py").write_text("")
            return
        if "xla_product" in self.faults:
            self._distribution("torch-neuronx", XLA)
            self._distribution("torch-xla", "2.9.0")
            for name in ("torch_neuronx", "torch_xla"):
                (site / name).mkdir()
                (site / name / "__init__.py").write_text("")
            (site / "torch_neuronx" / "xla.py").write_text("")
        else:
            number = ".".join(version("torch").split(".")[:2])
            self._distribution("torch-neuronx", f"{number}.3.0.2035", ENTRY_POINTS)
            (site / "torch_neuronx").symlink_to(OWN / "site" / "torch_neuronx")
        self._distribution("neuronx-cc", self.release.compiler)
        self._distribution("nki", self.release.nki)
        for name in ("nki", "nkilib"):
            (site / name).symlink_to(OWN / "site" / name)

    def _distribution(self, name: str, number: str, entry_points: str = "") -> None:
        folder = self.folder / "site" / f"{name.replace('-', '_')}-{number}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
        if entry_points:
            (folder / "entry_points.txt").write_text(entry_points)

    def _hold_core(self) -> None:
        """This process owns the first core, as another's job would."""
        file = (self.folder / "cores" / "0").open("a+")
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(str(os.getpid()))
        file.flush()
        self._held.append(file)

    def close(self) -> None:
        """Let go of cores."""
        for file in self._held:
            file.close()

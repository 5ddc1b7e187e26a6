"""What about NVIDIA GPUs, their driver and torch keeps them from being measured, or makes their numbers worse.

Only looks: NVML, torch's version file, the kernel's list of PCI devices. No CUDA context, and no setting is changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from perwatt.backends.cuda_presence import VISIBLE, dotted, lacking
from perwatt.finding import Finding, looked, split
from perwatt.hardware import nvml, nvml_settings, pci
from perwatt.hardware.cgroup import ROOT
from perwatt.hardware.nvml import Gpu, Reading
from perwatt.hardware.nvml_settings import Settings
from perwatt.hardware.torch_build import Build

SAME = 0.001  # watts and clocks that differ by less are the same setting, rounded


def findings(build: Build | None, root: Path = ROOT) -> Iterator[Finding]:
    """Every look at this machine's GPUs.

    Args:
        build: the torch that is installed.
        root: of the file system.
    """
    on_bus = pci.nvidia_gpus(root)
    try:
        driver, cards = nvml.driver(), nvml.gpus()
    except nvml.NoDriver as error:
        yield _no_driver(error, on_bus)
        if on_bus:
            yield from _torch(build, on_bus)
        return
    yield Finding(what="driver", state="ok", found=f"{driver.version}, runs CUDA {dotted(driver.cuda)}")
    yield from _torch(build, len({gpu.card for gpu in cards}))
    yield from _seen(cards, build)
    for gpu in cards:
        name = f"GPU {gpu.index}" + (f" {gpu.mig}" if gpu.mig else "")
        yield from looked(name, partial(_gpu, gpu, name))


def _no_driver(error: nvml.NoDriver, on_bus: int) -> Finding:
    """Without a GPU, it is nobody's fault that its driver is not there."""
    found, remedy = split(str(error))
    if not on_bus and not error.denied:
        return Finding(what="driver", state="absent", found=found)
    count = f"; GPUs on the PCI bus: {on_bus}" if on_bus else ""
    return Finding(what="driver", state="problem", found=found + count, remedy=remedy)


def _torch(build: Build | None, gpus: int) -> Iterator[Finding]:
    """Of a torch that cannot use the GPUs that are here: the wheel from the public index for a CPU, most often."""
    if not gpus:
        return
    here = "a GPU is here" if gpus == 1 else f"{gpus} GPUs are here"
    if build is None:
        yield Finding(what="torch", state="problem", found=f"{here}, torch is not",
                      remedy="install torch built for CUDA (pytorch.org)")  # fmt: skip
    elif not build.cuda:
        made = "built for ROCm" if build.hip else "built without CUDA"
        yield Finding(what="torch", state="problem", found=f"{here}, but torch {build.version} is {made}",
                      remedy="pip uninstall torch, then install a build for CUDA (pytorch.org)")  # fmt: skip
    else:
        yield Finding(what="torch", state="ok", found=f"torch {build.version}, built for CUDA {dotted(build.cuda)}")


def _seen(cards: Sequence[Gpu], build: Build | None) -> Iterator[Finding]:
    """Which of the cards CUDA would see, and whether the driver runs what torch was built for."""
    seen = nvml.visible(list(cards), os.environ.get(VISIBLE))
    if build and build.cuda and seen and (reason := lacking(build, lambda: seen)):
        found, remedy = split(reason)
        yield Finding(what="CUDA", state="problem", found=found, remedy=remedy)
    kinds = sorted({gpu.name for gpu in seen})
    hidden = f"; {VISIBLE}={os.environ[VISIBLE]} leaves {len(seen)} of {len(cards)}" if len(seen) < len(cards) else ""
    if not seen:
        hides = bool(cards)
        yield Finding(what="GPUs", state="problem" if hides else "absent", found=f"none{hidden}",
                      remedy=f"unset {VISIBLE}" if hides else "")  # fmt: skip
        return
    which = "; --device cuda:N takes another than the first" if len(seen) > 1 else ""
    yield Finding(what="GPUs", state="ok", found=f"{len(seen)} x {', '.join(kinds)}{hidden}{which}")


def _gpu(gpu: Gpu, name: str) -> Iterator[Finding]:
    """One card, or one instance of it, whose settings are the card's."""
    try:
        set_up, meter = nvml_settings.settings(gpu.card), nvml.Meter(gpu)
        now, errors = meter.reading(), meter.ecc()
    except nvml.NoDriver as error:
        found, remedy = split(str(error))
        yield Finding(what=name, state="problem", found=found, remedy=remedy)
        return
    wrong = [*_slice(gpu), *_memory(set_up, errors), *_power(set_up), *_clocks(set_up, now), *_driver(set_up)]
    yield from (replace(one, what=f"{name}: {one.what}") for one in wrong)
    if not wrong:
        watts = "" if set_up.power_limit_w is None else f", power limit {set_up.power_limit_w:.0f} W"
        yield Finding(what=name, state="ok", found=f"{gpu.name}{watts}")


def _slice(gpu: Gpu) -> Iterator[Finding]:
    if gpu.sliced:
        yield Finding(what="MIG", state="problem", found="MIG is on and there is no instance",
                      remedy="sudo nvidia-smi mig -cgi PROFILE -C, or sudo nvidia-smi -mig 0")  # fmt: skip
    elif gpu.mig:
        yield Finding(what="MIG", state="warning", found="a slice of a chip: no figures per chip, and no energy",
                      remedy="sudo nvidia-smi -mig 0 for the whole card")  # fmt: skip


def _memory(set_up: Settings, errors: int | None) -> Iterator[Finding]:
    if set_up.beyond_repair:
        yield Finding(what="memory", state="problem", found="memory failed that could not be replaced",
                      remedy="have the card exchanged")  # fmt: skip
    elif set_up.waiting:
        yield Finding(what="memory", state="problem", found="memory failed and waits to be replaced",
                      remedy="restart the machine, or sudo nvidia-smi -r")  # fmt: skip
    if errors:
        yield Finding(what="memory errors", state="warning",
                      found=f"{errors} that could not be corrected since the driver was loaded",
                      remedy="restart the machine; have the card exchanged if they come again")  # fmt: skip
    if set_up.ecc and set_up.ecc[0] != set_up.ecc[1]:
        later = "on" if set_up.ecc[1] else "off"
        yield Finding(what="ECC", state="warning", found=f"correction of memory errors will be {later} from the next "
                      "restart on", remedy="restart the machine, so that later runs are like this one")  # fmt: skip
    elif set_up.ecc and not set_up.ecc[0]:
        yield Finding(what="ECC", state="warning", found="memory errors are neither seen nor corrected",
                      remedy="sudo nvidia-smi -e 1, then restart")  # fmt: skip


def _power(set_up: Settings) -> Iterator[Finding]:
    limit, own = set_up.power_limit_w, set_up.default_limit_w
    if limit and own and abs(limit / own - 1) > SAME:
        yield Finding(what="power limit", state="warning", found=f"{limit:.0f} W, the card's own is {own:.0f} W",
                      remedy=f"sudo nvidia-smi -pl {own:.0f}, if not meant: rows name the limit")  # fmt: skip


def _clocks(set_up: Settings, now: Reading) -> Iterator[Finding]:
    clock, own = set_up.clock_mhz, set_up.default_clock_mhz
    if clock and own and abs(clock / own - 1) > SAME:
        yield Finding(what="clocks", state="warning", found=f"set to {clock:.0f} MHz, the card's own are {own:.0f} MHz",
                      remedy="sudo nvidia-smi -rac, if not meant")  # fmt: skip
    if now.limiter in ("thermal", "hw_slowdown") and not now.doubtful:
        heat = "" if now.temp_c is None else f" at {now.temp_c:.0f} degrees"
        why = "heat" if now.limiter == "thermal" else "the hardware: heat, or its power supply"
        yield Finding(what="clocks", state="warning", found=f"held down by {why}{heat}",
                      remedy="look at cooling and power supply")  # fmt: skip


def _driver(set_up: Settings) -> Iterator[Finding]:
    if set_up.prohibited:
        yield Finding(what="compute mode", state="problem", found="nobody may open a CUDA context",
                      remedy="sudo nvidia-smi -c DEFAULT")  # fmt: skip
    if set_up.persistence is False:
        yield Finding(what="persistence", state="warning",
                      found="the driver forgets the card between two processes: they start slowly, limits are lost",
                      remedy="sudo nvidia-smi -pm 1")  # fmt: skip

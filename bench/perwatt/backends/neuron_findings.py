"""What about Trainium, its driver, its software and its settings keeps it from being measured, or changes numbers.

Only looks: files, and tools with a time limit, as :mod:`perwatt.hardware.neuron_stack` has them. Nothing of the Neuron
software is imported, since a core belongs to the process that starts the runtime.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

from perwatt.backends import neuron_pins
from perwatt.backends.neuron_cache import NEFF, Cache
from perwatt.errors import InputError
from perwatt.finding import Finding, looked, split
from perwatt.hardware import neuron_cores, neuron_tools
from perwatt.hardware.neuron_settings import COUNT, VISIBLE, flag
from perwatt.hardware.neuron_software import INDEX, Product
from perwatt.hardware.neuron_stack import UPDATE, Stack
from perwatt.hardware.neuron_sysfs import Ambiguous, NeuronChip

LIVE_POWER, MOVED = (2, 29), (2, 31)  # drivers from which power is told at this moment, and files lie elsewhere
TOOLS = {"neuron-ls": "LNC and owners of cores are guessed at", "neuron-monitor": "nothing tells errors while it runs"}
GET_TOOLS = "sudo apt-get install aws-neuronx-tools"
NO_CACHE = ("TORCH_NEURONX_DISABLE_NEFF_CACHE", "TORCH_NEURONX_NEFF_DISABLE_CACHE")
FUSED = "TORCH_NEURONX_ENABLE_NKI_SDPA"
OFF = ("0", "false")
ROOM = 5 * 2**30  # bytes; a suite's programs and what the compiler writes on the way take gigabytes
Which = Callable[[str], "str | None"]


def findings(stack: Stack, cache: Cache, which: Which = neuron_tools.which) -> Iterator[Finding]:
    """Every look at this machine's Neuron stack.

    Args:
        stack: what is here.
        cache: of compiled programs.
        which: finds a tool.
    """
    if not stack.chips:
        yield from _without_chips(stack)
        return
    yield from looked("chips", lambda: [_chips(stack)])
    yield from looked("driver", lambda: _driver(stack))
    yield _software(stack)
    yield from _kernels(stack)
    yield from looked("settings", lambda: _settings(stack))
    yield from looked("cores", lambda: _cores(stack))
    yield from _tools(which)
    yield from looked("compiler's cache", lambda: _cache(cache))
    yield from looked("power", lambda: [_power(stack)])
    for chip in stack.chips:
        yield from looked(chip.label, lambda chip=chip: _health(chip))  # type: ignore[misc]


def _without_chips(stack: Stack) -> Iterator[Finding]:
    """A driver or software where there is no chip may be a machine of the wrong kind; without both, nothing is said."""
    found, remedy = split(stack.no_chip() or "")
    if stack.driver:
        yield Finding(what="driver", state="problem", found=found, remedy=remedy)
    else:
        yield Finding(what="driver", state="absent", found=found, remedy=remedy)
    if stack.software.product != Product.ABSENT:
        yield Finding(what="software", state="absent", found=f"{stack.software.evidence}; there is no chip for it")


def _chips(stack: Stack) -> Finding:
    """How many of what, and where."""
    count = len(stack.chips)
    if reason := stack.no_chip():
        found, remedy = split(reason)
        return Finding(what="chips", state="problem", found=f"{count}: {found}", remedy=remedy)
    where = f" in {stack.instance_type}" if stack.instance_type else ""
    return Finding(what="chips", state="ok", found=f"{count} x {stack.device_name}{where}")


def _driver(stack: Stack) -> Iterator[Finding]:
    """Versions that do not go together, and what an older driver does not tell."""
    versions = [f"{stack.driver or 'of unknown version'} loaded"]
    versions += [f"{stack.driver_file} on the disk"] if stack.driver_file else []
    versions += [f"runtime {stack.runtime}"] if stack.runtime else []
    shown = ", ".join(versions)
    if reason := stack.misfit():
        found, remedy = split(reason)
        yield Finding(what="driver", state="problem", found=found, remedy=remedy)
    elif stack.driver is None or stack.runtime is None:
        lacking = "the driver's version" if stack.driver is None else "the runtime's version"
        yield Finding(what="driver", state="warning", found=f"{shown}; {lacking} is not known, so it may not fit",
                      remedy="sudo apt-get install aws-neuronx-runtime-lib")  # fmt: skip
    else:
        moved = "; files are found by name, as this driver moved them" if _from(stack, MOVED) else ""
        yield Finding(what="driver", state="ok", found=f"{shown}{moved}")
    if stack.driver and not _from(stack, LIVE_POWER):
        yield Finding(what="driver: power", state="warning", found="it tells power by the minute only, not of a moment",
                      remedy=UPDATE)  # fmt: skip
    if stack.driver and not neuron_cores.live(stack.driver):
        yield Finding(what="driver: counters", state="warning", remedy=UPDATE,
                      found="failed executions are counted when a process ends, so they are seen late")  # fmt: skip


def _from(stack: Stack, version: tuple[int, int]) -> bool:
    return (neuron_tools.number(stack.driver) or (0, 0)) >= version


def _software(stack: Stack) -> Finding:
    """Which of the two products called torch-neuronx this is, and whether it is whole."""
    here = stack.software
    if here.reason:
        found, remedy = split(here.reason)
        return Finding(what="software", state="problem", found=found, remedy=remedy)
    versions = f"torch {here.torch}, torch-neuronx {here.release}, neuronx-cc {here.neuronx_cc}"
    return Finding(what="software", state="ok", found=f"{versions}: the {here.product} product")


def _kernels(stack: Stack) -> Iterator[Finding]:
    """NKI, which only kernels of somebody's own need."""
    version = stack.software.nki
    if version == "placeholder":
        yield Finding(what="nki", state="warning", found="an empty placeholder of the public index",
                      remedy=f"pip uninstall nki, then pip install nki --extra-index-url {INDEX}")  # fmt: skip
    elif version:
        yield Finding(what="nki", state="ok", found=version)


def _settings(stack: Stack) -> Iterator[Finding]:
    """Variables that contradict each other, make times meaningless, or change numbers."""
    try:
        set_up = stack.settings
    except InputError as error:
        yield _mistake(error)
        return
    if stack.no_chip() is None and (mistake := stack.mistake()):
        yield _mistake(mistake)
    cast = flag(set_up.flags, neuron_pins.AUTO_CAST)
    if cast not in (None, "none"):
        yield Finding(what="auto-cast", state="warning", found=f"{neuron_pins.AUTO_CAST}={cast} lowers products of "
                      "float32: policies of fp32 are unsupported", remedy="take it out of NEURON_CC_FLAGS")  # fmt: skip
    if neuron_pins.NO_ACCUMULATE in set_up.flags:
        yield Finding(what="accumulation", state="warning", found=f"{neuron_pins.NO_ACCUMULATE}: sums are not in "
                      "float32", remedy="take it out of NEURON_CC_FLAGS")  # fmt: skip
    if set_up.stochastic:
        yield Finding(what="rounding", state="warning", found="down-casts round stochastically: only policies that say "
                      "so can be measured", remedy="unset NEURON_RT_STOCHASTIC_ROUNDING_EN")  # fmt: skip
    yield from _variables(stack)


def _mistake(error: InputError) -> Finding:
    return Finding(what="settings", state="problem", found=str(error), remedy=f"unset {error.field}, or set it right")


def _variables(stack: Stack) -> Iterator[Finding]:
    """Single variables whose value costs time, or that a run does not leave as they are."""
    said = stack.variables
    for name in (name for name in NO_CACHE if said.get(name, "0") not in ("", *OFF)):
        yield Finding(what=f"compiler's cache: {name}", state="warning", found="set: every run compiles everything",
                      remedy=f"unset {name}")  # fmt: skip
    if said.get(FUSED, "1") in OFF:
        yield Finding(what="attention", state="warning", found=f"{FUSED} is off: attention is not fused, which "
                      "was seen to be 6.4 times slower", remedy=f"unset {FUSED}")  # fmt: skip
    for name, value in neuron_pins.ALWAYS.items():
        if said.get(name, value) != value:
            yield Finding(what=f"pinned: {name}", state="warning", found=f"{name}={said[name]}; a run sets {value}",
                          remedy=f"unset {name}, which says something else than what is measured")  # fmt: skip


def _cores(stack: Stack) -> Iterator[Finding]:
    """Logical cores, which are the devices."""
    if stack.no_chip() or _broken(stack):
        return
    here, most = len(stack.devices), stack.devices_per_chip * len(stack.chips)
    found = f"LNC {stack.lnc}: {stack.devices_per_chip} devices of torch per chip, {most} in all"
    if here < most:
        variable = COUNT if stack.settings.visible is None else VISIBLE
        yield Finding(what="cores", state="warning", found=f"{found}; {variable} leaves {here}",
                      remedy=f"unset {variable}, if not meant: a chip is measured by all its cores")  # fmt: skip
    else:
        yield Finding(what="cores", state="ok", found=found)


def _broken(stack: Stack) -> bool:
    try:
        return stack.mistake() is not None
    except InputError:
        return True


def _tools(which: Which) -> Iterator[Finding]:
    for tool, lost in TOOLS.items():
        if which(tool) is None:
            yield Finding(what=tool, state="warning", found=f"not there: {lost}", remedy=GET_TOOLS)
        else:
            yield Finding(what=tool, state="ok", found="there")


def _cache(cache: Cache) -> Iterator[Finding]:
    """Programs that were compiled, locks beside them, and the room that is left for more."""
    if locks := cache.locks():
        yield Finding(what="compiler's locks", state="warning", found=f"{len(locks)} locks, {locks[0]} the first: a "
                      "compiler that was killed leaves them, and the next one waits for them",
                      remedy=f"find {locks[0].parent} -name '*.lock' -delete, if nothing compiles now")  # fmt: skip
    for folder in cache.folders:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
        if (free := shutil.disk_usage(there).free) < ROOM:
            yield Finding(what="compiler's disk", state="warning", found=f"{free / 1e9:.1f} GB are left for {folder}",
                          remedy=f"make room, or name another folder in {NEFF}")  # fmt: skip
            break
    yield Finding(what="compiled programs", state="ok", found=f"{cache.programs()} in the compiler's cache, "
                  "where perwatt compile puts what a suite needs")  # fmt: skip


def _power(stack: Stack) -> Finding:
    """Which files of power there are, and what they are good for: nothing here tells watts."""
    try:
        files = {"of this moment": all(chip.live() for chip in stack.chips),
                 "by the minute": all(chip.minutes() for chip in stack.chips)}  # fmt: skip
    except (Ambiguous, OSError) as error:
        return Finding(what="power", state="warning", found=str(error),
                       remedy="an outside meter (--power-trace) can stand in")  # fmt: skip
    there = " and ".join(name for name, found in files.items() if found)
    if not there:
        remedy = f"{UPDATE}; a meter (--power-trace) or declared watts (--power-w) can stand in"
        return Finding(what="power", state="warning", found="the driver shows none of its chips' power", remedy=remedy)
    found = f"percentages {there} of an unpublished maximum, no watts: joules need --power-calibration or a meter"
    return Finding(what="power", state="ok", found=found)


def _health(chip: NeuronChip) -> Iterator[Finding]:
    """Parts that the driver calls unhealthy, and memory errors since it was loaded."""
    bad = chip.unhealthy
    errors = {name: count for name, count in chip.ecc.items() if count and not name.endswith("_corrected")}
    if bad:
        yield Finding(what=chip.label, state="problem", found=f"unhealthy: {', '.join(bad)}",
                      remedy="stop and start the instance, which moves it to another host")  # fmt: skip
    if errors:
        counted = ", ".join(f"{name} {count}" for name, count in errors.items())
        yield Finding(what=f"{chip.label}: memory errors", state="warning", found=counted,
                      remedy="stop and start the instance if they grow: rows with new ones are unstable")  # fmt: skip
    if not bad and not errors:
        told = "no memory errors shown" if chip.ecc else "memory errors are not told"
        healthy = "no part is called unhealthy" if bad is not None else "the driver does not tell of health"
        yield Finding(what=chip.label, state="ok", found=f"{healthy}; {told}, and 0 is no proof")

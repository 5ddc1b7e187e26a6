"""What the Neuron command-line tools and the system's packages say, each asked within a time limit.

A tool that is missing, hangs or says what is not documented gives None and a reason: it is asked for what the driver's
files do not tell, and nothing depends on it alone. Keys that newer tools add are passed over.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LS = ("neuron-ls", "--json-output")
MODINFO = ("modinfo", "-F", "version", "neuron")
RUNTIME = "aws-neuronx-runtime-lib"
PACKAGES = (("dpkg-query", "-W", "-f", "${Version}", RUNTIME), ("rpm", "-q", "--qf", "%{VERSION}", RUNTIME))
TOOLS = "/opt/aws/neuron/bin"  # where aws-neuronx-tools puts them; the setup guide has users add it to PATH
LIMIT_S = 20.0  # for one tool; neuron-ls on 16 chips takes about a second
Tool = Callable[[Sequence[str]], "str | None"]
_NUMBER = re.compile(r"\d+(?:\.\d+)+", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A process that holds cores of a chip; what it was called with is its owner's business."""

    pid: int
    runtime: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A chip, as neuron-ls lists it.

    Attributes:
        number: as in ``neuron<N>``.
        cores: numbers of its logical cores; empty where an older tool does not say.
        count: how many there are.
        lnc: physical cores of a logical one; None where an older tool does not say.
        memory_bytes: of the chip.
        processes: that hold cores of it.
        instance_type: such as ``trn2.48xlarge``; empty where the tool does not say.
    """

    number: int
    cores: tuple[int, ...]
    count: int
    lnc: int | None
    memory_bytes: int | None
    processes: tuple[Process, ...]
    instance_type: str


def path() -> str:
    """Folders that tools are looked for in."""
    return os.pathsep.join(filter(None, (os.environ.get("PATH", os.defpath), TOOLS)))


def which(tool: str) -> str | None:
    """Where a tool is, or None."""
    return shutil.which(tool, path=path())


def run(command: Sequence[str]) -> str | None:
    """What a tool writes to its standard output, or None where it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=True,
            env={**os.environ, "PATH": path()},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()


def listed(tool: Tool = run) -> tuple[Listed, ...] | None:
    """Every chip that neuron-ls lists; None where it says nothing that can be understood."""
    try:
        said = json.loads(tool(LS) or "")
        chips = said if isinstance(said, list) else None
        return None if chips is None else tuple(_listed(chip) for chip in chips)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _listed(said: Mapping[str, Any]) -> Listed:
    lnc, memory = said.get("logical_neuroncore_config"), said.get("memory_size")
    processes = said.get("neuron_processes") or ()
    return Listed(
        number=int(said["neuron_device"]), cores=tuple(int(one) for one in said.get("neuroncore_ids") or ()),
        count=int(said["nc_count"]), lnc=None if lnc is None else int(lnc),
        memory_bytes=None if memory is None else int(memory),
        processes=tuple(Process(pid=int(one["pid"]), runtime=str(one.get("neuron_runtime_version") or ""))
                        for one in processes),
        instance_type=str(said.get("instance_type") or ""),
    )  # fmt: skip


def driver_on_disk(tool: Tool = run) -> str | None:
    """Version of the driver's file, which need not be the one that is loaded."""
    text = tool(MODINFO)
    return text if text and _NUMBER.match(text) else None


def runtime(chips: Sequence[Listed], tool: Tool = run) -> str | None:
    """Version of the runtime by the system's package, else by a process that runs on it; without the build's hash."""
    said = [text for command in PACKAGES if (text := tool(command))]
    said += [process.runtime for chip in chips for process in chip.processes]
    return next((match[0] for text in said if (match := _NUMBER.match(text))), None)


def number(version: str | None) -> tuple[int, int] | None:
    """Major and minor number of a version such as ``2.31.7.0``."""
    match = _NUMBER.match(version or "")
    parts = match[0].split(".") if match else []
    return (int(parts[0]), int(parts[1])) if parts else None

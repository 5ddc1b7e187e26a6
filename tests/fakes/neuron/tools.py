"""The command-line tools: ``tools.py MACHINE NAME ARGUMENTS``. Formats by their user guides."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    machine, name, arguments = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    facts = json.loads((machine / "bin" / "tools.json").read_text())
    if name == "neuron-ls":
        refuse_unknown(arguments, {"-j", "--json-output", "-a", "--show-all-procs", "-w", "--wide"})
        print(json.dumps([chip(machine, facts, number) for number in range(described(machine)["chips"])]))
    elif name == "neuron-monitor":
        os.execv(sys.executable, [sys.executable, facts["monitor"], *arguments])
    elif name == "neuronx-cc":
        refuse_unknown(arguments, {"--version"})
        print(f"NeuronX Compiler version {facts['compiler']}+a1b2c3d4\n\nPython version 3.12.3")
    elif name == "modinfo":
        expect(arguments, ["-F", "version", "neuron"])
        print(facts["driver_file"])
    elif arguments == ["-W", "-f", "${Version}", "aws-neuronx-runtime-lib"]:
        print(f"{described(machine)['runtime']}-deadbeef", end="")
    elif facts["dpkg-query"]:
        os.execv(facts["dpkg-query"], ["dpkg-query", *arguments])


def described(machine: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((machine / "machine.json").read_text())
    return found


def chip(machine: Path, facts: dict[str, Any], number: int) -> dict[str, Any]:
    """One entry of neuron-ls."""
    cores = described(machine)["cores"]
    count = cores // facts["lnc"]
    return {
        "neuron_device": number, "bdf": f"00:{30 + number}.0", "cpu_affinity": "0-3", "numa_node": "0",
        "connected_to": None, "nc_count": count, "logical_neuroncore_config": facts["lnc"],
        "memory_size": facts["chip_bytes"], "neuroncore_ids": list(range(number * count, (number + 1) * count)),
        "neuron_processes": [
            {"pid": pid, "command": "python secret.py", "neuron_runtime_version": described(machine)["runtime"]}
            for pid in sorted(owners(machine, range(number * cores, (number + 1) * cores)))
        ],
        "instance_type": facts["instance"],
    }  # fmt: skip


def owners(machine: Path, cores: range) -> set[int]:
    """Processes that hold one of these physical cores now."""
    found = set()
    for core in cores:
        path = machine / "cores" / str(core)
        if not path.exists():
            continue
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                found.add(int(file.read()))
    return found


def refuse_unknown(arguments: list[str], known: set[str]) -> None:
    if unknown := set(arguments) - known:
        sys.exit(f"unknown flag {unknown.pop()}")


def expect(arguments: list[str], wanted: list[str]) -> None:
    if arguments != wanted:
        sys.exit(f"found {arguments}, expected {wanted}")


if __name__ == "__main__":
    main()

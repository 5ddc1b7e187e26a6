"""Folders of compiled programs (NEFF), which take minutes to make and stay for later runs, and the locks in them.

The runtime takes the folder once, when it starts, and keeps every program in memory besides: a process compiles a
program at most once, and loads it at most once. So whether a compilation was a cold one is told by the programs that
came into the folder meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

NEFF, LOCKS = "TORCH_NEURONX_NEFF_CACHE_DIR", "TORCH_NEURONX_NEFF_LOCAL_CACHE_DIR"
KEPT = {
    NEFF: "neff",
    "TORCH_NEURONX_HLO_CACHE_DIR": "hlo",
    "NEURON_COMPILE_CACHE_URL": "compile",
    "NKI_COMPILE_CACHE_URL": "nki",
}
"""Variables that name a folder, and the name of ours."""
PASSING = {LOCKS: "neff-locks", "TORCH_NEURONX_DEBUG_DIR": "neff-debug"}
"""The same of folders that go with the worker: its ranks share them, and no lock of a killed compiler outlives it."""
PROGRAM, LOCK = "*.neff", "*.lock"


class Cache:
    """The folders of this process.

    Args:
        environment: as the user left it; a folder that it names stays.
        make: make those of ours that are not there.

    Attributes:
        variables: to be set before the runtime starts.
        folders: those that stay, on this host.
    """

    def __init__(self, environment: Mapping[str, str], *, make: bool = True) -> None:
        home = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perwatt" / "neuron"
        scratch = Path(tempfile.gettempdir())
        named = {name: home / own for name, own in KEPT.items()}
        named |= {name: scratch / own for name, own in PASSING.items()}
        self.variables = {name: environment.get(name) or str(path) for name, path in named.items()}
        self.folders = [Path(self.variables[name]) for name in KEPT if "://" not in self.variables[name]]
        for name, path in named.items():
            if make and not environment.get(name):
                path.mkdir(parents=True, exist_ok=True)

    def programs(self) -> int:
        """Compiled programs in all folders. One that is loaded from there is not compiled, and adds none."""
        return sum(1 for folder in self.folders for _ in _found(folder, PROGRAM))

    def locks(self) -> list[Path]:
        """Lock files: a compiler that was killed leaves them, and the next one waits for them.

        They are only named, as whether somebody still holds one cannot be told.
        """
        return sorted(path for folder in self.folders for path in _found(folder, LOCK))


def _found(folder: Path, pattern: str) -> Iterator[Path]:
    """Files of a folder that others may be changing meanwhile."""
    with contextlib.suppress(OSError):
        yield from folder.rglob(pattern)


def scrubbed(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables of the Neuron stack that can change a number, for the record: no paths, addresses or secrets."""
    return {
        name: " ".join(_word(word) for word in value.split())
        for name, value in sorted(environment.items())
        if name.startswith(RECORDED) and name not in PLACES and not any(word in name for word in SECRET)
    }


RECORDED = ("NEURON_", "TORCH_NEURONX_", "NKI_", "XLA_", "PJRT_", "FI_")
PLACES = {*KEPT, *PASSING, "NEURON_RT_VISIBLE_CORES", "NEURON_RT_ROOT_COMM_ID"}  # where, and not what
SECRET = ("TOKEN", "KEY", "SECRET", "PASSWORD", "CREDENTIAL")


def _word(word: str) -> str:
    """A word of a value; what names a file or a host is left out."""
    name, equals, value = word.partition("=")
    hidden = any(mark in (value if equals else word) for mark in ("/", "@", ":"))
    return f"{name}=..." if hidden and equals else "..." if hidden else word
